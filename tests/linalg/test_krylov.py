"""Iterative solvers do what SciPy's do, end on all ranks together, and send what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

import mpicluster.array as xp
from mpicluster.linalg import arnoldi, bidiagonal, krylov, operators
from mpicluster.linalg.sparse import SparseRows

pytestmark = pytest.mark.spmd


def hermitian(eigenvalues, kind="d", seed=0):
    """A dense matrix with these eigenvalues."""
    rng = np.random.default_rng(seed)
    n = len(eigenvalues)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if kind in "FD" else 0))
    return ((q * eigenvalues) @ q.conj().T).astype(kind)


def vector(n, kind="d", seed=1):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) + (1j * rng.standard_normal(n) if kind in "FD" else 0)).astype(kind)


def laplacian(n):
    return sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()


def ways(a):
    """One matrix in all forms that an operator may have."""
    dense = a.toarray() if sparse.issparse(a) else a
    x = xp.asarray(dense)
    lone = xp.asarray(dense, layout=xp.Block(0, (0,) * (x.mesh.size - 1) + (len(dense),)))
    yield from (x, x.redistribute(xp.Block(1)), xp.asarray(dense, layout=xp.BlockCyclic(0, 2)), lone, dense, SparseRows.from_scipy(a))
    yield operators.LinearOperator(a.shape, lambda v: x @ v, lambda v: xp.conj(x.T) @ v)
    yield sparse_linalg.aslinearoperator(dense)
    yield sparse.csr_array(dense)


def close(x, expected, tolerance=1e-9):
    expected = np.asarray(expected)
    assert x.shape == expected.shape
    assert x.layout == xp.Block(0)
    np.testing.assert_allclose(np.asarray(x), expected, rtol=0, atol=tolerance * max(1, abs(expected).max(initial=0)))


def test_every_form_of_a_matrix_will_do(comm):
    a, b = hermitian(np.repeat([1.0, 2.0, 3.0, 5.0], 3)), vector(12)  # four steps lead to the solution
    exact = np.linalg.solve(a, b)
    for solve in (krylov.cg, krylov.minres, arnoldi.gmres):
        for way in ways(a):
            x, info = solve(way, xp.asarray(b), rtol=1e-12)
            assert info == 0
            close(x, exact)
        for right in (b, b[:, np.newaxis], xp.asarray(b, layout=xp.BlockCyclic(0, 2))):
            close(solve(xp.asarray(a), right, rtol=1e-12)[0], exact.reshape(right.shape))
    for way in ways(a):
        close(bidiagonal.lsqr(way, xp.asarray(b), atol=1e-13, btol=1e-13).x, exact)
    x = xp.asarray(a)
    close(krylov.cg(lambda v: x @ v, b, rtol=1e-12)[0], exact)


def test_iterations_and_results_are_those_of_scipy(comm):
    for kind in "dDf":
        rtol = 1e-4 if kind == "f" else 1e-9
        b, x0 = vector(40, kind), vector(40, kind, seed=2)
        positive, rng = hermitian(np.logspace(0, 2, 40), kind), np.random.default_rng(3)
        general = (rng.standard_normal((40, 40)) + 14 * np.eye(40) + (1j * rng.standard_normal((40, 40)) if kind == "D" else 0)).astype(
            kind
        )
        for matrix, ours, scipys, options in (
            (positive, krylov.cg, sparse_linalg.cg, {}),
            (positive, krylov.cg, sparse_linalg.cg, {"x0": x0, "atol": 1e-6}),
            (general, arnoldi.gmres, sparse_linalg.gmres, {"restart": 15}),
            (general, arnoldi.gmres, sparse_linalg.gmres, {"restart": 40, "x0": x0}),
        ):
            seen, theirs = [], []
            more = {"callback_type": "pr_norm"} if ours is arnoldi.gmres else {}
            x, info = ours(xp.asarray(matrix), xp.asarray(b), rtol=rtol, callback=lambda v, seen=seen: seen.append(1), **options, **more)
            y, _ = scipys(matrix, b, rtol=rtol, callback=lambda v, theirs=theirs: theirs.append(1), **options, **more)
            assert info == 0
            assert x.dtype == b.dtype
            assert abs(len(seen) - len(theirs)) <= 2, (kind, ours, options, len(seen), len(theirs))
            assert len(set(comm.allgather(len(seen)))) == 1
            close(x, y, 1e-2 if kind == "f" else 1e-6)


def test_minres_of_indefinite_and_singular_matrices(comm):
    indefinite = hermitian(np.r_[np.linspace(-9, -1, 15), np.linspace(1, 20, 15)])
    b = vector(30)
    for options in ({}, {"shift": 0.3}, {"x0": vector(30, seed=5)}):
        x, info = krylov.minres(xp.asarray(indefinite), b, rtol=1e-10, **options)
        assert info == 0
        close(x, sparse_linalg.minres(indefinite, b, rtol=1e-10, **options)[0], 1e-6)
        close(x, np.linalg.solve(indefinite - options.get("shift", 0) * np.eye(30), b), 1e-6)
    values = np.r_[np.zeros(3), np.linspace(-2, 5, 27)]
    singular = hermitian(values, "D")
    consistent = singular @ vector(30, "D")
    x, info = krylov.minres(xp.asarray(singular), consistent, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(singular @ np.asarray(x), consistent, atol=1e-7)
    x, info = krylov.minres(xp.asarray(singular), vector(30, "D"), rtol=1e-9)  # the least squares solution
    assert info == 0
    residual = vector(30, "D") - singular @ np.asarray(x)
    assert np.linalg.norm(singular @ residual) < 1e-5
    x, info = krylov.cg(xp.asarray(hermitian(np.maximum(values, 0))), hermitian(np.maximum(values, 0)) @ vector(30), rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(hermitian(np.maximum(values, 0)) @ np.asarray(x), hermitian(np.maximum(values, 0)) @ vector(30), atol=1e-7)


def test_several_right_sides_at_once(comm):
    a = hermitian(np.linspace(1, 30, 25), "D")
    b = np.stack([vector(25, "D"), np.zeros(25), 1e-8 * vector(25, "D", seed=7), a[:, 3]], axis=1)
    x, info = krylov.cg(xp.asarray(a), xp.asarray(b), rtol=1e-11, x0=b)
    assert info == 0
    close(x, np.linalg.solve(a, b), 1e-9)
    for i in range(4):
        scale = np.linalg.norm(b[:, i])
        assert np.linalg.norm(a @ np.asarray(x)[:, i] - b[:, i]) <= 2e-11 * scale


def test_preconditioners(comm):
    n = 60
    scale = np.logspace(0, 2, n)
    a = sparse.csr_array(scale[:, np.newaxis] * laplacian(n).toarray() * scale)
    b = vector(n)
    exact = np.linalg.solve(a.toarray(), b)
    for matrix in (SparseRows.from_scipy(a), xp.asarray(a.toarray()), xp.asarray(a.toarray(), layout=xp.Block(1))):
        for make in (operators.jacobi, operators.block_jacobi):
            m, steps = make(matrix), []
            for solve, options in ((krylov.cg, {}), (krylov.minres, {}), (arnoldi.gmres, {"restart": n})):
                x, info = solve(matrix, b, M=m, rtol=1e-9, callback=lambda v, steps=steps: steps.append(1), **options)
                assert info == 0
                close(x, exact, 1e-4)
            assert len(steps) < 4 * n
            y = vector((n, 2))
            close(m.matmat(xp.asarray(y)), np.stack([np.asarray(m.matvec(xp.asarray(y[:, i]))) for i in range(2)], axis=1))
    v, w, g = vector(9, "D"), vector(9, "D", seed=4), vector((9, 9), "D") + 5 * np.eye(9)
    for make in (operators.jacobi, operators.block_jacobi):
        for matrix in (xp.asarray(g), SparseRows.from_scipy(g)):
            m = make(matrix)
            forth, back = np.asarray(m.matvec(xp.asarray(v))), np.asarray(m.rmatvec(xp.asarray(w)))
            np.testing.assert_allclose(np.vdot(w, forth), np.vdot(back, v))
    for wrong in (xp.zeros((4, 4)), SparseRows.from_scipy(sparse.csr_array((4, 4)))):
        for make in (operators.jacobi, operators.block_jacobi):
            with pytest.raises(np.linalg.LinAlgError):
                make(wrong)


def test_lsqr(comm):
    rng = np.random.default_rng(0)
    for shape, kind in (((40, 15), "d"), ((15, 40), "d"), ((30, 30), "D"), ((1, 4), "d"), ((40, 15), "f")):
        a = (rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind == "D" else 0)).astype(kind)
        b = vector(shape[0], kind)
        for matrix in (xp.asarray(a), xp.asarray(a, layout=xp.Block(1)), SparseRows.from_scipy(a)):
            ours = bidiagonal.lsqr(matrix, b, atol=1e-12, btol=1e-12)
            close(ours.x, np.linalg.lstsq(a, b, rcond=None)[0], 1e-3 if kind == "f" else 1e-7)
        if kind == "d":
            for options in ({}, {"damp": 1.5, "calc_var": True}, {"x0": np.ones(shape[1])}, {"damp": 0.5, "x0": np.ones(shape[1])}):
                ours, scipys = bidiagonal.lsqr(xp.asarray(a), b, **options), sparse_linalg.lsqr(a, b, **options)
                close(ours.x, scipys[0], 1e-6)
                assert (ours.istop, ours.itn) == scipys[1:3]
                np.testing.assert_allclose(ours[3:9], scipys[3:9], rtol=1e-4, atol=1e-6)
                close(ours.var, scipys[9], 1e-6)
    zero = bidiagonal.lsqr(xp.ones((5, 3)), np.zeros(5))
    assert (zero.istop, zero.itn) == (0, 0)
    close(zero.x, np.zeros(3))
    assert bidiagonal.lsqr(xp.asarray(rng.standard_normal((9, 6))), vector(9), atol=0, btol=0, conlim=0, iter_lim=2).istop == 7
    assert bidiagonal.lsqr(xp.asarray(hermitian(np.logspace(0, -12, 9))), vector(9), atol=0, btol=0, conlim=1e3).istop == 3


def test_what_cannot_converge(comm):
    n = 30
    a, b = laplacian(n), vector(n)
    matrix = SparseRows.from_scipy(a)
    for solve, limit in ((krylov.cg, 4), (krylov.minres, 4), (arnoldi.gmres, 2)):
        x, info = solve(matrix, b, rtol=1e-12, maxiter=limit, **({"restart": 3} if solve is arnoldi.gmres else {}))
        assert info == limit
        assert np.isfinite(np.asarray(x)).all()
    cyclic = np.roll(np.eye(8), 1, axis=0)  # of which a cycle that is shorter than 8 gains nothing
    assert arnoldi.gmres(xp.asarray(cyclic), np.eye(8)[0], restart=4, maxiter=3)[1] == 3
    x, info = arnoldi.gmres(xp.asarray(cyclic), np.eye(8)[0], restart=8)
    assert info == 0
    close(x, np.eye(8)[7])
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])  # p^T A p is 0
    assert krylov.cg(xp.asarray(swap), np.array([1.0, 0.0]))[1] > 0
    singular = np.diag([1.0, 2.0, 0.0])
    assert arnoldi.gmres(xp.asarray(singular), np.ones(3))[1] > 0
    close(arnoldi.gmres(xp.asarray(singular), np.array([1.0, 1.0, 0.0]))[0], np.array([1.0, 0.5, 0.0]))
    for solve in (krylov.cg, arnoldi.gmres):
        assert solve(xp.asarray(np.eye(3)), np.array([1.0, np.nan, 1.0]))[1] > 0
    with pytest.raises(ValueError, match="indefinite preconditioner"):
        krylov.minres(matrix, b, M=xp.asarray(-np.eye(n)))


def test_trivial_systems(comm):
    for solve in (krylov.cg, krylov.minres, arnoldi.gmres):
        for start in (None, np.ones(5)):
            x, info = solve(xp.eye(5), np.zeros(5), x0=start)
            assert info == 0
            close(x, np.zeros(5))
        x, info = solve(xp.eye(5), np.arange(5), x0=np.arange(5.0))
        assert info == 0
        close(x, np.arange(5.0))
        close(solve(xp.eye(5) * 3, np.arange(5.0))[0], np.arange(5) / 3)
        close(solve(xp.ones((1, 1)) * 2, np.ones(1))[0], np.full(1, 0.5))
        close(solve(xp.zeros((0, 0)), np.zeros(0))[0], np.zeros(0))
        close(solve(np.diag([1, 2, 4]), np.array([1, 2, 4]), rtol=1e-12)[0], np.ones(3))


def test_what_is_wrong_is_raised_on_all_ranks(comm):
    a, b = xp.eye(4), xp.ones(4)
    for solve in (krylov.cg, krylov.minres, arnoldi.gmres):
        with pytest.raises(ValueError, match="square"):
            solve(xp.ones((4, 3)), b)
        with pytest.raises(ValueError, match="incompatible"):
            solve(a, xp.ones(3))
        with pytest.raises(ValueError, match="incompatible"):
            solve(a, b, x0=xp.ones(3))
        with pytest.raises(ValueError, match="different shapes"):
            solve(a, b, M=xp.eye(3))
        with pytest.raises(ValueError, match="rtol"):
            solve(a, b, rtol=-1)
        with pytest.raises(ValueError, match="made an array"):
            solve(operators.LinearOperator((4, 4), lambda v: xp.ones(3), dtype="d"), b)
        with pytest.raises(TypeError, match="no linear operator"):
            solve("A", b)
    with pytest.raises(ValueError, match="callback_type"):
        arnoldi.gmres(a, b, callback_type="legacy")
    with pytest.raises(NotImplementedError):
        bidiagonal.lsqr(operators.LinearOperator((4, 4), lambda v: v), b)
    with pytest.raises(ValueError, match="incompatible"):
        bidiagonal.lsqr(a, xp.ones(5))
    close(krylov.cg(a, b)[0], np.ones(4))


def test_how_many_folds_an_iteration_has(comm):
    n = 50
    a = SparseRows.from_scipy(laplacian(n))
    diagonal = xp.asarray(np.linspace(1, 40, n))
    matrix = operators.LinearOperator((n, n), lambda v: diagonal * v, lambda v: diagonal * v, dtype="d")
    b, traffic = xp.asarray(vector(n)), a.mesh.traffic
    one = 0 if comm.size == 1 else 1
    steps = []
    for solve, folds in ((krylov.cg, 2), (krylov.minres, 2)):
        spent = []
        for limit in (5, 11):
            traffic.clear()
            solve(matrix, b, rtol=1e-14, maxiter=limit)
            spent.append(traffic.messages.get("allgather", 0))
        assert spent[1] - spent[0] == 6 * folds * one
        assert set(traffic.messages) <= {"allgather"}
    traffic.clear()
    arnoldi.gmres(matrix, b, rtol=1e-10, restart=50, callback=steps.append)
    assert traffic.messages.get("allgather", 0) == (1 + 2 * len(steps) + 1) * one
    spent = []
    for limit in (5, 11):
        traffic.clear()
        bidiagonal.lsqr(matrix, b, atol=0, btol=0, conlim=0, iter_lim=limit)
        spent.append(traffic.messages.get("allgather", 0))
    assert spent[1] - spent[0] == 12 * one
    traffic.clear()
    krylov.cg(a, b, rtol=1e-14, maxiter=5)
    neighbours = (comm.rank > 0) + (comm.rank < comm.size - 1)
    assert traffic.messages.get("send", 0) == 5 * neighbours


def test_operators_of_functions(comm):
    a = xp.asarray(vector((6, 4), "D"))
    operator = operators.LinearOperator((6, 4), lambda v: a @ v, lambda v: xp.conj(a.T) @ v)
    wide, tall = vector((4, 3)), vector((6, 2))
    np.testing.assert_allclose(np.asarray(operator.matmat(xp.asarray(wide))), np.asarray(a) @ wide)
    np.testing.assert_allclose(np.asarray(operator.rmatmat(xp.asarray(tall))), np.asarray(a).conj().T @ tall)
    np.testing.assert_allclose(np.asarray(operator @ xp.asarray(wide[:, 0])), np.asarray(a) @ wide[:, 0])
    assert operators.aslinearoperator(operator) is operator
    with pytest.raises(ValueError, match="ndim == 2"):
        operators.aslinearoperator(xp.ones(3))
