"""Limits of types, in Python's own numbers as the standard wants them. Knows no MPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["FloatLimits", "IntegerLimits"]


@dataclass(frozen=True, eq=False)
class FloatLimits:
    """What `finfo` gives. For a complex type, of its real and imaginary parts."""

    bits: int
    #: from 1.0 to the next larger number
    eps: float
    max: float
    min: float
    #: the smallest positive number with full precision
    smallest_normal: float
    dtype: Any

    @classmethod
    def of(cls, told: Any) -> FloatLimits:
        """From what a library's own ``finfo`` gives."""
        return cls(told.bits, float(told.eps), float(told.max), float(told.min), float(told.smallest_normal), told.dtype)


@dataclass(frozen=True, eq=False)
class IntegerLimits:
    """What `iinfo` gives."""

    bits: int
    max: int
    min: int
    dtype: Any

    @classmethod
    def of(cls, told: Any) -> IntegerLimits:
        """From what a library's own ``iinfo`` gives."""
        return cls(told.bits, int(told.max), int(told.min), told.dtype)
