"""How long a range of numbers is, and of which type. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["length_of_range", "type_of_range"]


def type_of_range(start: Any, stop: Any, step: Any) -> np.dtype[Any]:
    """int64 for integers, else float64 or what is wider, as in NumPy."""
    kind = np.result_type(np.int64, *(np.array(v if isinstance(v, np.generic) else type(v)(0)).dtype for v in (start, stop, step)))
    if kind == np.int64 and max(abs(int(start)), abs(int(stop))) > 2**63 - 1:
        raise OverflowError(f"a range of int64 cannot go from {start} to {stop}; give it a type")
    return kind


def length_of_range(start: Any, stop: Any, step: Any) -> int:
    """How many elements a range has. Integers are counted exactly."""
    if all(isinstance(v, int | np.integer) for v in (start, stop, step)):
        start, stop, step = map(int, (start, stop, step))
        if not step:
            raise ZeroDivisionError("the step of a range must not be zero")
        return max(0, -((start - stop) // step))
    for v in (start, stop, step):
        if isinstance(v, complex | np.complexfloating):
            raise TypeError(f"a range has real ends and a real step, not {v!r}")
    difference = stop - start
    ratio = difference / step
    if difference and not ratio:  # it underflows
        return int(math.copysign(1, ratio) > 0)
    if not math.isfinite(ratio):
        raise ValueError(f"a range from {start} to {stop} by {step} has no number of elements")
    return max(0, math.ceil(float(ratio)))
