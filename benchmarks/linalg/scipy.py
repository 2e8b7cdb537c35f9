"""SciPy, where it has what NumPy has, with its own BLAS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import scipy.linalg as sla

from benchmarks.linalg.measures import MatrixSize
from benchmarks.linalg.one_process import Measuring, opener
from benchmarks.linalg.work import positive, rows, timed
from benchmarks.take import take


def measurements() -> Mapping[str, Measuring]:
    """What SciPy has."""

    def of(f: Callable[..., Any], operand: Callable[[MatrixSize], Any]) -> Measuring:
        def measure(size: MatrixSize) -> list[float]:
            a = operand(size)
            return timed(lambda: f(a), size.repeat)

        return measure

    def solve(size: MatrixSize) -> list[float]:
        a, b = rows(0, size.square, size.square, 1), rows(0, size.square, size.right_sides, 2)
        return timed(lambda: sla.solve(a, b, check_finite=False), size.repeat)

    return {
        "cholesky": of(lambda a: sla.cholesky(a, lower=True, check_finite=False), lambda s: positive(0, s.square, s.square)),
        "solve": solve,
        "qr_tall": of(lambda a: sla.qr(a, mode="economic", check_finite=False), lambda s: rows(0, *s.tall, 1)),
        "svd_tall": of(lambda a: sla.svd(a, full_matrices=False, check_finite=False), lambda s: rows(0, *s.tall, 1)),
        "qr_square": of(lambda a: sla.qr(a, mode="economic", check_finite=False), lambda s: rows(0, s.square, s.square, 1)),
        "eigh": of(lambda a: sla.eigh(a, driver="evd", check_finite=False), lambda s: positive(0, s.spectral, s.spectral)),
        "svd": of(lambda a: sla.svd(a, check_finite=False), lambda s: rows(0, s.spectral, s.spectral, 1)),
    }


if __name__ == "__main__":
    take(opener(measurements))
