"""LU: pivots are the largest of whole columns, across all ranks' blocks; factors can be looked at, and used again and again."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from dense_cases import (
    KINDS,
    graded,
    layouts,
    nearly_singular,
    random,
    rounding,
    small_up_to,
    tiny_diagonal_blocks,
    zero_leading_block,
)

import mpicluster.array as xp
from mpicluster import linalg
from mpicluster.linalg.panels import Panels

pytestmark = pytest.mark.spmd


def check_factors(values, p, lower, upper):
    """Higham, Accuracy and Stability of Numerical Algorithms, theorem 9.3: ``|P^T A - L U| <= gamma_n |L| |U|``, element by element."""
    p, lower, upper = map(np.asarray, (p, lower, upper))
    m, n = values.shape
    k = min(m, n)
    assert p.shape == (m, m)
    assert lower.shape == (m, k)
    assert upper.shape == (k, n)
    assert lower.dtype == upper.dtype == values.dtype
    assert (p.sum(0) == 1).all()
    assert (p.sum(1) == 1).all()
    np.testing.assert_array_equal(np.diagonal(lower), np.ones(k))
    assert not np.triu(lower, 1).any()
    assert not np.tril(upper, -1).any()
    # the moduli of complex pivots are compared by |re| + |im|
    assert np.abs(lower).max(initial=0) <= (np.sqrt(2) if values.dtype.kind == "c" else 1) * (1 + 1e-6)
    error = np.abs(p.T @ values - lower @ upper)
    assert (error <= 2 * rounding(values.dtype.char, k) * (np.abs(lower) @ np.abs(upper))).all()


SHAPES = {(0, 0): "d", (1, 1): "F", (5, 5): "fD", (0, 3): "d", (40, 0): "d", (1, 20): "f", (50, 20): "D", (20, 50): "dF"}


def test_factors_of_any_shape_type_and_layout(comm):
    with small_up_to(0):
        for shape, kinds in SHAPES.items():
            for i, kind in enumerate(kinds):
                values = random(shape, kind)
                for layout in layouts(shape, comm.size)[i % 2 :: 2]:
                    a = xp.asarray(values, layout=layout)
                    p, lower, upper = linalg.lu(a)
                    check_factors(values, p, lower, upper)
                    axis = getattr(layout, "axis", 0)
                    assert {x.layout for x in (p, lower, upper)} == {layout if layout == xp.Replicated() else xp.Block(axis)}
                    np.testing.assert_array_equal(np.asarray(a), values)
        for n, kind in ((130, "D"), (300, "d")):
            values = random((n, n), kind)
            check_factors(values, *linalg.lu(xp.asarray(values)))


def test_pivots_are_found_across_blocks(comm):
    with small_up_to(0):
        for values in (graded(100), nearly_singular(100), zero_leading_block(100), tiny_diagonal_blocks(100, 16)):
            p, lower, upper = linalg.lu(xp.asarray(values, layout=xp.Block(1)))
            check_factors(values, p, lower, upper)
            np.testing.assert_array_equal(np.asarray(p), scipy.linalg.lu(values)[0])


def test_permutation_as_indices_or_in_l(comm):
    for limit, shape in ((0, (40, 30)), (0, (30, 40)), (256, (30, 40))):
        values = random(shape)
        for layout in (xp.Block(0), xp.Block(1), xp.Replicated()):
            with small_up_to(limit):
                a = xp.asarray(values, layout=layout)
                indices, lower, upper = linalg.lu(a, p_indices=True)
                assert indices.layout == xp.Replicated()
                np.testing.assert_allclose(np.asarray(lower)[np.asarray(indices)] @ np.asarray(upper), values, atol=1e-12)
                both, upper = linalg.lu(a, permute_l=True)
                np.testing.assert_allclose(np.asarray(both) @ np.asarray(upper), values, atol=1e-12)


def test_stacks(comm):
    values = random((3, 4, 5, 6))
    for layout in (xp.Replicated(), xp.Block(0), xp.Block(1), xp.Block(3)):
        p, lower, upper = map(np.asarray, linalg.lu(xp.asarray(values, layout=layout)))
        np.testing.assert_allclose(p @ lower @ upper, values, atol=1e-13)
    with pytest.raises(linalg.LinAlgError, match="at least two-dimensional"):
        linalg.lu(xp.ones(3))


def test_factors_serve_many_systems(comm):
    """A, A^T and A^H; vectors, matrices and stacks; real factors with complex right-hand sides; other layouts."""
    n = 40
    for kind in KINDS:
        values = random((n, n), kind)
        factors = linalg.lu_factor(xp.asarray(values))
        assert factors.dtype == np.dtype(kind)
        for shape, layout in (((n,), xp.Block(0)), ((n, 5), xp.Block(1)), ((n, 5), xp.Replicated()), ((2, n, 3), xp.Block(0))):
            for side in (kind, kind.upper())[: len(shape)] if kind.islower() else (kind,):
                b = random(shape, side, 2)
                for trans, matrix in ((0, values), ("T", values.T), (2, values.conj().T)):
                    x = linalg.lu_solve(factors, xp.asarray(b, layout=layout), trans=trans)
                    assert x.shape == shape
                    assert x.dtype == np.dtype(side)
                    np.testing.assert_allclose(matrix @ np.asarray(x), b, atol=2e5 * np.finfo(kind).eps)
    replicated = linalg.lu_solve(linalg.lu_factor(xp.asarray(np.eye(3), layout=xp.Replicated())), np.ones(3))
    assert replicated.layout == xp.Replicated()


def test_a_singular_matrix_is_factored_and_solves_nothing(comm):
    for n, layout in ((4, xp.Block(0)), (40, xp.Block(1)), (40, xp.Replicated())):
        values = random((n, n))
        values[:, n // 2] = 0
        factors = linalg.lu_factor(xp.asarray(values, layout=layout))
        assert factors.singular
        assert "singular" in repr(factors)
        with pytest.raises(linalg.LinAlgError, match="Singular matrix"):
            linalg.lu_solve(factors, xp.ones(n))
        p, lower, upper = linalg.lu(xp.asarray(values, layout=layout))
        check_factors(values, p, lower, upper)
    good = linalg.lu_factor(xp.eye(4))
    with pytest.raises(ValueError, match="size 3 is different from 4"):
        linalg.lu_solve(good, xp.ones(3))
    with pytest.raises(ValueError, match="trans is 0"):
        linalg.lu_solve(good, xp.ones(4), trans=3)
    with pytest.raises(TypeError, match="what lu_factor gave"):
        linalg.lu_solve(xp.eye(4), xp.ones(4))
    with pytest.raises(linalg.LinAlgError, match="must be square"):
        linalg.lu_factor(xp.ones((2, 3)))


def test_one_message_for_each_panel_and_step(comm):
    n = 300
    a, b = xp.asarray(random((n, n))), xp.asarray(random((n, 3)))
    count, many = Panels.of(a.mesh, n).count, comm.size > 1
    traffic = a.mesh.traffic
    traffic.clear()
    factors = linalg.lu_factor(a)
    assert traffic.messages.get("bcast", 0) == count * many
    assert traffic.messages.get("send", 0) <= comm.size - 1
    traffic.clear()
    linalg.lu_solve(factors, b)
    assert traffic.messages.get("bcast", 0) == 2 * count * many
    assert comm.allreduce(traffic.nbytes.get("bcast", 0)) == 2 * n * 3 * 8 * many
    assert traffic.messages.get("send", 0) <= 2 * (comm.size - 1)
    assert set(traffic.messages) <= {"bcast", "send", "agree"}
