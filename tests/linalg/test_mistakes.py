"""What a person gets wrong is the error that NumPy's users know, on every rank alike, and the next operation works."""

from __future__ import annotations

import numpy as np
import pytest
from dense_cases import small_up_to

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

N = 70
LAYOUTS = (xp.Block(0), xp.Block(1), xp.Replicated(), xp.BlockCyclic(0, 16))


def works(comm):
    a = xp.eye(N) * 2.0
    x = xp.linalg.solve(a, xp.ones(N))
    assert float(xp.sum(x)) == N / 2
    assert comm.allreduce(1) == comm.size


def refused(comm, error, match, function, *operands, **options):
    with small_up_to(8):
        with pytest.raises(error, match=match) as raised:
            function(*operands, **options)
        assert len(set(comm.allgather(str(raised.value)))) == 1
        works(comm)


def test_singular_matrices(comm):
    zero_column = np.random.default_rng(0).standard_normal((N, N))
    zero_column[:, N // 2] = 0
    for a in (np.zeros((N, N)), zero_column, zero_column.T.copy(), np.ones((N, N), np.complex64)):
        for layout in LAYOUTS:
            x = xp.asarray(a, layout=layout)
            refused(comm, np.linalg.LinAlgError, "Singular matrix", xp.linalg.solve, x, xp.ones(N))
            refused(comm, np.linalg.LinAlgError, "Singular matrix", xp.linalg.inv, x)
            with small_up_to(8):
                assert abs(complex(xp.linalg.det(x))) == 0
    triangle = np.tril(np.ones((N, N)))
    triangle[N - 3, N - 3] = 0
    refused(comm, np.linalg.LinAlgError, "ingular", xp.linalg.solve_triangular, xp.asarray(triangle), xp.ones(N), lower=True)


def test_matrices_that_are_not_positive_definite(comm):
    for where, value in ((0, -1.0), (N - 1, -1.0), (N // 2, 0.0), (N // 2, np.nan)):
        a = np.eye(N)
        a[where, where] = value
        for layout in LAYOUTS:
            x = xp.asarray(a, layout=layout)
            refused(comm, np.linalg.LinAlgError, "not positive definite", xp.linalg.cholesky, x)
            refused(comm, np.linalg.LinAlgError, "not positive definite", xp.linalg.cholesky, x, upper=True)


def test_shapes_that_do_not_fit(comm):
    square, wide, vector = xp.ones((N, N)), xp.ones((N, N + 1)), xp.ones(N + 1)
    for function in (xp.linalg.inv, xp.linalg.det, xp.linalg.cholesky, xp.linalg.eigh, xp.linalg.eigvals):
        refused(comm, np.linalg.LinAlgError, "square", function, wide)
        refused(comm, np.linalg.LinAlgError, "two-dimensional", function, vector)
    refused(comm, ValueError, "", xp.matmul, square, xp.ones((N + 1, 3)))
    refused(comm, ValueError, "", xp.linalg.solve, square, xp.ones((N + 1, 3)))
    refused(comm, np.linalg.LinAlgError, "Incompatible", xp.linalg.lstsq, wide, vector)
    for function in (xp.linalg.svd, xp.linalg.qr, xp.linalg.svdvals):
        refused(comm, np.linalg.LinAlgError, "two-dimensional", function, vector)
    refused(comm, ValueError, "broadcast", lambda x, y: x + y, square, wide)


def test_what_is_not_a_number(comm):
    a = np.eye(N)
    a[N - 1, 0] = np.nan
    for layout in LAYOUTS:
        x = xp.asarray(a, layout=layout)
        for function in (xp.linalg.svd, xp.linalg.svdvals, xp.linalg.eigh, xp.linalg.eigvalsh, xp.linalg.pinv):
            refused(comm, np.linalg.LinAlgError, "converge", function, x)
        with small_up_to(8):
            assert np.isnan(np.asarray(xp.linalg.qr(x).R)).any()
            assert np.isnan(np.asarray(xp.linalg.solve(x, xp.ones(N)))).any()


def test_arrays_of_different_communicators(comm):
    part = comm.Split(comm.rank % 2)
    try:
        here, there = xp.ones((N, N), comm=part), xp.ones((N, N), comm=comm)
        if comm.size == 1:  # the same ranks: the same place
            assert float(xp.sum(here + there)) == 2 * N * N
            return
        for function in (xp.add, xp.matmul, xp.linalg.solve, lambda x, y: xp.concat([x, y]), lambda x, y: xp.linalg.lstsq(x, y)):
            with pytest.raises(ValueError, match="different ranks"):
                function(here, there)
        assert float(xp.sum(here @ here)) == N**3
        works(comm)
    finally:
        part.Free()
