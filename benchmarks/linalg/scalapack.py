"""ScaLAPACK, untuned: blocks of 128 (64 for spectra), a 1 x p grid. What it has are columns dealt out already; nothing is redistributed."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpi4py import MPI

from benchmarks.linalg.blacs import Grid, Matrix, integer, load
from benchmarks.linalg.measures import MatrixSize
from benchmarks.linalg.work import positive, timed
from benchmarks.take import take
from benchmarks.work import Measurement, expect

COMM = MPI.COMM_WORLD
NB, NB_SPECTRAL = 128, 64


def pointer(array: np.ndarray[Any, Any]) -> Any:
    return ct.c_void_p(array.ctypes.data)


class Routines:
    """The routines that are measured; each works on a copy of its operand."""

    def __init__(self) -> None:
        self.library = load()
        self.grid = Grid(self.library, COMM)

    def call(self, name: str, *arguments: Any, work: int = 0) -> None:
        """Call a routine, asking it first for the size of its work space if it wants one."""
        routine, info = getattr(self.library, name), ct.c_int()
        if work:
            asked = np.zeros(3)
            numbers = np.zeros(3, np.int32)
            query = [integer(-1), pointer(numbers), integer(-1)][: 1 if work == 1 else 3]
            routine(*arguments, pointer(asked), *query, ct.byref(info))
            space = np.zeros(int(asked[0]) + 4 * NB * NB)
            whole = np.zeros(max(int(numbers[0]), 8 * max(1, int(work))) + 100, np.int32)
            given = [integer(space.size), pointer(whole), integer(whole.size)][: 1 if work == 1 else 3]
            routine(*arguments, pointer(space), *given, ct.byref(info))
        else:
            routine(*arguments, ct.byref(info))
        expect(info.value == 0, f"{name}: info = {info.value}")

    def random(self, m: int, n: int, nb: int = NB, seed: int = 1) -> Matrix:
        """A matrix of normal numbers."""
        a = Matrix(self.grid, m, n, nb)
        a.local[...] = np.random.default_rng([seed, COMM.rank]).standard_normal(a.local.shape)
        return a

    def definite(self, n: int, nb: int = NB) -> Matrix:
        """A symmetric matrix that is positive definite."""
        a = Matrix(self.grid, n, n, nb)
        parts = [positive(j, min(j + nb, n), n) for j in range(COMM.rank * nb, n, COMM.size * nb)]
        if parts:
            a.local[...] = np.concatenate(parts).T
        return a

    def gemm(self, a: Matrix, b: Matrix) -> None:
        c = Matrix(self.grid, a.m, b.n, b.nb)
        one, zero = np.ones(1), np.zeros(1)
        sizes = (integer(a.m), integer(b.n), integer(a.n))
        self.library.pdgemm_(b"N", b"N", *sizes, pointer(one), *a.arguments, *b.arguments, pointer(zero), *c.arguments)

    def potrf(self, a: Matrix) -> None:
        factor = a.copy()
        self.call("pdpotrf_", b"L", integer(a.n), *factor.arguments)

    def gesv(self, a: Matrix, b: Matrix) -> None:
        pivots, factor, solution = np.zeros(a.m + NB, np.int32), a.copy(), b.copy()
        self.call("pdgesv_", integer(a.n), integer(b.n), *factor.arguments, pointer(pivots), *solution.arguments)

    def qr(self, a: Matrix) -> Matrix:
        q, tau = a.copy(), np.zeros(a.columns + NB)
        self.call("pdgeqrf_", integer(a.m), integer(a.n), *q.arguments, pointer(tau), work=1)
        self.call("pdorgqr_", integer(a.m), integer(a.n), integer(a.n), *q.arguments, pointer(tau), work=1)
        return q

    def syevd(self, a: Matrix) -> None:
        values, vectors, copy = np.zeros(a.n), Matrix(self.grid, a.n, a.n, a.nb), a.copy()
        self.call("pdsyevd_", b"V", b"L", integer(a.n), *copy.arguments, pointer(values), *vectors.arguments, work=a.n)

    def gesvd(self, a: Matrix) -> None:
        k, copy = min(a.m, a.n), a.copy()
        u, v, values = Matrix(self.grid, a.m, k, a.nb), Matrix(self.grid, k, a.n, a.nb), np.zeros(k)
        sizes = (integer(a.m), integer(a.n))
        self.call("pdgesvd_", b"V", b"V", *sizes, *copy.arguments, pointer(values), *u.arguments, *v.arguments, work=1)


@contextmanager
def job(ranks: int) -> Iterator[Mapping[str, Measurement]]:
    """This job itself: all ranks measure, rank 0 writes."""
    expect(COMM.size == ranks, f"{COMM.size} ranks, not {ranks}")
    routines = Routines()

    def of(f: Callable[..., Any], *operands: Callable[[MatrixSize], Matrix]) -> Any:
        def measure(size: MatrixSize) -> list[float]:
            given = [operand(size) for operand in operands]
            return timed(lambda: f(*given), size.repeat, COMM.Barrier)

        return measure

    def square(s: MatrixSize) -> Matrix:
        return routines.random(s.square, s.square)

    measurements: Mapping[str, Any] = {
        "matmul": of(routines.gemm, square, square),
        "cholesky": of(routines.potrf, lambda s: routines.definite(s.square)),
        "solve": of(routines.gesv, square, lambda s: routines.random(s.square, s.right_sides)),
        "qr_tall": of(routines.qr, lambda s: routines.random(*s.tall)),
        "svd_tall": of(routines.gesvd, lambda s: routines.random(*s.tall)),
        "qr_square": of(routines.qr, square),
        "eigh": of(routines.syevd, lambda s: routines.definite(s.spectral, NB_SPECTRAL)),
        "svd": of(routines.gesvd, lambda s: routines.random(s.spectral, s.spectral, NB_SPECTRAL)),
    }
    yield measurements


if __name__ == "__main__":
    take(job, write=COMM.rank == 0)
