"""Operations need no more memory than is said: of few, the process is limited; of all, what NumPy allocates is measured."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import resource
import tracemalloc

import numpy as np
import pytest

import mpicluster.array as xp
from mpicluster.array import limits

pytestmark = pytest.mark.spmd(4)

#: rows and columns: a block is 8 n**2 / p bytes, 34 MB, and a whole copy four times that
N = 4096
#: what MPI and the BLAS may take for themselves
SLACK = 24_000_000


def address_space() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def at_most(nbytes):
    """No more than so many bytes above what is in use."""
    gc.collect()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@functools.cache
def operands(size):
    """On so many ranks; kept for all tests of this module."""
    a = xp.random.default_rng(1).standard_normal((N, N))
    small = a[:300, :300]
    xp.linalg.cholesky(small @ small.T)  # BLAS and LAPACK keep what they take when they are first used
    return a, a + a.T + N * xp.eye(N)


#: operations, and how many blocks of n**2 / p elements each may take, its result among them
OPERATIONS = {
    "transposing into rows": (lambda a, s: a.T.redistribute(xp.Block(0)), 4),
    "elementwise": (lambda a, s: 2 * a + s, 3),
    "cholesky": (lambda a, s: xp.linalg.cholesky(s), 5),
    "lu": (lambda a, s: xp.linalg.lu_factor(a), 4),
    "mask": (lambda a, s: a[a > 0], 6),
    "sort along the divided axis": (lambda a, s: xp.sort(a, axis=0), 6),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_an_operation_keeps_within_a_limit_on_the_process(comm, name):
    """Whoever takes the memory: NumPy, BLAS or MPI."""
    operation, blocks = OPERATIONS[name]
    a, s = operands(comm.size)
    with at_most(blocks * 8 * N * N // comm.size + SLACK):
        result = operation(a, s)
    assert result.shape


def test_the_limit_bites(comm):
    """... so that the tests above say something: a whole copy does not fit."""
    a, _ = operands(comm.size)
    with at_most(SLACK), pytest.raises(MemoryError):
        np.ones((N, 2 * N))
    assert a.shape == (N, N)


# -- what the documentation says, in units of a block, is what NumPy's arrays take ---------------------------------------------------------

#: rows and columns: so many that a matrix is not copied whole
M = 768
BLOCK = 8 * M * M // 4
#: what Python, and functions that go through a block in pieces, take
PIECES = 1_300_000


@functools.cache
def small_operands():
    rng = xp.random.default_rng(1)
    a = rng.standard_normal((M, M))
    xp.fft.fft(xp.ones(8))  # modules are loaded when they are first used
    return {
        "a": a,
        "c": a + 1j * a,
        "s": a + a.T + M * xp.eye(M),
        "v": xp.reshape(a, (-1,)),
        "b": rng.standard_normal((M, 8)),
        "tall": xp.reshape(a, (-1, 16)),
        "lu": xp.linalg.lu_factor(a),
    }


def divided(function, x):
    """As of a matrix for which no rank has room."""
    before, limits.GATHERED_UP_TO = limits.GATHERED_UP_TO, 0
    try:
        return function(x)
    finally:
        limits.GATHERED_UP_TO = before


#: operations of docs/arrays.md and docs/linalg.md, and their memory as it is said there: on each rank, the result counted
SAID = {
    "2 * x + y": (lambda o: 2 * o["a"] + o["s"], 2),
    "x += y": (lambda o: o["a"].__iadd__(0.0), 0),
    "sum": (lambda o: xp.sum(o["a"], axis=0), 0),
    "mean": (lambda o: xp.mean(o["a"]), 0),
    "var": (lambda o: xp.var(o["a"]), 0),
    "max": (lambda o: xp.max(o["a"], axis=0), 0),
    "redistribute": (lambda o: o["a"].T.redistribute(xp.Block(0)), 2.5),
    "redistribute to a grid": (lambda o: o["a"].redistribute(xp.BlockCyclic2D((2, 2), (64, 64))), 2.5),
    "redistribute whole rows": (lambda o: o["a"].redistribute(xp.BlockCyclic(0, 64)), 1),
    "slice": (lambda o: o["a"][1:, :-1], 2),
    "mask": (lambda o: o["a"][o["a"] > -9], 2.25),  # the mask is a byte of each element
    "sort": (lambda o: xp.sort(o["v"]), 2),
    "sort, falling": (lambda o: xp.sort(o["v"], descending=True), 3),
    "sort along the divided axis": (lambda o: xp.sort(o["a"], axis=0), 3),
    "argsort": (lambda o: xp.argsort(o["v"]), 7),
    "unique_values": (lambda o: xp.unique_values(o["v"]), 5.25),
    "unique_all": (lambda o: xp.unique_all(o["v"]), 14),
    "nonzero": (lambda o: xp.nonzero(o["a"]), 4.25),
    "fft of a vector": (lambda o: xp.fft.fft(o["v"]), 2 * 4),
    "fft along the divided axis": (lambda o: xp.fft.fft(o["c"], axis=0), 2 * 4),
    "fftn": (lambda o: xp.fft.fftn(o["c"]), 2 * 4),
    "concat": (lambda o: xp.concat([o["a"], o["a"]]), 2),
    "roll": (lambda o: xp.roll(o["a"], 3, axis=0), 2),
    "flip": (lambda o: xp.flip(o["a"]), 2),
    "cumulative_sum": (lambda o: xp.cumulative_sum(o["a"], axis=0), 2),
    "random": (lambda o: xp.random.default_rng(1).random((M, M)), 1),
    "normal": (lambda o: xp.random.default_rng(1).standard_normal((M, M)), 1),
    "np.asarray": (lambda o: np.array(o["a"]), 4),
    "gather": (lambda o: o["a"].gather(0), 4),
    "matmul": (lambda o: o["a"] @ o["s"], 3),
    "matmul of columns": (lambda o: o["a"].T @ o["s"], 4),
    "matmul, of inner blocks": (lambda o: o["a"].T @ o["s"][:, : M // 8], 7),
    "cholesky": (lambda o: xp.linalg.cholesky(o["s"]), 3.5),
    "cholesky of columns": (lambda o: xp.linalg.cholesky(o["s"].T), 3.5),
    "lu_factor": (lambda o: xp.linalg.lu_factor(o["a"]), 2.5),
    "lu_factor of columns": (lambda o: xp.linalg.lu_factor(o["a"].T), 2.5),
    "lu": (lambda o: xp.linalg.lu(o["a"]), 6),
    "solve": (lambda o: xp.linalg.solve(o["a"], o["b"]), 2.5),
    "solve for a matrix": (lambda o: xp.linalg.solve(o["a"], o["s"]), 2.5 + 4),
    "solve, positive definite": (lambda o: xp.linalg.solve(o["s"], o["b"], assume_a="pos"), 3.5),
    "lu_solve": (lambda o: xp.linalg.lu_solve(o["lu"], o["s"]), 4),
    "inv": (lambda o: xp.linalg.inv(o["a"]), 5),
    "det": (lambda o: xp.linalg.det(o["a"].T), 2.5),
    "solve_triangular": (lambda o: xp.linalg.solve_triangular(o["s"], o["b"]), 1),
    "solve_triangular, by columns": (lambda o: xp.linalg.solve_triangular(o["s"].T, o["b"]), 2.5),
    "solve_triangular for a matrix": (lambda o: xp.linalg.solve_triangular(o["s"], o["a"]), 1 + 2),
    "qr": (lambda o: xp.linalg.qr(o["a"]), 5),
    "tall qr": (lambda o: xp.linalg.qr(o["tall"]), 2),
    "tall svd": (lambda o: xp.linalg.svd(o["tall"], full_matrices=False), 2),
    "least squares": (lambda o: xp.linalg.lstsq(o["tall"], o["tall"][:, :2]), 2.25),
    "pinv": (lambda o: xp.linalg.pinv(o["tall"]), 2.25),
    "eigh on one rank": (lambda o: xp.linalg.eigh(o["s"]), 3.25 * 4),
    "svd on one rank": (lambda o: xp.linalg.svd(o["a"]), 6.25 * 4),
    "eigh": (lambda o: divided(xp.linalg.eigh, o["s"]), 7.5 + 768 * 8 * M / BLOCK),
    "svd": (lambda o: divided(xp.linalg.svd, o["a"]), 10 + 768 * 8 * M / BLOCK),
    "norm": (lambda o: xp.linalg.matrix_norm(o["a"]), 0),
    "norm of order 1": (lambda o: xp.linalg.matrix_norm(o["a"], ord=1), 1),
    "trace": (lambda o: xp.linalg.trace(o["a"]), 0),
    "vecdot": (lambda o: xp.linalg.vecdot(o["a"], o["s"]), 0),
}


@contextlib.contextmanager
def measured():
    """How many bytes NumPy's arrays and Python's objects came to at most: set when it is left."""
    peak = []
    gc.collect()
    tracemalloc.start(1)
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", list(SAID))
def test_an_operation_takes_the_memory_that_is_said(comm, name):
    operation, blocks = SAID[name]
    given = small_operands()
    with measured() as peak:
        result = operation(given)
    assert peak[0] <= blocks * BLOCK + PIECES, f"{peak[0] / BLOCK:.2f} blocks, and {blocks} are said"
    del result


def test_files_take_the_memory_that_is_said(comm, tmp_path):
    """Blocks of rows are written from where they are, and read to where they will be."""
    a = small_operands()["a"]
    with measured() as peak:
        xp.save(tmp_path / "a.npy", a)
    assert peak[0] <= PIECES
    with measured() as peak:
        back = xp.load(tmp_path / "a.npy")
    assert peak[0] <= BLOCK + PIECES
    with measured() as peak:
        xp.save(tmp_path / "a.npy", a.T)
        back = xp.load(tmp_path / "a.npy", layout=xp.Block(1))
    assert peak[0] <= 2.5 * BLOCK + PIECES
    np.testing.assert_array_equal(back.T.local, a.local)
