"""Eigenvalues from products alone are those of dense methods; eigenvectors are orthonormal; all ranks end together."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

import mpicluster.array as xp
from mpicluster.linalg import lanczos, operators, preconditioned
from mpicluster.linalg.sparse import SparseRows

pytestmark = pytest.mark.spmd


def hermitian(eigenvalues, kind="d", seed=0):
    rng = np.random.default_rng(seed)
    n = len(eigenvalues)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if kind in "FD" else 0))
    return ((q * eigenvalues) @ q.conj().T).astype(kind)


def are_pairs(a, w, v, tolerance):
    """Whether these are eigenvalues and orthonormal eigenvectors, equal on all ranks and lying where they should."""
    assert w.layout == xp.Replicated()
    assert v.layout == xp.Block(0)
    values, vectors = np.asarray(w), np.asarray(v)
    size = abs(np.linalg.norm(a, 2))
    np.testing.assert_allclose(a @ vectors, vectors * values, rtol=0, atol=tolerance * size)
    np.testing.assert_allclose(vectors.conj().T @ vectors, np.eye(len(values)), rtol=0, atol=tolerance)
    assert len(set(w.mesh.comm.allgather(values.tobytes()))) == 1
    return values


def test_eigsh_of_both_ends(comm):
    eigenvalues = np.r_[-9, -7, -4, np.linspace(-1, 2, 40), 5, 8, 10]
    for kind in "dDf":
        a = hermitian(eigenvalues, kind)
        eps = np.finfo(kind).eps
        for which, wanted in (("LM", [-9, -7, 8, 10]), ("LA", [2, 5, 8, 10]), ("SA", [-9, -7, -4, -1]), ("BE", [-9, -7, 8, 10])):
            w, v = lanczos.eigsh(xp.asarray(a), 4, which=which)
            values = are_pairs(a, w, v, 100 * eps)
            np.testing.assert_allclose(values, wanted, rtol=0, atol=1000 * eps)
            assert v.dtype == a.dtype
            assert w.dtype == v.local.real.dtype
    alone = lanczos.eigsh(xp.asarray(a, layout=xp.Block(1)), 3, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.asarray(alone), [5, 8, 10], atol=1e-4)


def test_eigsh_of_a_sparse_matrix_is_that_of_scipy(comm):
    n = 150
    a = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()
    exact = 2 - 2 * np.cos(np.pi * np.arange(n, n - 4, -1) / (n + 1))
    for options in ({}, {"ncv": 40}, {"v0": np.arange(1.0, n + 1)}, {"tol": 1e-6}):
        w, v = lanczos.eigsh(SparseRows.from_scipy(a), 4, which="LA", **options)
        values = are_pairs(a.toarray(), w, v, 1e-5)
        np.testing.assert_allclose(values, exact[::-1], rtol=1e-9 if "tol" in options else 1e-13)
    np.testing.assert_allclose(values, sparse_linalg.eigsh(a, 4, which="LA")[0], rtol=1e-9)


def test_eigsh_of_multiple_eigenvalues_and_whole_spectra(comm):
    for eigenvalues, k in ((np.ones(12), 3), (np.r_[np.ones(20), 5, 5, 7], 4), (np.zeros(5), 2), (np.arange(6.0), 6), (np.ones(1), 1)):
        a = hermitian(eigenvalues)
        w, v = lanczos.eigsh(xp.asarray(a), k, which="LA")
        np.testing.assert_allclose(are_pairs(a, w, v, 1e-13), np.sort(eigenvalues)[-k:], atol=1e-13)


def test_eigsh_that_does_not_converge_says_so_on_all_ranks(comm):
    a = xp.asarray(hermitian(np.linspace(0, 1, 60) ** 3))
    with pytest.raises(sparse_linalg.ArpackNoConvergence, match="2 iterations") as error:
        lanczos.eigsh(a, 3, which="SA", maxiter=2)
    assert error.value.eigenvectors.shape == (60, len(np.asarray(error.value.eigenvalues)))
    for wrong in ({"k": 0}, {"k": 61}, {"which": "SM"}, {"ncv": 3, "k": 3}, {"ncv": 61}, {"v0": np.ones(3)}):
        with pytest.raises(ValueError):
            lanczos.eigsh(a, **wrong)
    with pytest.raises(ValueError, match="square"):
        lanczos.eigsh(xp.ones((3, 4)), 1)
    with pytest.raises(np.linalg.LinAlgError):
        lanczos.eigsh(xp.asarray(np.full((30, 30), np.nan)), 2)


def test_each_step_of_lanczos_has_two_folds(comm):
    n, steps = 80, []
    diagonal = xp.asarray(np.r_[np.linspace(0, 1, n - 3), 3, 4, 5])

    def product(v):
        steps.append(1)
        return diagonal * v

    traffic = diagonal.mesh.traffic
    traffic.clear()
    lanczos.eigsh(operators.LinearOperator((n, n), product, dtype="d"), 3)
    if comm.size > 1:
        assert traffic.messages["allgather"] == 2 * (1 + len(steps))  # the first vector is normalised
        assert traffic.messages["bcast"] <= len(steps) // 8 + 1


def test_lobpcg_of_both_ends(comm):
    n = 60
    rng = np.random.default_rng(1)
    for kind in "dDf":
        a = hermitian(np.r_[-9, -7, -6, -6, np.linspace(-1, 2, n - 8), 7, 8, 8, 10], kind)
        start = rng.standard_normal((n, 4)).astype(a.real.dtype)
        tol = 1e-3 if kind == "f" else 1e-8
        for largest, wanted in ((True, [10, 8, 8, 7]), (False, [-9, -7, -6, -6])):
            for layout in (xp.Block(0), xp.Block(1)):
                w, v = preconditioned.lobpcg(xp.asarray(a, layout=layout), start, tol=tol, maxiter=80, largest=largest)
                values = are_pairs(a, w, v, 10 * tol)
                np.testing.assert_allclose(values, wanted, rtol=0, atol=tol)
                assert v.dtype == a.dtype


def test_a_preconditioner_makes_lobpcg_faster(comm):
    n = 400
    a = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()
    exact = 2 - 2 * np.cos(np.pi * np.arange(1, 4) / (n + 1))
    matrix, start = SparseRows.from_scipy(a), np.random.default_rng(0).standard_normal((n, 3))
    m = operators.block_jacobi(SparseRows.from_scipy(a + 1e-5 * sparse.eye_array(n)))
    w, v = preconditioned.lobpcg(matrix, start, M=m, tol=1e-9, maxiter=60, largest=False)
    np.testing.assert_allclose(are_pairs(a.toarray(), w, v, 1e-9), exact, rtol=1e-6)
    with pytest.warns(UserWarning, match="above the tolerance"):
        preconditioned.lobpcg(matrix, start, tol=1e-9, maxiter=60, largest=False)


def test_lobpcg_where_little_room_is_left(comm):
    for n, k in ((1, 1), (2, 1), (3, 3), (6, 2), (7, 3)):
        a = hermitian(np.arange(1.0, n + 1))
        w, v = preconditioned.lobpcg(
            lambda x, a=a: xp.asarray(a) @ x, np.random.default_rng(0).standard_normal((n, k)), tol=1e-10, maxiter=90
        )
        np.testing.assert_allclose(are_pairs(a, w, v, 1e-10), np.arange(n, n - k, -1), rtol=1e-12)
    a = hermitian(np.arange(1.0, 21))
    dependent = np.ones((20, 3))
    w, v = preconditioned.lobpcg(xp.asarray(a), dependent, tol=1e-9, maxiter=90)
    np.testing.assert_allclose(are_pairs(a, w, v, 1e-9), [20, 19, 18], rtol=1e-12)


def test_what_is_wrong_with_lobpcg_is_raised_on_all_ranks(comm):
    a = xp.eye(6)
    for wrong in (np.ones(6), np.ones((5, 2)), np.ones((6, 0)), np.ones((6, 7))):
        with pytest.raises(ValueError):
            preconditioned.lobpcg(a, wrong)
    with pytest.raises(ValueError, match="different shapes"):
        preconditioned.lobpcg(a, np.ones((6, 1)), M=xp.eye(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w, _ = preconditioned.lobpcg(a, np.ones((6, 1)))
    assert float(w[0]) == pytest.approx(1)


def test_an_iteration_of_lobpcg_has_three_folds(comm):
    n = 90
    diagonal = xp.asarray(np.arange(1.0, n + 1)[:, np.newaxis])
    traffic, spent = diagonal.mesh.traffic, []
    for limit in (3, 7):
        traffic.clear()
        with pytest.warns(UserWarning, match="."):
            preconditioned.lobpcg(lambda x: diagonal * x, np.random.default_rng(0).standard_normal((n, 2)), tol=1e-12, maxiter=limit)
        spent.append((traffic.messages.get("allgather", 0), traffic.messages.get("bcast", 0)))
    if comm.size > 1:
        assert (spent[1][0] - spent[0][0], spent[1][1] - spent[0][1]) == (12, 8)
