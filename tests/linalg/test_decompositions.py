"""QR, SVD, least squares and eigenvalues at the textbook bounds, of matrices that are hard for them, in whatever layout."""

from __future__ import annotations

import numpy as np
import pytest

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

#: in units of n u ||A||, where n is the longer side
BOUND = 20


def cases():
    """Tall, wide and square; graded, of condition 1e12, of low rank, of zeros; small enough to be copied, and not."""
    rng = np.random.default_rng(3)
    for m, n in [(1, 1), (5, 3), (3, 7), (700, 40), (40, 600), (300, 300), (330, 290)]:
        yield rng.standard_normal((m, n))
    left, _ = np.linalg.qr(rng.standard_normal((400, 60)))
    right, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    yield (left * np.logspace(0, -12, 60)) @ right
    yield left[:, :7] @ right[:7]
    yield rng.standard_normal((300, 300)) * np.logspace(0, -8, 300)
    yield np.zeros((400, 30))
    yield (rng.standard_normal((500, 20)) + 1j * rng.standard_normal((500, 20))).astype(np.complex64)
    yield rng.standard_normal((280, 280)) + 1j * rng.standard_normal((280, 280))


def bound(a):
    return BOUND * max(a.shape) * np.finfo(a.dtype).eps * max(np.linalg.norm(a, 2), np.finfo(a.dtype).tiny)


def unit(q):
    return BOUND * max(q.shape) * np.finfo(q.dtype).eps


def layouts(a):
    yield xp.Block(0)
    yield xp.Block(1)
    if max(a.shape) < 50:
        yield from (xp.Replicated(), xp.BlockCyclic(0, 2))


def near(got, want, tolerance):
    assert np.linalg.norm(got - want) <= tolerance, (np.linalg.norm(got - want), tolerance)


def test_qr(comm):
    for a in cases():
        for layout in layouts(a):
            q, r = (np.asarray(part) for part in xp.linalg.qr(xp.asarray(a, layout=layout)))
            near(q @ r, a, bound(a))
            near(q.conj().T @ q, np.eye(q.shape[1]), unit(q))
            near(np.tril(r, -1), 0, 0)


def test_svd(comm):
    for a in cases():
        expected = np.linalg.svd(a, compute_uv=False)
        for layout in layouts(a):
            x = xp.asarray(a, layout=layout)
            u, s, vh = (np.asarray(part) for part in xp.linalg.svd(x, full_matrices=False))
            near((u * s) @ vh, a, bound(a))
            near(u.conj().T @ u, np.eye(u.shape[1]), unit(u))
            near(vh @ vh.conj().T, np.eye(vh.shape[0]), unit(vh))
            near(s, expected, bound(a))
            near(np.asarray(xp.linalg.svdvals(x)), expected, bound(a))
            assert int(xp.linalg.matrix_rank(x)) == np.linalg.matrix_rank(a)


def test_pseudo_inverse_and_least_squares(comm):
    rng = np.random.default_rng(4)
    for a in cases():
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


def test_symmetric_eigenvalues(comm):
    rng = np.random.default_rng(5)
    q, _ = np.linalg.qr(rng.standard_normal((300, 300)))
    for values in (np.arange(300.0), np.repeat([1.0, 1.0 + 1e-13, 2.0], 100), np.logspace(0, -15, 300), np.zeros(300)):
        a = (q * values) @ q.T
        a = (a + a.T) / 2
        for layout in (xp.Block(0), xp.Block(1)):
            w, v = (np.asarray(part) for part in xp.linalg.eigh(xp.asarray(a, layout=layout)))
            near(a @ v, v * w, bound(a))
            near(v.T @ v, np.eye(300), unit(v))
            near(w, np.linalg.eigvalsh(a), bound(a))
            near(np.asarray(xp.linalg.eigvalsh(xp.asarray(a, layout=layout))), w, bound(a))


def test_what_is_no_number_is_an_error_everywhere_and_the_next_works(comm):
    for shape in ((400, 20), (300, 300)):
        a = np.ones(shape)
        a[7, 3] = np.nan
        with pytest.raises(np.linalg.LinAlgError, match="converge"):
            xp.linalg.svd(xp.asarray(a), full_matrices=False)
    assert float(xp.linalg.svdvals(xp.eye(300))[0]) == pytest.approx(1.0)


def test_what_is_too_large_for_one_rank_is_not_copied_there(comm):
    from mpicluster.linalg import alone

    bound_, alone.GATHERED_UP_TO = alone.GATHERED_UP_TO, 1000
    try:
        if comm.size > 1:
            with pytest.raises(MemoryError, match="one rank"):
                xp.linalg.eigh(xp.eye(300))
    finally:
        alone.GATHERED_UP_TO = bound_
