"""NumPy's functions, called with our arrays: its ufuncs block by block, its other functions by those of the same meaning here.

What there is not raises TypeError, rather than gathering all values on every rank without being asked to. NumPy's arrays among the
operands are the same on all ranks, and so count as replicated. As ``out``, they get all values: one Allgatherv.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import mpicluster.array as xp
from mpicluster.array import local as blocks
from mpicluster.array.adapters import adapters
from mpicluster.array.darray import DistArray
from mpicluster.array.elementwise import assign
from mpicluster.array.layout import Layout, Shape
from mpicluster.array.operands import apply, as_dist, blocks_for, broadcast, common_layout, is_scalar, mesh_of
from mpicluster.array.statistics import reduced

__all__ = ["call_function", "call_ufunc"]

_ADVICE = "use a function of mpicluster.array, or np.asarray(x), which brings all values to every rank"
#: ufuncs of whole vectors and matrices, by name: NumPy 2.1 has not all
_GENERALIZED: dict[str, Callable[..., Any]] = {
    "matmul": lambda a, b: xp.matmul(a, b),
    "vecdot": lambda a, b: xp.vecdot(a, b),
    "matvec": lambda a, b: xp.squeeze(xp.matmul(a, xp.expand_dims(b, axis=-1)), axis=-1),
    "vecmat": lambda a, b: xp.squeeze(xp.matmul(xp.expand_dims(xp.conj(a), axis=-2), b), axis=-2),
}
#: reductions that have a function of their own
_REDUCTIONS = {np.add: "sum", np.multiply: "prod", np.maximum: "max", np.minimum: "min", np.logical_and: "all", np.logical_or: "any"}
#: others whose order does not matter
_ASSOCIATIVE = frozenset(
    (np.fmax, np.fmin, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.gcd, np.lcm, np.hypot, np.logaddexp, np.logaddexp2)
)
_ACCUMULATIONS = {np.add: "cumulative_sum", np.multiply: "cumulative_prod"}


def _refuse(name: str, options: Mapping[str, Any]) -> None:
    """See that there are no options but those that were taken."""
    if options:
        raise TypeError(f"{name} of distributed arrays takes no {', '.join(options)}; {_ADVICE}")


# -- ufuncs ----------------------------------------------------------------------------------------------------------------------------


def call_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What ``__array_ufunc__`` gives: ``ufunc(*inputs, **options)``, or a method of it.

    A call is as cheap as an elementwise function. ``out`` is written in place, whatever its layout. ``reduce`` costs what the reduction
    here does, ``accumulate`` what `cumulative_sum` does; ``outer`` is an elementwise function of reshaped operands.

    Raises
    ------
    TypeError
        there is no such thing for distributed arrays, or for their types.
    """
    options = dict(options)
    outs = options.pop("out", None)
    outs = outs if isinstance(outs, tuple) else (outs,)
    name = f"np.{ufunc.__name__}"
    if method == "__call__" and ufunc.signature is None:
        return _elementwise(ufunc, inputs, (*outs, *[None] * (ufunc.nout - len(outs))), options)
    if method == "__call__" and ufunc is getattr(np, ufunc.__name__, None) and ufunc.__name__ in _GENERALIZED:
        _refuse(name, options)
        return _given(_GENERALIZED[ufunc.__name__](*inputs), outs[0])
    if method == "reduce" and (ufunc in _REDUCTIONS or ufunc in _ASSOCIATIVE):
        return _given(_reduce(ufunc, inputs[0], **options), outs[0])
    if method == "accumulate" and ufunc in _ACCUMULATIONS:
        axis, dtype = options.pop("axis", 0), options.pop("dtype", None)
        _refuse(f"{name}.{method}", options)
        return _given(getattr(xp, _ACCUMULATIONS[ufunc])(inputs[0], axis=axis, dtype=dtype), outs[0])
    if method == "outer" and ufunc.signature is None:
        mesh = mesh_of(*inputs)
        a, b = (as_dist(x, mesh) for x in inputs)
        return call_ufunc(ufunc, "__call__", (xp.reshape(a, a.shape + (1,) * b.ndim), b), {**options, "out": outs})
    raise TypeError(f"there is no {name if method == '__call__' else f'{name}.{method}'} of distributed arrays; {_ADVICE}")


def _elementwise(ufunc: np.ufunc, inputs: Sequence[Any], outs: Sequence[Any], options: dict[str, Any]) -> Any:
    where = options.pop("where", True)
    if where is not True and all(out is None for out in outs):
        raise TypeError(f"np.{ufunc.__name__} with where= needs out=, or what is not computed would be anything")
    if all("O" in types for types in ufunc.types):
        raise TypeError(f"np.{ufunc.__name__} is of Python objects, and arrays hold numbers and truth values")
    if ufunc is np.power and where is True and not options:
        return _given(xp.pow(*inputs), outs[0])
    if where is True and all(out is None for out in outs):
        return apply(lambda *held: _on_blocks(ufunc, held, options), *inputs)
    mesh = mesh_of(*inputs, *outs, where)
    operands = [x if is_scalar(x) else as_dist(x, mesh) for x in inputs]
    if where is not True:
        operands.append(as_dist(where, mesh))
    shape, layout = _place(operands, outs)
    held = blocks_for(operands, layout, shape)
    if where is not True:
        options["where"] = blocks.host(held.pop())
    options["out"] = targets = tuple(None if out is None else _target(out, layout, shape, mesh) for out in outs)
    results = _on_blocks(ufunc, held, options)
    foreign = _foreign(held)
    given = []
    for result, target, out in zip(results if ufunc.nout > 1 else (results,), targets, outs, strict=True):
        there = isinstance(out, DistArray) and out.local is target
        block = result if foreign is None or out is not None else blocks.like(foreign, result)
        given.append(out if there else _given(DistArray(mesh, layout, shape, block), out))
    return tuple(given) if ufunc.nout > 1 else given[0]


