"""QR, SVD, least squares and eigenvalues at the textbook bounds, of matrices that are hard for them, in whatever layout."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pytest
from dense_cases import small_up_to

import mpicluster.array as xp
from mpicluster.array import limits

pytestmark = pytest.mark.spmd

#: in units of n u ||A||, where n is the longer side
BOUND = 20


@functools.cache
def cases():
    """Tall, wide and square; graded, of condition 1e12, of low rank, of zeros. Each with its singular values."""
    rng = np.random.default_rng(3)
    found = [rng.standard_normal(shape) for shape in [(1, 1), (5, 3), (3, 7), (150, 11), (11, 130), (90, 90), (101, 87), (60, 140)]]
    left, _ = np.linalg.qr(rng.standard_normal((100, 30)))
    right, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    found.append((left * np.logspace(0, -12, 30)) @ right)
    found.append(left[:, :7] @ right[:7])
    found.append(rng.standard_normal((90, 90)) * np.logspace(0, -8, 90))
    found.append(np.zeros((80, 10)))
    found.append((rng.standard_normal((100, 8)) + 1j * rng.standard_normal((100, 8))).astype(np.complex64))
    found.append(rng.standard_normal((85, 85)) + 1j * rng.standard_normal((85, 85)))
    return [(a, np.linalg.svd(a, compute_uv=False)) for a in found]


def divided(test):
    """Matrices of more than 8 rows are not copied to every rank: these are large enough for several panels on each."""

    @functools.wraps(test)
    def body(comm):
        with small_up_to(8):
            test(comm)

    return body


def bound(a):
    return BOUND * max(a.shape) * np.finfo(a.dtype).eps * max(np.linalg.norm(a), np.finfo(a.dtype).tiny)


def unit(q):
    return BOUND * max(q.shape) * np.finfo(q.dtype).eps


def layouts(a):
    yield xp.Block(0)
    yield xp.Block(1)
    if max(a.shape) < 50 or a.shape == (101, 87):
        yield from (xp.Replicated(), xp.BlockCyclic(0, 2))


def near(got, want, tolerance):
    assert np.linalg.norm(got - want) <= tolerance, (np.linalg.norm(got - want), tolerance)


@divided
def test_qr(comm):
    for a, _ in cases():
        for layout in layouts(a):
            q, r = (np.asarray(part) for part in xp.linalg.qr(xp.asarray(a, layout=layout)))
            near(q @ r, a, bound(a))
            near(q.conj().T @ q, np.eye(q.shape[1]), unit(q))
            below = np.tril(r, -1)
            near(below, 0, 0)
            assert not np.signbit([below.real, below.imag]).any()  # zeros that are exactly those of triu


@divided
def test_svd(comm):
    for a, expected in cases():
        for layout in layouts(a):
            x = xp.asarray(a, layout=layout)
            u, s, vh = (np.asarray(part) for part in xp.linalg.svd(x, full_matrices=False))
            near((u * s) @ vh, a, bound(a))
            near(u.conj().T @ u, np.eye(u.shape[1]), unit(u))
            near(vh @ vh.conj().T, np.eye(vh.shape[0]), unit(vh))
            near(s, expected, bound(a))
            near(np.asarray(xp.linalg.svdvals(x)), expected, bound(a))
            assert int(xp.linalg.matrix_rank(x)) == np.linalg.matrix_rank(a)


@divided
def test_pseudo_inverse_and_least_squares(comm):
    rng = np.random.default_rng(4)
    for a, _ in cases():
        if a.dtype != np.float64:
            continue
        b = rng.standard_normal((a.shape[0], 3))
        x = xp.asarray(a)
        want = np.linalg.lstsq(a, b, rcond=None)
        solution, residuals, rank, s = xp.linalg.lstsq(x, xp.asarray(b))
        condition = s.local[0] / s.local[rank - 1] if rank else 1.0
        assert rank == want[2]
        tolerance = BOUND * max(a.shape) * np.finfo(float).eps * condition * (np.linalg.norm(want[0]) + condition)
        near(np.asarray(solution), want[0], tolerance if rank else 0)
        assert residuals.shape == want[1].shape
        p = np.asarray(xp.linalg.pinv(x))
        near(a @ p @ a, a, bound(a) * max(condition, 1))


@divided
def test_symmetric_eigenvalues(comm):
    rng = np.random.default_rng(5)
    q, _ = np.linalg.qr(rng.standard_normal((90, 90)))
    for values in (np.arange(90.0), np.repeat([1.0, 1.0 + 1e-13, 2.0], 30), np.logspace(0, -15, 90), np.zeros(90)):
        a = (q * values) @ q.T
        a = (a + a.T) / 2
        for layout in (xp.Block(0), xp.Block(1)):
            w, v = (np.asarray(part) for part in xp.linalg.eigh(xp.asarray(a, layout=layout)))
            near(a @ v, v * w, bound(a))
            near(v.T @ v, np.eye(90), unit(v))
            near(w, np.linalg.eigvalsh(a), bound(a))
            near(np.asarray(xp.linalg.eigvalsh(xp.asarray(a, layout=layout))), w, bound(a))


@divided
def test_what_is_no_number_is_an_error_everywhere_and_the_next_works(comm):
    for shape in ((400, 20), (90, 90)):
        a = np.ones(shape)
        a[7, 3] = np.nan
        with pytest.raises(np.linalg.LinAlgError, match="converge"):
            xp.linalg.svd(xp.asarray(a), full_matrices=False)
    assert float(xp.linalg.svdvals(xp.eye(90))[0]) == pytest.approx(1.0)


@contextlib.contextmanager
def no_room_on_one_rank():
    """No matrix may be copied to one rank."""
    before, limits.GATHERED_UP_TO = limits.GATHERED_UP_TO, 0
    try:
        yield
    finally:
        limits.GATHERED_UP_TO = before


@divided
def test_singular_values_where_no_rank_has_room(comm):
    rng = np.random.default_rng(7)
    for a, expected in cases():
        if min(a.shape) < 80:
            continue
        for layout in (xp.Block(0), xp.Block(1)):
            x = xp.asarray(a, layout=layout)
            with no_room_on_one_rank():
                u, s, vh = (np.asarray(part) for part in xp.linalg.svd(x, full_matrices=False))
            near((u * s) @ vh, a, bound(a))
            near(u.conj().T @ u, np.eye(u.shape[1]), unit(u))
            near(vh @ vh.conj().T, np.eye(vh.shape[0]), unit(vh))
            near(s, expected, bound(a))
    q1, q2 = (np.linalg.qr(rng.standard_normal((90, 90)))[0] for _ in range(2))
    for values in (np.logspace(0, -12, 90), np.r_[np.ones(30), np.zeros(60)], np.zeros(90), np.full(90, 1e100)):
        a = (q1 * values) @ q2
        with no_room_on_one_rank():
            u, s, vh = (np.asarray(part) for part in xp.linalg.svd(xp.asarray(a)))
            near(np.asarray(xp.linalg.svdvals(xp.asarray(a))), values, bound(a))
        near((u * s) @ vh, a, bound(a))
        near(u.T @ u, np.eye(90), unit(u))
        near(vh @ vh.T, np.eye(90), unit(vh))


@divided
def test_eigenvalues_where_no_rank_has_room(comm):
    rng = np.random.default_rng(8)
    for kind in "dfD":
        n = 93
        q, _ = np.linalg.qr(rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if kind == "D" else 0))
        spectra = [np.arange(n) - 40.0, np.repeat([1.0, 1.0 + 1e-13, 2.0], n)[::3][:n], np.logspace(0, -15, n), np.zeros(n), np.ones(n)]
        for values in spectra if kind == "d" else spectra[:1]:
            a = ((q * values) @ q.conj().T).astype(kind)
            a = (a + a.conj().T) / 2
            upper = np.triu(np.full((n, n), 7.0), 1)  # which nobody looks at
            with no_room_on_one_rank():
                w, v = (np.asarray(part) for part in xp.linalg.eigh(xp.asarray((np.tril(a) + upper).astype(kind))))
                only = np.asarray(xp.linalg.eigvalsh(xp.asarray(a, layout=xp.Block(1))))
            near(a @ v, v * w, bound(a))
            near(v.conj().T @ v, np.eye(n), unit(v))
            near(w, np.linalg.eigvalsh(a), bound(a))
            near(only, w, bound(a))


@divided
def test_what_is_not_finite_where_no_rank_has_room(comm):
    a = np.ones((90, 90))
    a[89, 3] = np.nan
    with no_room_on_one_rank():
        for function in (xp.linalg.svd, xp.linalg.svdvals, xp.linalg.eigh, xp.linalg.eigvalsh):
            with pytest.raises(np.linalg.LinAlgError, match="converge"):
                function(xp.asarray(a))
        if comm.size > 1:
            with pytest.raises(MemoryError, match="one rank"):
                xp.linalg.eig(xp.eye(90))
    assert float(xp.linalg.svdvals(xp.eye(90))[0]) == pytest.approx(1.0)


@divided
def test_full_matrices(comm):
    rng = np.random.default_rng(9)
    for shape in ((120, 12), (12, 120), (95, 83), (83, 95), (140, 80)):
        a = rng.standard_normal(shape)
        x = xp.asarray(a)
        u, s, vh = (np.asarray(part) for part in xp.linalg.svd(x))
        k = min(shape)
        near((u[:, :k] * s) @ vh[:k], a, bound(a))
        near(u.T @ u, np.eye(shape[0]), unit(u))
        near(vh @ vh.T, np.eye(shape[1]), unit(vh))
