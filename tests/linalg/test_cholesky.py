"""Cholesky: one triangle is looked at, the other is clean; the backward error is what the book says; failure is everybody's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from dense_cases import KINDS, layouts, positive, random, rounding, small_up_to

import mpicluster.array as xp
from mpicluster import linalg
from mpicluster.linalg.panels import Panels

pytestmark = pytest.mark.spmd


def check_factor(factor, values, upper):
    """Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3: ``|A - L L^H| <= gamma_(n+1) |L| |L^H|``, by elements."""
    whole = np.asarray(factor)
    lower = whole.conj().T if upper else whole
    assert whole.dtype == values.dtype
    assert not np.triu(lower, 1).any()
    assert (np.diagonal(lower).real > 0).all()
    error = np.abs(values - lower @ lower.conj().T)
    assert (error <= 2 * rounding(values.dtype.char, len(values) + 1) * (np.abs(lower) @ np.abs(lower.T))).all()


def test_one_triangle_in_gives_a_clean_triangle(comm):
    """In every type and layout, whether the matrix is divided or copied."""
    for n, kinds in ((0, "d"), (1, "D"), (2, "F"), (5, "fD"), (40, "dF"), (130, "D"), (300, "d")):
        for i, kind in enumerate(kinds):
            values = positive(n, kind)
            lower = np.tril(values) + np.triu(np.full((n, n), np.nan, kind), 1)
            for layout in layouts((n, n), comm.size) if n < 100 else (xp.Block(i), xp.BlockCyclic(1 - i, 16)):
                with small_up_to(0):
                    a = xp.asarray(lower, layout=layout)
                    factor, upper = linalg.cholesky(a), linalg.cholesky(xp.asarray(lower.conj().T, layout=layout), upper=True)
                axis = getattr(layout, "axis", 0)
                assert factor.layout == upper.layout == (layout if layout == xp.Replicated() else xp.Block(axis))
                check_factor(factor, values, upper=False)
                check_factor(upper, values, upper=True)
                np.testing.assert_array_equal(np.asarray(a), lower)
            check_factor(linalg.cholesky(a), values, upper=False)


def test_hard_matrices(comm):
    """The bound holds however ill-conditioned the matrix is, as long as it is positive definite in floating point."""
    n = 100
    scale = 10.0 ** np.linspace(0, -7, n)
    hilbert = scipy.linalg.hilbert(n) + 1e-12 * np.eye(n)
    with small_up_to(0):
        for values in (scale[:, None] * positive(n) * scale, hilbert):
            for upper in (False, True):
                check_factor(linalg.cholesky(xp.asarray(values), upper=upper), values, upper)


def test_failure_is_raised_by_all_ranks(comm):
    """Wherever the first bad pivot is, and also for what is no number; the next factorisation works."""
    n = 50
    good = positive(n)
    for where, wrong in ((0, -1.0), (0, np.nan), (35, 0.0), (35, np.nan), (49, -1.0), (49, np.nan)):
        bad = good.copy()
        bad[where, where] = wrong
        for limit, layout in ((0, xp.Block(0)), (0, xp.Block(1)), (256, xp.Block(0)), (0, xp.Replicated())):
            with small_up_to(limit), pytest.raises(linalg.LinAlgError, match="Matrix is not positive definite"):
                linalg.cholesky(xp.asarray(bad, layout=layout), upper=where == 35)
    hidden = good.copy()
    hidden[-1, 3] = np.nan
    with small_up_to(0):
        with pytest.raises(linalg.LinAlgError):
            linalg.cholesky(hidden if comm.size == 1 else xp.asarray(hidden))
        check_factor(linalg.cholesky(xp.asarray(good)), good, upper=False)
    for shape, text in (((3,), "1-dimensional array given"), ((4, 3), "must be square")):
        with pytest.raises(linalg.LinAlgError, match=text):
            linalg.cholesky(xp.ones(shape))


def test_stacks_are_as_in_numpy(comm):
    values = np.array([[positive(4, seed=3 * i + j) for j in range(3)] for i in range(5)])
    for layout in (xp.Replicated(), xp.Block(0), xp.Block(1), xp.Block(2), xp.Block(3), xp.BlockCyclic(1, 1)):
        for upper in (False, True):
            factors = linalg.cholesky(xp.asarray(values, layout=layout), upper=upper)
            np.testing.assert_allclose(np.asarray(factors), np.linalg.cholesky(values, upper=upper), rtol=1e-13, atol=1e-14)
    assert linalg.cholesky(xp.zeros((0, 4, 4))).shape == (0, 4, 4)
    values[4, 2, 3, 3] = -1
    with pytest.raises(linalg.LinAlgError, match="Matrix is not positive definite"):
        linalg.cholesky(xp.asarray(values))


def test_integers_count_as_doubles(comm):
    factor = linalg.cholesky(xp.asarray([[4, 2], [2, 5]]))
    assert factor.dtype == np.float64
    np.testing.assert_allclose(np.asarray(factor), [[2, 0], [1, 2]])
    with pytest.raises(TypeError, match="float16 is unsupported in linalg"):
        linalg.cholesky(xp.asarray(np.eye(3, dtype=np.float16)))


def test_one_message_for_each_panel(comm):
    """Half of the matrix passes every rank, by one broadcast for each panel; no other messages but rows to panels and back."""
    n = 300
    a = xp.asarray(positive(n))
    panels = Panels.of(a.mesh, n)
    for upper in (False, True):
        traffic = a.mesh.traffic
        traffic.clear()
        linalg.cholesky(a, upper=upper)
        assert traffic.messages.get("bcast", 0) == (panels.count if comm.size > 1 else 0)
        assert set(traffic.messages) <= {"bcast", "send", "agree"}
        assert traffic.messages.get("send", 0) <= 2 * (comm.size - 1)
        widths = [min(panels.nb, n - k * panels.nb) for k in range(panels.count)]
        lengths = np.cumsum(widths) if not upper else n - np.cumsum([0, *widths[:-1]])
        sent = comm.allreduce(traffic.nbytes.get("bcast", 0))
        assert sent == (8 * int(np.dot(widths, lengths)) if comm.size > 1 else 0)


def test_solving_by_a_factor(comm):
    """A = L L^H: ``|A x - b| <= gamma_(3n+1) |L| |L^H| |x|`` (Higham, theorem 10.4)."""
    n = 40
    with small_up_to(0):
        for kind in KINDS:
            values, sides = positive(n, kind), random((n, 3), kind, 1)
            for lower, layout in ((False, xp.Block(0)), (True, xp.Block(0)), (True, xp.Block(1))):
                c, flag = linalg.cho_factor(xp.asarray(values, layout=layout), lower)
                for b in (sides, sides[:, 0]):
                    x = np.asarray(linalg.cho_solve((c, flag), xp.asarray(b)))
                    factor = np.abs(np.asarray(c))
                    product = factor @ factor.T if lower else factor.T @ factor
                    assert x.dtype == np.dtype(kind)
                    assert (np.abs(values @ x - b) <= rounding(kind, 3 * n + 1) * (product @ np.abs(x))).all()
