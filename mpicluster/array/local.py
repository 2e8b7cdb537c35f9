"""One rank's block of an array: reached through its own array API namespace, so that other libraries' arrays can be blocks too.

Only messages need bytes in this host's memory: `host` gives them as a NumPy array, `like` makes such a block of the same kind.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from array_api_compat import numpy as numpy_namespace

from mpicluster.array.layout import Part, Runs

__all__ = ["as_numbers", "check_kind", "copy_into", "host", "like", "namespace", "numpy_namespace", "pick", "place", "placed", "put"]

#: A copy in the other order of memory is done by tiles of so many rows and columns ...
_TILE = 512
#: ... or less rows: of those whose addresses differ by a multiple of a page, only a few have their lines in the first cache at once.
_PAGE, _FEWEST = 4096, 16
#: Such copies are done by tiles from so many elements on.
_TILED_FROM = 1 << 14
#: Up to so many rectangles are copied one by one; more are picked by lists of indices.
_MOST_RECTANGLES = 512


def namespace(block: Any) -> Any:
    """The array API namespace of a block."""
    return numpy_namespace if type(block) is np.ndarray else array_namespace(block)


def host(block: Any) -> np.ndarray[Any, Any]:
    """The block as a NumPy array; a copy only where its memory is another's."""
    if type(block) is np.ndarray or is_numpy_array(block):
        return np.asarray(block)
    return np.from_dlpack(block)


def like(block: Any, values: np.ndarray[Any, Any]) -> Any:
    """NumPy values as a block of the kind, and on the device, of another."""
    if type(block) is np.ndarray:
        return values
    return namespace(block).asarray(values, device=block.device)


def check_kind(dtype: Any) -> None:
    """See that elements are numbers or truth values: others would not travel as they are.

    Raises
    ------
    TypeError
        they are not.
    """
    if isinstance(dtype, np.dtype) and dtype.kind not in "biufc":
        raise TypeError(f"arrays hold numbers and truth values, not {dtype}")


def as_numbers(value: Any, dtype: Any = None, *, copy: bool | None = None) -> np.ndarray[Any, Any]:
    """A NumPy array of a number, of nested sequences of numbers, or of an array.

    Raises
    ------
    OverflowError
        an integer fits neither int64 nor uint64.
    TypeError
        it is of something else.
    """
    values = np.array(value, dtype, copy=copy)
    if values.dtype.kind == "O" and values.size and all(isinstance(v, int) for v in values.flat):
        raise OverflowError("Python integer too large for int64 and uint64")
    check_kind(values.dtype)
    return values


def copy_into(target: np.ndarray[Any, Any], source: np.ndarray[Any, Any]) -> None:
    """``target[...] = source``, for equal shapes. Where one is in the other's opposite order of memory, by tiles: 2 to 4 times as fast."""
    if source.ndim != 2 or source.size < _TILED_FROM or (source.strides[0] > source.strides[1]) == (target.strides[0] > target.strides[1]):
        target[...] = source
        return
    if source.strides[0] < source.strides[1]:
        source, target = source.T, target.T
    rows, columns = source.shape
    step = max(_FEWEST, min(_TILE, _FEWEST * _PAGE // math.gcd(source.strides[0], _PAGE)))
    for i, j in itertools.product(range(0, rows, step), range(0, columns, _TILE)):
        target[i : i + step, j : j + _TILE] = source[i : i + step, j : j + _TILE]


def _rectangles(runs: tuple[Runs, ...]) -> int:
    return math.prod(len(r) for r in runs)


def _indices(runs: Runs) -> np.ndarray[Any, Any]:
    return np.concatenate([np.arange(lo, hi) for lo, hi in runs])


def placed(runs: tuple[Runs, ...]) -> Any:
    """For each rectangle of an outer product of runs: where it is, and its place among the values of all of them."""
    per_axis = []
    for axis in runs:
        at, places = 0, []
        for lo, hi in axis:
            places.append((slice(lo, hi), slice(at, at + hi - lo)))
            at += hi - lo
        per_axis.append(places)
    for rectangle in itertools.product(*per_axis):
        yield tuple(s for s, _ in rectangle), tuple(s for _, s in rectangle)


def pick(block: np.ndarray[Any, Any], part: Part) -> np.ndarray[Any, Any]:
    """The values of a part of a block: a view where that is one rectangle, else a copy in C order."""
    if _rectangles(part.runs) == 1:
        return block[tuple(slice(*runs[0]) for runs in part.runs)]
    if _rectangles(part.runs) > _MOST_RECTANGLES:
        values: np.ndarray[Any, Any] = block[np.ix_(*(_indices(r) for r in part.runs))]
        return values
    values = np.empty(part.shape, block.dtype)
    for there, here in placed(part.runs):
        copy_into(values[here], block[there])
    return values


def put(block: np.ndarray[Any, Any], part: Part, values: np.ndarray[Any, Any]) -> None:
    """Set a part of a block."""
    if _rectangles(part.runs) > _MOST_RECTANGLES:
        block[np.ix_(*(_indices(r) for r in part.runs))] = values
        return
    for there, here in placed(part.runs):
        copy_into(block[there], values[here])


def place(ranges: Sequence[Sequence[range]]) -> tuple[Any, ...]:
    """The NumPy index of an outer product of ranges, along each axis one after another: of slices, for a view, where there is one each."""
    if all(len(axis) <= 1 for axis in ranges):
        return tuple(_slice(axis[0]) if axis else slice(0, 0) for axis in ranges)
    return np.ix_(*(np.concatenate([np.arange(r.start, r.stop, r.step) for r in axis] or [np.arange(0)]) for axis in ranges))


def _slice(indices: range) -> slice:
    return slice(indices.start, indices.stop if indices.stop >= 0 else None, indices.step)