def _foreign(held: Sequence[Any]) -> Any:
    """One of the blocks that are another library's than NumPy's; None if there is none."""
    return next((b for b in held if not is_scalar(b) and type(b) is not np.ndarray), None)


def _on_blocks(ufunc: np.ufunc, held: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """A ufunc of blocks. Where these are another library's, so is what it gives; but with ``out``, it gives NumPy's."""
    foreign = _foreign(held)
    try:
        if foreign is None:
            return ufunc(*held, **options)
        results = ufunc(*(b if is_scalar(b) else blocks.host(b) for b in held), **options)
    except TypeError as e:  # the words of NumPy's own class are lost when it is pickled
        raise TypeError(str(e)) from None
    if "out" in options:
        return results
    return tuple(blocks.like(foreign, r) for r in results) if ufunc.nout > 1 else blocks.like(foreign, results)


def _place(operands: Sequence[Any], outs: Sequence[Any]) -> tuple[Shape, Layout]:
    """Shape and layout in which a ufunc is computed: those of the first array that gets the result, if there is one."""
    arrays = [x for x in operands if isinstance(x, DistArray)]
    shape = broadcast(*(x.shape for x in arrays)) if arrays else ()
    for out in outs:
        if out is not None and broadcast(shape, out.shape) != out.shape:
            raise ValueError(f"non-broadcastable output operand with shape {out.shape} doesn't match the broadcast shape {shape}")
    target = next((out for out in outs if isinstance(out, DistArray)), None)
    if target is not None:
        return target.shape, target.layout
    shape = next((out.shape for out in outs if out is not None), shape)
    first = arrays[0]
    alike = all(x.shape == shape and x.layout == first.layout for x in arrays)
    return shape, first.layout if alike else common_layout(arrays, shape, first.mesh)


def _target(out: Any, layout: Layout, shape: Shape, mesh: Any) -> np.ndarray[Any, Any]:
    """What a ufunc writes to: the array's own block, if that is possible, else a copy."""
    if isinstance(out, DistArray) and out.layout == layout and type(out.local) is np.ndarray and out.local.flags.writeable:
        return out.local
    (block,) = blocks_for([as_dist(out, mesh)], layout, shape)
    return np.array(blocks.host(block))


def _given(result: Any, out: Any) -> Any:
    """The result, in ``out`` if there is one."""
    if out is None:
        return result
    if result.shape != out.shape:
        raise ValueError(f"output parameter has the wrong shape: {out.shape}, and the result {result.shape}")
    if isinstance(out, DistArray):
        return assign(out, result)
    np.copyto(out, np.asarray(result), casting="same_kind")
    return out


def _reduce(ufunc: np.ufunc, x: Any, axis: Any = 0, dtype: Any = None, keepdims: bool = False, **options: Any) -> Any:
    _refuse(f"np.{ufunc.__name__}.reduce", options)
    x = as_dist(x, mesh_of(x))
    axis = axis if x.ndim else None
    if ufunc in (np.add, np.multiply):
        return getattr(xp, _REDUCTIONS[ufunc])(x, axis=axis, dtype=dtype, keepdims=keepdims)
    x = x if dtype is None else xp.astype(x, dtype, copy=False)
    if ufunc in _REDUCTIONS:
        return getattr(xp, _REDUCTIONS[ufunc])(x, axis=axis, keepdims=keepdims)
    hosted = DistArray(x.mesh, x.layout, x.shape, blocks.host(x.local))
    if ufunc.identity is None and not x.size:
        raise ValueError(f"zero-size array to reduction operation {ufunc.__name__} which has no identity")

    def reduce(block: Any, axes: tuple[int, ...]) -> Any:
        return ufunc.reduce(block, axis=axes, keepdims=True)

    return reduced(hosted, axis, keepdims, reduce, ufunc, empty=ufunc.identity is not None)


# -- functions -------------------------------------------------------------------------------------------------------------------------


@functools.cache
def _signature(adapter: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(adapter)


def call_function(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What ``__array_function__`` gives: the function of NumPy's, by that of the same meaning here, at its cost.

    Raises
    ------
    TypeError
        there is none, or it does not take these arguments.
    """
    name = f"{function.__module__}.{function.__name__}".replace("numpy.", "np.", 1)
    adapter = adapters().get(function)
    if adapter is None:
        raise TypeError(f"there is no {name} of distributed arrays; {_ADVICE}")
    options = {key: value for key, value in kwargs.items() if value is not np._NoValue}
    out = options.pop("out", None)
    try:
        _signature(adapter).bind(*args, **options)
    except TypeError as e:
        raise TypeError(f"{name} of distributed arrays: {e}; {_ADVICE}") from None
    return _given(adapter(*args, **options), out)
