"""Functions of each element: no message, where the operands have one layout.

Operands that are replicated, or Python scalars, fit every layout. Where two are divided in different ways, the second is redistributed
to the layout of the first (each element travels at most once). Shapes broadcast, and types promote, as in NumPy.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.elements import BINARY, UNARY
from mpicluster.array.layout import Replicated
from mpicluster.array.operands import apply, as_dist, blocks_for, broadcast, is_scalar, mesh_of

__all__ = [*UNARY, *BINARY, "clip", "imag", "in_place", "pow", "where"]


def _unary(name: str, doc: str) -> Callable[..., DistArray]:
    def function(x: Any, /) -> DistArray:
        result: DistArray = apply(name, x)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} No message."
    return function


def _binary(name: str, doc: str) -> Callable[..., DistArray]:
    def function(x1: Any, x2: Any, /) -> DistArray:
        result: DistArray = apply(name, x1, x2)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} No message for operands of one layout."
    return function


for _name, _doc in UNARY.items():
    globals()[_name] = _unary(_name, _doc)
for _name, _doc in BINARY.items():
    globals()[_name] = _binary(_name, _doc)


def imag(x: Any, /) -> DistArray:
    """The imaginary part; of real arrays, zeros. No message."""
    x = as_dist(x, mesh_of(x))
    real = type(x.local) is np.ndarray and x.local.dtype.kind != "c"
    result: DistArray = apply(np.zeros_like if real else "imag", x)
    return result


def _is_integral(x: Any) -> bool:
    return isinstance(x, int) if is_scalar(x) else blocks.host(x.local).dtype.kind in "iu"


def pow(x1: Any, x2: Any, /) -> DistArray:  # noqa: A001 - its name in the standard
    """x1 to the power of x2. No message for operands of one layout; an Allreduce of a byte if x2 is an array of signed integers, and x1 is
    of integers.

    Raises
    ------
    ValueError
        an integer is raised to a negative power; on all ranks.
    """  # fmt: skip
    mesh = mesh_of(x1, x2)
    x1, x2 = (x if is_scalar(x) else as_dist(x, mesh) for x in (x1, x2))
    result: DistArray
    if is_scalar(x2):
        _check_power(x1, x2)
        result = apply(operator.pow, x1 if isinstance(x1, DistArray) else as_dist(x1, mesh), x2)  # it knows a shorter way for some numbers
        return result
    if not x2.shape:
        _check_power(x1, blocks.host(x2.local)[()])
    alike = all(is_scalar(x) or isinstance(x.layout, Replicated) for x in (x1, x2))
    if not x2.shape or alike or not _is_integral(x1) or blocks.host(x2.local).dtype.kind != "i":
        result = apply("pow", x1, x2)
        return result
    error: Exception | None = None

    def power(a: Any, b: Any) -> Any:
        nonlocal error
        try:
            return blocks.namespace(b).pow(a, b)
        except ValueError as e:
            error = e
            return b

    result = apply(power, x1, x2)
    mesh.settle(error)
    return result


def _check_power(x: Any, exponent: Any) -> None:
    if _is_integral(x) and isinstance(exponent, int | np.integer) and exponent < 0:
        raise ValueError("Integers to negative integer powers are not allowed.")


def clip(x: Any, /, min: Any = None, max: Any = None) -> DistArray:  # noqa: A002 - names of the standard
    """Each element, or the bound that it is beyond; NaN stays, and a bound that is NaN gives NaN. No message for operands of one layout.

    The type of ``x`` is kept. Integers are clipped to the integers of their type within the bounds.

    Raises
    ------
    OverflowError
        a bound is a number, and no integer of the type of ``x`` is within it.
    """
    x = as_dist(x, mesh_of(x, min, max))
    kind = x.dtype
    whole = type(x.local) is np.ndarray and kind.kind in "iu"
    bounds = {"min": min, "max": max}
    if whole:
        bounds = {name: _whole_bound(bound, kind, lower=name == "min") for name, bound in bounds.items()}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}

    def of_type(name: str, bound: Any) -> Any:
        if is_scalar(bound):
            return bound
        return _within(bound, kind, lower=name == "min") if whole else bound.astype(kind, copy=False)

    def clipped(a: Any, *limits: Any) -> Any:
        if type(a) is not np.ndarray:
            return blocks.namespace(a).clip(a, **dict(zip(bounds, limits, strict=True)))
        if not limits:
            return a.copy()
        fitting = {name: of_type(name, limit) for name, limit in zip(bounds, limits, strict=True)}
        return np.clip(a, fitting.get("min"), fitting.get("max"))

    result: DistArray = apply(clipped, x, *bounds.values())
    return result


def _whole_bound(bound: Any, kind: np.dtype[Any], *, lower: bool) -> Any:
    """A bound of integers: an integer of their type, None if it is no bound for them, or an array."""
    if not is_scalar(bound):
        return bound
    if isinstance(bound, complex) or bound != bound:
        raise ValueError(f"integers cannot be clipped to {bound}")
    limits = np.iinfo(kind)
    beyond = bound > limits.max if lower else bound < limits.min
    if beyond:
        raise OverflowError(f"no integer of type {kind} is {'above' if lower else 'below'} {bound}")
    if bound <= limits.min if lower else bound >= limits.max:
        return None
    return math.ceil(bound) if lower else math.floor(bound)


def _within(bound: np.ndarray[Any, Any], kind: np.dtype[Any], *, lower: bool) -> np.ndarray[Any, Any]:
    """Bounds of integers as integers of their type: the nearest of these within each bound, none for NaN."""
    limits = np.iinfo(kind)
    result = np.full(bound.shape, limits.min if lower else limits.max, kind)
    above, below = bound >= limits.max, bound <= limits.min
    result[above], result[below] = limits.max, limits.min
    inside = ~(above | below) & (bound == bound)
    result[inside] = (np.ceil if lower else np.floor)(bound[inside])
    return result


def where(condition: Any, x1: Any, x2: Any, /) -> DistArray:
    """x1 where the condition is true, x2 elsewhere. No message for operands of one layout."""
    mesh = mesh_of(condition, x1, x2)
    values = [x if is_scalar(x) else as_dist(x, mesh) for x in (x1, x2)]
    typed = [x.local.dtype for x in values if isinstance(x, DistArray) and type(x.local) is np.ndarray]
    if len(typed) == 1:  # what does not fit is an error on all ranks, as in other functions
        values = [np.asarray(x, np.result_type(typed[0], x)) if isinstance(x, int) else x for x in values]
    result: DistArray = apply("where", condition, *values)
    return result


def in_place(function: Callable[..., DistArray], x: DistArray, other: Any) -> DistArray:
    """``x = function(x, other)``, where x keeps its shape, its type and its layout; and its memory, if blocks are NumPy's.

    Operators of elements write straight into it, without a temporary.

    Raises
    ------
    TypeError
        the result is of another type, which x cannot hold.
    ValueError
        the result is of another shape.
    """
    ufunc: Any = getattr(np, function.__name__, None)
    simple = isinstance(ufunc, np.ufunc) and ufunc.signature is None and function is not pow and type(x.local) is np.ndarray
    mesh = mesh_of(x, other)
    if not is_scalar(other):
        other = as_dist(other, mesh)
    if simple:
        _check_shape(x, x.shape if is_scalar(other) else broadcast(x.shape, other.shape))
        (fitting,) = blocks_for([other], x.layout, x.shape)
        target = x.local if x.local.flags.writeable else np.empty_like(x.local)
        try:
            ufunc(x.local, fitting, out=target, casting="same_kind")
        except TypeError as e:  # the words of NumPy's own class are lost when it is pickled
            raise TypeError(str(e)) from None
        return x if target is x.local else x._become(DistArray(mesh, x.layout, x.shape, target))
    result = function(x, other)
    _check_shape(x, result.shape)
    return assign(x, result)


def _check_shape(x: DistArray, shape: tuple[int, ...]) -> None:
    if shape != x.shape:
        raise ValueError(f"non-broadcastable output operand with shape {x.shape} doesn't match the broadcast shape {shape}")


def assign(x: DistArray, value: DistArray) -> DistArray:
    """Let ``x`` have the values of an array of its shape, in its own type and layout; in its memory, if blocks are NumPy's.

    Raises
    ------
    TypeError
        its type cannot hold them.
    """
    namespace = blocks.namespace(x.local)
    if type(value.local) is not type(x.local):
        value = DistArray(value.mesh, value.layout, value.shape, blocks.like(x.local, blocks.host(value.local)))
    if value.dtype != x.dtype:
        if namespace is blocks.numpy_namespace and not np.can_cast(value.dtype, x.dtype, "same_kind"):
            raise TypeError(f"cannot cast the result from {value.dtype} to {x.dtype}, the type of the array that is changed in place")
        value = DistArray(value.mesh, value.layout, value.shape, namespace.astype(value.local, x.dtype))
    fitting = value.redistribute(x.layout)
    if type(x.local) is not np.ndarray or not x.local.flags.writeable:
        return x._become(fitting)
    np.copyto(x.local, fitting.local)
    return x
