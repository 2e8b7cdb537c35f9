"""Ours: SPMD on so many ranks, without a hub. Operands lie in blocks of rows, results where they come to lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

import mpicluster.array as xp
from benchmarks.linalg.measures import MatrixSize
from benchmarks.linalg.work import long, positive, rows, timed
from benchmarks.take import take
from benchmarks.work import Measurement, expect
from mpicluster.array.layout import block_sizes, starts
from mpicluster.array.mesh import MPI

COMM = MPI.COMM_WORLD


def mine(n: int) -> tuple[int, int]:
    """From which to which row this rank has."""
    bounds = starts(block_sizes(n, COMM.size))
    return bounds[COMM.rank], bounds[COMM.rank + 1]


def matrix(n: int, columns: int, seed: int) -> Any:
    return xp.from_local(rows(*mine(n), columns, seed))


def definite(n: int) -> Any:
    return xp.from_local(positive(*mine(n), n))


def vector(n: int) -> Any:
    lo, hi = mine(n)
    return xp.from_local(long(lo, hi))


def of(f: Callable[..., Any], *operands: Callable[[MatrixSize], Any]) -> Any:
    """A measure of one function."""

    def measure(size: MatrixSize) -> list[float]:
        given = [operand(size) for operand in operands]
        return timed(lambda: f(*given), size.repeat, COMM.Barrier)

    return measure


def solve(size: MatrixSize) -> list[float]:
    a, b = matrix(size.square, size.square, 1), matrix(size.square, size.right_sides, 2)
    expect(bool(np.allclose(np.asarray(a @ xp.linalg.solve(a, b)), np.asarray(b), atol=1e-6)), "the solution is wrong")
    return timed(lambda: xp.linalg.solve(a, b), size.repeat, COMM.Barrier)


@contextmanager
def job(ranks: int) -> Iterator[Mapping[str, Measurement]]:
    """This job itself: all ranks measure, rank 0 writes."""
    expect(COMM.size == ranks, f"{COMM.size} ranks, not {ranks}: is this mpiexec of the MPI that mpi4py loads?")
    measurements: Mapping[str, Any] = {
        "matmul": of(lambda a, b: a @ b, lambda s: matrix(s.square, s.square, 1), lambda s: matrix(s.square, s.square, 2)),
        "cholesky": of(lambda a: xp.linalg.cholesky(a), lambda s: definite(s.square)),
        "solve": solve,
        "qr_tall": of(lambda a: xp.linalg.qr(a), lambda s: matrix(*s.tall, 1)),
        "svd_tall": of(lambda a: xp.linalg.svd(a, full_matrices=False), lambda s: matrix(*s.tall, 1)),
        "qr_square": of(lambda a: xp.linalg.qr(a), lambda s: matrix(s.square, s.square, 1)),
        "eigh": of(lambda a: xp.linalg.eigh(a), lambda s: definite(s.spectral)),
        "svd": of(lambda a: xp.linalg.svd(a), lambda s: matrix(s.spectral, s.spectral, 1)),
        "transpose": of(lambda a: a.T.redistribute(xp.Block(0)), lambda s: matrix(s.transposed, s.transposed, 1)),
        "sum": of(lambda a: xp.sum(a), lambda s: vector(s.long)),
        "norm": of(lambda a: xp.linalg.vector_norm(a), lambda s: vector(s.long)),
        "elementwise": of(lambda x, y: 2 * x + y, lambda s: vector(s.long), lambda s: vector(s.long)),
    }
    yield measurements


if __name__ == "__main__":
    take(job, write=COMM.rank == 0)
