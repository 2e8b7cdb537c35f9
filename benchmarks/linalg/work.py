"""The operands, and the stopwatch. All contenders have the same values; each makes its own part of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["long", "positive", "rows", "timed"]


def rows(lo: int, hi: int, columns: int, seed: int) -> np.ndarray[Any, Any]:
    """Rows of a matrix of normal numbers; the same, whoever makes them."""
    result = np.empty((hi - lo, columns))
    for i in range(lo, hi):
        result[i - lo] = _row(seed, i, columns)
    return result


def _row(seed: int, i: int, columns: int) -> np.ndarray[Any, Any]:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, i])).standard_normal(columns)


def positive(lo: int, hi: int, n: int) -> np.ndarray[Any, Any]:
    """Rows of a symmetric matrix that is positive definite, of full rank: n on the diagonal, a slowly falling cosine beside it."""
    i, j = np.arange(lo, hi)[:, np.newaxis], np.arange(n)
    result = np.cos(i * j % 1009) / (1.0 + np.abs(i - j))
    result[np.arange(hi - lo), np.arange(lo, hi)] += 10.0
    return result


def long(lo: int, hi: int) -> np.ndarray[Any, Any]:
    """Elements of a long vector."""
    return np.random.Generator(np.random.Philox(key=1, counter=[0, 0, 0, lo])).random(hi - lo)


def timed(call: Callable[[], object], repeat: int, together: Callable[[], object] = lambda: None) -> list[float]:
    """Seconds that each of ``repeat`` calls took, after one that does not count; ``together`` waits for the other ranks."""
    samples = []
    for _ in range(repeat + 1):
        together()
        begin = time.perf_counter()
        result = call()
        together()
        samples.append(time.perf_counter() - begin)
        del result
    return samples[1:]
