"""Functions of each element: no message, where the operands have one layout.

Operands that are replicated, or Python scalars, fit every layout. Where two are divided in different ways, the second is redistributed
to the layout of the first (each element travels at most once). Shapes broadcast, and types promote, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mpicluster.array.darray import DistArray
from mpicluster.array.operands import apply, as_dist, mesh_of, namespace_of

_UNARY = {
    "abs": "The absolute value of each element.",
    "acos": "The arc cosine, in radians from 0 to pi.",
    "acosh": "The inverse hyperbolic cosine.",
    "asin": "The arc sine, in radians from -pi/2 to pi/2.",
    "asinh": "The inverse hyperbolic sine.",
    "atan": "The arc tangent, in radians from -pi/2 to pi/2.",
    "atanh": "The inverse hyperbolic tangent.",
    "bitwise_invert": "Each bit inverted.",
    "ceil": "The next integer not below each element.",
    "conj": "The complex conjugate; a real array is copied.",
    "cos": "The cosine of angles in radians.",
    "cosh": "The hyperbolic cosine.",
    "exp": "The exponential.",
    "expm1": "The exponential less 1, exact for small elements.",
    "floor": "The next integer not above each element.",
    "imag": "The imaginary part.",
    "isfinite": "Whether each element is neither infinite nor NaN.",
    "isinf": "Whether each element is infinite.",
    "isnan": "Whether each element is NaN.",
    "log": "The natural logarithm.",
    "log10": "The logarithm to base 10.",
    "log1p": "The natural logarithm of 1 + x, exact for small elements.",
    "log2": "The logarithm to base 2.",
    "logical_not": "Whether each element is zero.",
    "negative": "Each element negated.",
    "positive": "Each element as it is.",
    "real": "The real part.",
    "reciprocal": "1 / x.",
    "round": "The nearest integer; of two as near, the even one.",
    "sign": "-1, 0 or 1; of a complex element, x / abs(x).",
    "signbit": "Whether the sign bit is set.",
    "sin": "The sine of angles in radians.",
    "sinh": "The hyperbolic sine.",
    "sqrt": "The principal square root.",
    "square": "Each element squared.",
    "tan": "The tangent of angles in radians.",
    "tanh": "The hyperbolic tangent.",
    "trunc": "The next integer towards zero.",
}
_BINARY = {
    "add": "x1 + x2.",
    "atan2": "The angle of the point (x2, x1), in radians from -pi to pi.",
    "bitwise_and": "x1 & x2.",
    "bitwise_left_shift": "x1 << x2.",
    "bitwise_or": "x1 | x2.",
    "bitwise_right_shift": "x1 >> x2.",
    "bitwise_xor": "x1 ^ x2.",
    "copysign": "The magnitude of x1 with the sign of x2.",
    "divide": "x1 / x2.",
    "equal": "Whether x1 == x2.",
    "floor_divide": "The largest integer not above x1 / x2.",
    "greater": "Whether x1 > x2.",
    "greater_equal": "Whether x1 >= x2.",
    "hypot": "The square root of x1**2 + x2**2, without overflow half-way.",
    "less": "Whether x1 < x2.",
    "less_equal": "Whether x1 <= x2.",
    "logaddexp": "log(exp(x1) + exp(x2)), without overflow half-way.",
    "logical_and": "Whether both are true.",
    "logical_or": "Whether one is true.",
    "logical_xor": "Whether just one is true.",
    "maximum": "The larger of the two; NaN if one is.",
    "minimum": "The smaller of the two; NaN if one is.",
    "multiply": "x1 * x2.",
    "nextafter": "The next number after x1 towards x2.",
    "not_equal": "Whether x1 != x2.",
    "pow": "x1 to the power of x2.",
    "remainder": "x1 - floor_divide(x1, x2) * x2, of the sign of x2.",
    "subtract": "x1 - x2.",
}

__all__ = [*_UNARY, *_BINARY, "clip", "in_place", "where"]


def _unary(name: str, doc: str) -> Callable[..., DistArray]:
    def function(x: Any, /) -> DistArray:
        x = as_dist(x, mesh_of(x))
        result: DistArray = apply(getattr(namespace_of(x), name), x)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} No message."
    return function


def _binary(name: str, doc: str) -> Callable[..., DistArray]:
    def function(x1: Any, x2: Any, /) -> DistArray:
        if not isinstance(x1, DistArray) and not isinstance(x2, DistArray):
            x1 = as_dist(x1, mesh_of())
        result: DistArray = apply(getattr(namespace_of(x1, x2), name), x1, x2)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} No message for operands of one layout."
    return function


for _name, _doc in _UNARY.items():
    globals()[_name] = _unary(_name, _doc)
for _name, _doc in _BINARY.items():
    globals()[_name] = _binary(_name, _doc)


def clip(x: Any, /, min: Any = None, max: Any = None) -> DistArray:  # noqa: A002 - names of the standard
    """Each element, or the bound that it is beyond; NaN stays. The type of ``x`` is kept. No message for operands of one layout."""
    x = as_dist(x, mesh_of(x, min, max))
    namespace = namespace_of(x)
    if min is None and max is None:
        result: DistArray = apply(lambda a: namespace.asarray(a, copy=True), x)
    elif max is None:
        result = apply(lambda a, lo: namespace.clip(a, lo, None), x, min)
    elif min is None:
        result = apply(lambda a, hi: namespace.clip(a, None, hi), x, max)
    else:
        result = apply(namespace.clip, x, min, max)
    return result


def where(condition: Any, x1: Any, x2: Any, /) -> DistArray:
    """x1 where the condition is true, x2 elsewhere. No message for operands of one layout."""
    result: DistArray = apply(namespace_of(condition, x1, x2).where, condition, x1, x2)
    return result


def in_place(function: Callable[..., DistArray], x: DistArray, other: Any) -> DistArray:
    """``x = function(x, other)``, where x keeps its shape and type, and its memory if it is NumPy's.

    Raises
    ------
    TypeError
        the result is of another type, which x cannot hold.
    ValueError
        the result is of another shape.
    """
    result = function(x, other)
    if result.shape != x.shape:
        raise ValueError(f"non-broadcastable output operand with shape {x.shape} doesn't match the broadcast shape {result.shape}")
    if result.dtype != x.dtype:
        if not np.can_cast(result.dtype, x.dtype, "same_kind"):
            raise TypeError(f"cannot cast the result from {result.dtype} to {x.dtype}, the type of the array that is changed in place")
        result = apply(lambda a: namespace_of(x).astype(a, x.dtype), result)
    fitting = result.redistribute(x.layout)
    x.local[...] = fitting.local
    return x
