"""Randomised singular values keep the bound of the theory, and do not depend on the number of ranks."""

from __future__ import annotations

import numpy as np
import pytest

import mpicluster.array as xp
from mpicluster.linalg import randomized
from mpicluster.linalg.sparse import SparseRows

pytestmark = pytest.mark.spmd


def matrix(shape, values, kind="d", seed=0):
    """A matrix with these singular values."""
    rng = np.random.default_rng(seed)
    m, n = shape
    sides = [
        np.linalg.qr(rng.standard_normal((s, len(values))) + (1j * rng.standard_normal((s, len(values))) if kind == "D" else 0))[0]
        for s in (m, n)
    ]
    return ((sides[0] * values) @ sides[1].conj().T).astype(kind)


def check(a, result, k):
    u, s, vh = (np.asarray(x) for x in result)
    assert u.shape == (a.shape[0], k)
    assert s.shape == (k,)
    assert vh.shape == (k, a.shape[1])
    assert result.U.layout == xp.Block(0)
    assert result.S.layout == xp.Replicated()
    assert result.Vh.layout == xp.Block(1)
    eps = 100 * np.finfo(a.dtype).eps
    np.testing.assert_allclose(u.conj().T @ u, np.eye(k), atol=eps)
    np.testing.assert_allclose(vh @ vh.conj().T, np.eye(k), atol=eps)
    assert (np.diff(s) <= 0).all()
    return u, s, vh


def test_a_matrix_of_low_rank_is_found_exactly(comm):
    for shape in ((40, 25), (25, 40), (12, 12)):
        for kind in "dDf":
            values = np.linspace(9, 1, 6)
            a = matrix(shape, values, kind)
            for given in (
                xp.asarray(a),
                xp.asarray(a, layout=xp.Block(1)),
                xp.asarray(a, layout=xp.BlockCyclic(0, 2)),
                SparseRows.from_scipy(a),
                a,
            ):
                u, s, vh = check(a, randomized.randomized_svd(given, 6, n_oversamples=4), 6)
                tolerance = 1e-4 if kind == "f" else 1e-11
                np.testing.assert_allclose(s, values, atol=tolerance)
                np.testing.assert_allclose((u * s) @ vh, a, atol=tolerance)


def test_the_error_is_within_the_bound(comm):
    values = 1 / np.arange(1, 61)  # which fall slowly
    a = matrix((90, 60), values)
    k, p = 8, 10
    for n_iter in (0, 1, 3):
        bound = (1 + np.sqrt(k / (p - 1)) + np.e * np.sqrt(k + p) / p * np.sqrt(60 - k)) ** (1 / (2 * n_iter + 1)) * values[k]
        u, s, vh = check(a, randomized.randomized_svd(xp.asarray(a), k, n_oversamples=p, n_iter=n_iter), k)
        assert np.linalg.norm(a - (u * s) @ vh, 2) <= bound + values[k]  # what is cut off adds the singular value itself
        assert (s <= values[:k] * (1 + 1e-12)).all()
    np.testing.assert_allclose(s, values[:k], rtol=1e-2)


def test_it_is_the_same_for_every_number_of_ranks(comm):
    a = matrix((50, 30), 1 / np.arange(1, 31))
    alone = comm.Split(comm.rank)
    try:
        one = randomized.randomized_svd(xp.asarray(a, comm=alone), 5, n_iter=0, seed=3)
        lonely = [np.asarray(x) for x in one]
    finally:
        alone.Free()
    together = randomized.randomized_svd(xp.asarray(a), 5, n_iter=0, seed=3)
    np.testing.assert_allclose(np.asarray(together.S), lonely[1], rtol=1e-12)
    np.testing.assert_allclose(abs(np.asarray(together.U)), abs(lonely[0]), atol=1e-10)
    other = randomized.randomized_svd(xp.asarray(a), 5, n_iter=0, seed=4)
    assert abs(np.asarray(other.S) - lonely[1]).max() > 1e-6


def test_all_singular_values_of_small_and_deficient_matrices(comm):
    for shape, rank in (((1, 1), 1), ((1, 5), 1), ((5, 1), 1), ((4, 4), 2), ((6, 3), 0)):
        values = np.arange(rank, 0, -1.0)
        a = matrix(shape, values) if rank else np.zeros(shape)
        k = min(shape)
        _, s, _ = check(a, randomized.randomized_svd(xp.asarray(a), k), k)
        np.testing.assert_allclose(s, np.r_[values, np.zeros(k - rank)], atol=1e-13)


def test_what_is_wrong_is_raised_on_all_ranks(comm):
    a = xp.ones((5, 4))
    for options in ({"k": 0}, {"k": 5}, {"k": 2, "n_oversamples": -1}, {"k": 2, "n_iter": -1}):
        with pytest.raises(ValueError):
            randomized.randomized_svd(a, **options)
    with pytest.raises(np.linalg.LinAlgError):
        randomized.randomized_svd(xp.asarray(np.full((5, 4), np.nan)), 2)
    check(np.ones((5, 4)), randomized.randomized_svd(a, 2), 2)
