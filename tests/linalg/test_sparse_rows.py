"""Sparse matrices in blocks of rows multiply as SciPy's do, and send only what is needed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import mpicluster.array as xp
from mpicluster.linalg.sparse import SparseRows

pytestmark = pytest.mark.spmd


def random(shape, density=0.3, kind="float64", seed=1):
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal(shape) * (rng.random(shape) < density)
    return sparse.csr_array((dense + 1j * dense[::-1] if np.dtype(kind).kind == "c" else 5 * dense).astype(kind))


def vector(n, kind="float64", seed=2):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return (x + 1j * rng.standard_normal(n) if np.dtype(kind).kind == "c" else 5 * x).astype(kind)


def same(result, expected):
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-5 if expected.dtype.char in "fF" else 1e-12, atol=1e-5)


def uneven(n, size):
    """All but one row on the last rank."""
    return (min(1, n),) + (0,) * (size - 2) + (n - min(1, n),) if size > 1 else (n,)


def rows_of(matrix, sizes, rank):
    first = sum(sizes[:rank])
    return matrix[first : first + sizes[rank]]


def test_products(comm):
    types = ("float64", "float64"), ("complex128", "float32"), ("float32", "complex64"), ("int32", "int32")
    for shape in ((12, 12), (7, 11), (11, 7), (1, 5), (5, 1), (2, 2), (0, 3), (3, 0)):
        for kind, other in types[: 4 if shape == (7, 11) else 1]:
            a = random(shape, kind=kind)
            by_rows = SparseRows.from_local(rows_of(a, uneven(shape[0], comm.size), comm.rank))
            for matrix in (SparseRows.from_scipy(a), by_rows):
                assert matrix.shape == shape
                assert matrix.nnz == a.nnz
                for layout in (xp.Replicated(), xp.Block(0), xp.BlockCyclic(0, 2)):
                    x, y = vector(shape[1], other), vector(shape[0], other)
                    same(matrix @ xp.asarray(x, layout=layout), a @ x)
                    same(matrix.rmatvec(xp.asarray(y, layout=layout)), a.conj().T @ y)
                wide, tall = vector((shape[1], 3), other), vector((shape[0], 2), other)
                same(matrix.matmat(xp.asarray(wide)), a @ wide)
                same(matrix.rmatmat(xp.asarray(tall, layout=xp.Block(1))), a.conj().T @ tall)


def test_a_band_needs_one_element_of_each_neighbour(comm):
    n, p = 6 * comm.size, comm.size
    a = SparseRows.from_scipy(sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n)))
    x = xp.asarray(vector(n))
    neighbours = (comm.rank > 0) + (comm.rank < p - 1)
    x.mesh.traffic.clear()
    a @ x
    assert x.mesh.traffic.nbytes == ({"send": 8 * neighbours} if neighbours else {})
    x.mesh.traffic.clear()
    a.rmatvec(x)
    assert x.mesh.traffic.messages == ({"send": neighbours} if neighbours else {})
    x.mesh.traffic.clear()
    SparseRows.from_scipy(sparse.eye_array(n)) @ x
    assert "send" not in x.mesh.traffic.messages


def test_from_triplets_of_any_rank(comm):
    shape = (9, 6)
    rng = np.random.default_rng(comm.rank)
    count = 4 * comm.rank  # the first rank has none
    row, column, value = rng.integers(0, 9, count), rng.integers(0, 6, count), rng.standard_normal(count)
    matrix = SparseRows.from_coo(value, (row, column), shape)
    everything = [np.concatenate(part) for part in zip(*comm.allgather((row, column, value)), strict=True)]
    expected = sparse.coo_array((everything[2], (everything[0], everything[1])), shape=shape).toarray()
    same(matrix.to_dense(), expected)
    same(matrix.transpose().to_dense(), expected.T)
    assert matrix.layout == xp.Block(0)


def test_diagonal_dense_and_local(comm):
    for shape in ((8, 8), (5, 9), (9, 5), (1, 1), (0, 2)):
        a = random(shape, 0.6, "complex128")
        sizes = uneven(shape[0], comm.size)
        for matrix in (SparseRows.from_scipy(a), SparseRows.from_local(rows_of(a, sizes, comm.rank))):
            same(matrix.diagonal(), a.diagonal())
            same(matrix.to_dense(), a.toarray())
            same(matrix.transpose().to_dense(), a.toarray().T)
        np.testing.assert_array_equal(matrix.local.toarray(), rows_of(a, sizes, comm.rank).toarray())
        assert "SparseRows" in repr(matrix)


def test_duplicates_and_stored_zeros(comm):
    given = sparse.coo_array(([1.0, 2.0, 0.0, 5.0], ([0, 0, 1, 2], [1, 1, 0, 2])), shape=(3, 3))
    matrix = SparseRows.from_scipy(given)
    same(matrix.to_dense(), given.toarray())
    same(matrix @ xp.ones(3), given.toarray() @ np.ones(3))


def test_what_is_wrong_on_one_rank_is_raised_on_all(comm):
    last = comm.rank == comm.size - 1
    with pytest.raises(ValueError, match="outside the shape"):
        SparseRows.from_coo([1.0], ([3 if last else 0], [0]), (3, 3))
    with pytest.raises(ValueError, match="one length"):
        SparseRows.from_coo([1.0], ([0, 1] if last else [0], [0]), (3, 3))
    with pytest.raises(ValueError, match="integers"):
        SparseRows.from_coo([1.0], ([0.0] if last else [0], [0]), (3, 3))
    with pytest.raises(ValueError):
        SparseRows.from_local(np.ones(3) if last else np.ones((2, 3)))
    if comm.size > 1:
        with pytest.raises(ValueError, match="columns"):
            SparseRows.from_local(np.ones((2, 4 if last else 3)))
        with pytest.raises(ValueError, match="types"):
            SparseRows.from_local(np.ones((2, 3), "float32" if last else "float64"))
        with pytest.raises(ValueError, match="types"):
            SparseRows.from_coo(np.ones(1, "float32" if last else "float64"), ([0], [0]), (3, 3))
    matrix = SparseRows.from_scipy(sparse.eye_array(4))
    for x in (xp.ones(3), xp.ones((4, 2, 2)), xp.ones(())):
        with pytest.raises(ValueError, match="cannot be multiplied"):
            matrix @ x
    same(matrix @ xp.ones(4), np.ones(4))


def test_a_dense_matrix_that_is_too_large_is_not_made(comm):
    n = 200_000
    matrix = SparseRows.from_local(sparse.csr_array((n // comm.size, n)))
    with pytest.raises(ValueError, match="bytes on one rank"):
        matrix.to_dense()
