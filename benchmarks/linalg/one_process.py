"""NumPy, or SciPy where it has its own, in one process with as many threads as the others have ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.linalg.measures import MatrixSize
from benchmarks.linalg.work import long, positive, rows, timed
from benchmarks.work import Measurement, expect

__all__ = ["numpy_measurements", "opener"]

Measuring = Callable[[MatrixSize], list[float]]


def numpy_measurements() -> Mapping[str, Measuring]:
    """What NumPy has."""

    def square(f: Callable[..., Any], n: Callable[[MatrixSize], int]) -> Measuring:
        def measure(size: MatrixSize) -> list[float]:
            a = rows(0, n(size), n(size), 1)
            return timed(lambda: f(a), size.repeat)

        return measure

    def matmul(size: MatrixSize) -> list[float]:
        a, b = rows(0, size.square, size.square, 1), rows(0, size.square, size.square, 2)
        return timed(lambda: a @ b, size.repeat)

    def cholesky(size: MatrixSize) -> list[float]:
        a = positive(0, size.square, size.square)
        return timed(lambda: np.linalg.cholesky(a), size.repeat)

    def solve(size: MatrixSize) -> list[float]:
        a, b = rows(0, size.square, size.square, 1), rows(0, size.square, size.right_sides, 2)
        expect(bool(np.allclose(a @ np.linalg.solve(a, b), b, atol=1e-6)), "the solution is wrong")
        return timed(lambda: np.linalg.solve(a, b), size.repeat)

    def tall(f: Callable[..., Any]) -> Measuring:
        def measure(size: MatrixSize) -> list[float]:
            a = rows(0, *size.tall, 1)
            return timed(lambda: f(a), size.repeat)

        return measure

    def symmetric(size: MatrixSize) -> list[float]:
        a = positive(0, size.spectral, size.spectral)
        return timed(lambda: np.linalg.eigh(a), size.repeat)

    def along(f: Callable[..., Any]) -> Measuring:
        def measure(size: MatrixSize) -> list[float]:
            x, y = long(0, size.long), long(0, size.long)
            return timed(lambda: f(x, y), size.repeat)

        return measure

    return {
        "matmul": matmul,
        "cholesky": cholesky,
        "solve": solve,
        "qr_tall": tall(np.linalg.qr),
        "svd_tall": tall(lambda a: np.linalg.svd(a, full_matrices=False)),
        "qr_square": square(np.linalg.qr, lambda size: size.square),
        "eigh": symmetric,
        "svd": square(np.linalg.svd, lambda size: size.spectral),
        "transpose": square(lambda a: np.ascontiguousarray(a.T), lambda size: size.transposed),
        "sum": along(lambda x, _: np.sum(x)),
        "norm": along(lambda x, _: np.linalg.norm(x)),
        "elementwise": along(lambda x, y: 2 * x + y),
    }


def opener(measurements: Callable[[], Mapping[str, Any]]) -> Callable[[int], Any]:
    """A contender that needs no cluster."""

    @contextmanager
    def opened(_ranks: int) -> Iterator[Mapping[str, Measurement]]:
        yield measurements()

    return opened
