"""Number, mean and sum of squared distances from it, of a block and of several together. Arithmetic alone: no messages.

What two sets have together follows from what each has (Chan, Golub and LeVeque, "Algorithms for computing the sample variance: analysis and
recommendations", The American Statistician 37(3), 1983). Combined in pairs, as here, errors grow with the logarithm of the number
of elements, and all is read from memory once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["combined", "moments"]

Host = NDArray[Any]

#: So many elements are taken at once: they fit the second cache.
_AT_ONCE = 1 << 17
#: Halves are combined if that makes one element of at least so many.
_WORTH_COMBINING = 32


def moments(data: Host, axes: tuple[int, ...], kind: np.dtype[Any]) -> Host:
    """``count``, ``mean`` and ``squares`` of the elements over axes, which are kept with length 1; computed as type ``kind``.

    Of no elements, the last two are NaN. Temporary memory: some times `_AT_ONCE` elements, and a few times the result.
    """
    shape = tuple(1 if i in axes else n for i, n in enumerate(data.shape))
    result = np.empty(shape, [("count", np.float64), ("mean", kind), ("squares", np.empty(0, kind).real.dtype)])
    if result.size:
        _fill(result, data, axes, kind)
    return result


def _fill(result: Host, data: Host, axes: tuple[int, ...], kind: np.dtype[Any]) -> None:
    if data.size <= _AT_ONCE:
        n = math.prod(data.shape[a] for a in axes)
        if not n:
            result["count"], result["mean"], result["squares"] = 0, math.nan, math.nan
            return
        mean = np.sum(data, axis=axes, keepdims=True, dtype=kind) / n
        away = np.asarray(data - mean)
        squares = away.real**2 + away.imag**2 if kind.kind == "c" else np.square(away, out=away)
        result["count"], result["mean"], result["squares"] = n, mean, np.sum(squares, axis=axes, keepdims=True)
        return
    axis = _to_split(result, data, axes)
    middle = data.shape[axis] // 2
    one, other = (slice(None),) * axis + (slice(0, middle),), (slice(None),) * axis + (slice(middle, None),)
    if axis not in axes:
        _fill(result[one], data[one], axes, kind)
        _fill(result[other], data[other], axes, kind)
        return
    _fill(result, data[one], axes, kind)
    beyond = np.empty_like(result)
    _fill(beyond, data[other], axes, kind)
    result[...] = combined(result, beyond)


def _to_split(result: Host, data: Host, axes: tuple[int, ...]) -> int:
    """The outermost axis in memory; but a longer one that is kept, where to combine the halves would be much of the work."""
    long = [i for i, n in enumerate(data.shape) if n > 1]
    outermost = max(long, key=lambda i: (abs(data.strides[i]), -i))
    if outermost in axes and result.size * _WORTH_COMBINING > data.size:
        return max((i for i in long if i not in axes), key=lambda i: data.shape[i], default=outermost)
    return outermost


def combined(a: Host, b: Host) -> Host:
    """The moments of two sets together, element by element."""
    result = np.empty_like(a)
    count = np.maximum(a["count"] + b["count"], 1)
    away = b["mean"] - a["mean"]
    result["count"] = a["count"] + b["count"]
    result["mean"] = a["mean"] + away * (b["count"] / count)
    result["squares"] = a["squares"] + b["squares"] + (away * away.conj()).real * (a["count"] / count * b["count"])
    return result
