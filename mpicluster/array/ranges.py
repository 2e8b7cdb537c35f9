"""Vectors of evenly spaced numbers: each rank computes its own, from their indices alone, to the bits that NumPy gives."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Layout
from mpicluster.array.mesh import Mesh, as_mesh
from mpicluster.array.placement import place, refuse_device
from mpicluster.array.steps import length_of_range, type_of_range

__all__ = ["arange", "linspace", "made_of_indices"]

Vector = np.ndarray[Any, Any]


def made_of_indices(mesh: Mesh, length: int, layout: Layout | None, make: Callable[[int, int], Vector]) -> DistArray:
    """A vector of which ``make(lo, hi)`` gives the elements from one index to another."""
    settled, _ = place(mesh, (length,), layout)
    (runs,) = settled.runs((length,), mesh.size, mesh.rank)
    parts = [make(lo, hi) for lo, hi in runs] or [make(0, 0)]
    return DistArray(mesh, settled, (length,), parts[0] if len(parts) == 1 else np.concatenate(parts))


def _number(value: Any) -> Any:
    """A number: Python's, or NumPy's if it has a type; an array without dimensions is its element."""
    if isinstance(value, DistArray | np.ndarray):
        if value.shape:
            raise TypeError(f"the ends and the step of a range are numbers, not arrays of shape {value.shape}")
        return blocks.host(value.local if isinstance(value, DistArray) else value)[()]
    return value


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """Numbers from ``start`` to below ``stop`` by ``step``, or from 0 to below the only number given: ceil((stop - start) / step) of them.

    int64 if all are integers, float64 if one is a float, unless a type is given. As in NumPy, elements are ``start`` and multiples of what
    two of them differ by after rounding. No message.

    Raises
    ------
    ZeroDivisionError
        the step is zero.
    ValueError
        the number of elements is infinite or NaN.
    OverflowError
        integers do not fit int64, and no type is given.
    """
    refuse_device(device)
    start, stop, step = _number(start), _number(stop), _number(step)
    if stop is None:
        start, stop = 0, start
    kind = np.dtype(dtype) if dtype is not None else type_of_range(start, stop, step)
    length = length_of_range(start, stop, step)
    blocks.check_kind(kind)
    if kind.kind == "b" and length > 2:
        raise TypeError("arange() is only supported for booleans when the result has at most length 2.")
    two = np.array([start, start + step] if length > 1 else [start] * length, kind)
    working = np.dtype(np.float32) if kind == np.float16 else kind

    def make(lo: int, hi: int) -> Vector:
        if hi <= 2:
            return two[lo:hi].copy()
        values = np.arange(lo, hi).astype(working, copy=False)
        first, second = two.astype(working)
        with np.errstate(all="ignore"):  # integers wrap round
            delta = second - first
            if kind.kind == "c":
                values.imag = values.real * delta.imag
                values.real *= delta.real
            elif delta != 1:
                values *= delta
            if first != 0:
                values += first
        values = values.astype(kind, copy=False)
        values[: max(0, 2 - lo)] = two[lo:]
        return values

    return made_of_indices(as_mesh(comm), length, layout, make)


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
    layout: Layout | None = None,
    comm: Any = None,
) -> DistArray:
    """``num`` evenly spaced numbers from ``start`` to ``stop``, which is the last of them unless ``endpoint`` is false.

    float64, or complex128 if one end is complex, unless a type is given; to an integer type they are rounded down. No message.
    """
    refuse_device(device)
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    ends = [float(v) if isinstance(v, int) else v for v in (_number(start), _number(stop))]
    natural = np.result_type(*ends, 0.0)
    first, last = map(np.array, ends)
    kind = natural if dtype is None else np.dtype(dtype)
    intervals = num - 1 if endpoint else num
    difference = np.subtract(last, first, dtype=type(natural))
    step = difference / intervals if intervals > 0 else difference

    def make(lo: int, hi: int) -> Vector:
        values = np.arange(lo, hi).astype(natural)
        if intervals > 0 and step == 0:  # equal ends, or a step that underflows
            values /= intervals
            values *= difference
        else:
            values *= step
        values += first
        if endpoint and num > 1 and lo < num == hi:
            values[-1] = last
        if kind.kind in "iu":
            np.floor(values, out=values)
        return values.astype(kind, copy=False)

    return made_of_indices(as_mesh(comm), num, layout, make)
