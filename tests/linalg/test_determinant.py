"""Determinants: sign, size, and numbers that only their logarithm can tell."""

from __future__ import annotations

import numpy as np
import pytest
from dense_cases import KINDS, layouts, nearly_singular, random, small_up_to

import mpicluster.array as xp
from mpicluster import linalg

pytestmark = pytest.mark.spmd


def test_as_numpy_in_every_layout(comm):
    for n, kinds in ((0, "d"), (1, "F"), (2, "D"), (5, "f"), (40, KINDS)):
        for kind in kinds:
            values = random((n, n), kind) / max(1, n) ** 0.5
            wide = values.astype("D" if kind in "FD" else "d")
            expected, (sign, logarithm) = np.linalg.det(wide), np.linalg.slogdet(wide)
            tolerance = 500 * (n + 1) * np.finfo(kind).eps
            for limit, layout in [(0, x) for x in layouts((n, n), comm.size)] + [(256, xp.Block(0))]:
                with small_up_to(limit):
                    a = xp.asarray(values, layout=layout)
                    det, result = linalg.det(a), linalg.slogdet(a)
                assert det.layout == result.sign.layout == result.logabsdet.layout == xp.Replicated()
                assert det.dtype == result.sign.dtype == values.dtype
                assert result.logabsdet.dtype == values.real.dtype
                np.testing.assert_allclose(np.asarray(det), expected, rtol=tolerance)
                np.testing.assert_allclose(np.asarray(result.sign), sign, atol=tolerance)
                np.testing.assert_allclose(np.asarray(result.logabsdet), logarithm, atol=tolerance, rtol=tolerance)


def test_nothing_overflows_half_way(comm):
    n = 300
    for scale in (1e200, 1e-200):
        values = np.diag(np.where(np.arange(n) < n // 2, scale, 1 / scale))
        assert abs(float(linalg.det(xp.asarray(values))) - 1) < 1e-10
    huge = xp.asarray(np.eye(n) * 1e10 * (1 - 2 * (np.arange(n) == 0)))
    assert float(linalg.det(huge)) == -np.inf
    sign, logarithm = linalg.slogdet(huge)
    assert float(sign) == -1
    assert abs(float(logarithm) - n * np.log(1e10)) < 1e-8
    assert float(linalg.det(xp.asarray(np.eye(n) * 1e-10))) == 0


def test_exact_for_small_integers(comm):
    """Swapped rows of a matrix of ones and zeros; a determinant of 0 has the logarithm -inf."""
    with small_up_to(0):
        order = np.random.default_rng(3).permutation(90)
        values = np.eye(90)[order]
        assert float(linalg.det(xp.asarray(values))) == np.linalg.det(values)
        for kind in KINDS:
            singular = xp.asarray(np.ones((30, 30), kind))
            assert complex(linalg.det(singular)) == 0
            sign, logarithm = linalg.slogdet(singular)
            assert complex(sign) == 0
            assert float(logarithm) == -np.inf
        nan = xp.asarray(np.diag([1.0, np.nan, 2.0]))
        assert np.isnan(float(linalg.det(nan)))
        assert np.isnan(float(linalg.slogdet(nan).logabsdet))
        sign, logarithm = linalg.slogdet(xp.asarray(np.diag([1.0, np.inf, -2.0])))
        assert (float(sign), float(logarithm)) == (-1, np.inf)


def test_nearly_singular(comm):
    values = nearly_singular(100)
    with small_up_to(0):
        sign, logarithm = linalg.slogdet(xp.asarray(values))
    expected = np.linalg.slogdet(values)
    assert float(sign) == expected.sign
    assert abs(float(logarithm) - expected.logabsdet) < 1e-3


def test_stacks_keep_their_layout(comm):
    values = random((5, 3, 4, 4))
    for layout in (xp.Replicated(), xp.Block(0), xp.Block(1), xp.Block(2)):
        a = xp.asarray(values, layout=layout)
        np.testing.assert_allclose(np.asarray(linalg.det(a)), np.linalg.det(values), rtol=1e-11)
        sign, logarithm = linalg.slogdet(a)
        np.testing.assert_allclose(np.asarray(sign) * np.exp(np.asarray(logarithm)), np.linalg.det(values), rtol=1e-11)
        assert linalg.det(a).layout == (xp.Block(0) if layout == xp.Block(2) else layout)
    with pytest.raises(linalg.LinAlgError, match="must be square"):
        linalg.det(xp.ones((2, 3)))


def test_the_same_bits_on_all_ranks(comm):
    a = xp.asarray(random((290, 290), "D"))
    said = comm.allgather((complex(linalg.det(a * 0.05)), float(linalg.slogdet(a).logabsdet)))
    assert len(set(said)) == 1
