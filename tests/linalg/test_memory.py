"""Operations need no more memory than is said: they are run with a limit on the address space, and the result is looked at."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import resource

import numpy as np
import pytest

import mpicluster.array as xp

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
    rng = xp.random.default_rng(1)
    a = rng.standard_normal((N, N))
    return a, a @ a.T + N * xp.eye(N)


#: operations, and how many blocks of n**2 / p elements each may take, its result among them
OPERATIONS = {
    "transposing into rows": (lambda a, s: a.T.redistribute(xp.Block(0)), 4),
    "block-cyclic": (lambda a, s: a.redistribute(xp.BlockCyclic(0, 64)), 4),
    "elementwise": (lambda a, s: 2 * a + s, 3),
    "matmul": (lambda a, s: a @ s, 4),
    "matmul of columns": (lambda a, s: a.T @ s, 5),
    "cholesky": (lambda a, s: xp.linalg.cholesky(s), 5),
    "solve": (lambda a, s: xp.linalg.solve(a, s[:, :8]), 5),
    "lu": (lambda a, s: xp.linalg.lu_factor(a), 4),
    "slices": (lambda a, s: a[1:, :-1], 4),
    "mask": (lambda a, s: a[a > 0], 6),
    "sort along the divided axis": (lambda a, s: xp.sort(a, axis=0), 6),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_an_operation_keeps_within_its_bound(comm, name):
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
