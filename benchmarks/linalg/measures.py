"""What is measured of linear algebra, how large, and what must be reached. Tables only: nothing here runs anything."""

from __future__ import annotations

import msgspec

from benchmarks.measures import Measure, Rule, Target

__all__ = ["FULL", "MEASURES", "QUICK", "RANKS", "TARGETS", "MatrixSize"]

#: ranks with one thread each; those of one process have as many threads
RANKS = 2


class MatrixSize(msgspec.Struct, frozen=True, tag="linalg"):
    """How large the operands are, and how often each operation is timed after one that is not."""

    square: int = 4096
    spectral: int = 2048
    right_sides: int = 16
    tall: tuple[int, int] = (200_000, 200)
    transposed: int = 8192
    long: int = 40_000_000
    repeat: int = 2


FULL = MatrixSize()
QUICK = MatrixSize(square=512, spectral=256, tall=(20_000, 50), transposed=1024, long=1_000_000, repeat=1)

MEASURES = {
    name: Measure(name, title, "s")
    for name, title in {
        "matmul": "matrix product, n = 4096",
        "cholesky": "Cholesky, n = 4096",
        "solve": "solve, n = 4096, 16 right sides",
        "qr_tall": "QR of 200,000 x 200",
        "svd_tall": "SVD of 200,000 x 200",
        "qr_square": "QR, n = 4096",
        "eigh": "eigh, n = 2048",
        "transpose": "transpose, n = 8192, in the order of rows",
        "sum": "sum of 40 M",
        "norm": "norm of 40 M",
        "elementwise": "2 x + y, of 40 M",
        "svd": "SVD, n = 2048",  # the last one: Heat's takes longer than anybody waits, and ends its turn
    }.items()
}


def _faster(measure: str, *others: str) -> list[Target]:
    return [Target(measure, Rule.FASTER, 1, other) for other in others]


TARGETS = (
    Target("matmul", Rule.WITHIN, 1.10, "numpy"),
    *_faster("matmul", "heat", "dask", "scalapack"),
    Target("cholesky", Rule.WITHIN, 1.0, "numpy"),
    Target("cholesky", Rule.WITHIN, 1.1, "dask"),
    *_faster("cholesky", "scalapack"),
    Target("solve", Rule.WITHIN, 1.0, "numpy"),
    *_faster("solve", "dask", "scalapack"),
    Target("qr_tall", Rule.WITHIN, 0.30, "numpy"),
    Target("qr_tall", Rule.WITHIN, 0.9, "heat"),
    Target("qr_tall", Rule.WITHIN, 0.5, "dask"),
    *_faster("qr_tall", "scalapack"),
    Target("svd_tall", Rule.WITHIN, 0.40, "numpy"),
    Target("svd_tall", Rule.WITHIN, 0.9, "heat"),
    Target("svd_tall", Rule.WITHIN, 0.5, "dask"),
    *_faster("svd_tall", "scalapack"),
    Target("qr_square", Rule.WITHIN, 0.7, "numpy"),
    *_faster("qr_square", "heat"),
    Target("qr_square", Rule.WITHIN, 1.2, "scalapack"),
    Target("eigh", Rule.WITHIN, 1.15, "numpy"),
    *_faster("eigh", "heat", "scalapack"),
    Target("svd", Rule.WITHIN, 1.15, "numpy"),
    *_faster("svd", "heat", "scalapack"),
    Target("transpose", Rule.WITHIN, 0.5, "numpy"),
    *_faster("transpose", "heat", "dask"),
    *(t for m in ("sum", "norm", "elementwise") for t in (Target(m, Rule.WITHIN, 1.1, "numpy"), *_faster(m, "heat", "dask"))),
)
