"""Systems of equations and inverses: any operands, small residuals, errors raised by all."""

from __future__ import annotations

import tracemalloc

import array_api_strict
import numpy as np
import pytest
import scipy.linalg
from dense_cases import (
    KINDS,
    graded,
    layouts,
    nearly_singular,
    positive,
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


def check_residual(values, x, b):
    """``|b - A x| <= gamma_3n |U^T| |L^T| |P^T x|`` with ``A^T = P L U``: Higham, Accuracy and Stability, theorem 9.4 (growth and all)."""
    x = np.asarray(x)
    n = len(values)
    if not n:
        return
    p, lower, upper = scipy.linalg.lu(values.T)
    moduli = np.abs(upper).T @ (np.abs(lower).T @ (p.T @ np.abs(x)))
    assert (np.abs(b - values @ x) <= 2 * rounding(values.dtype.char, 3 * n) * moduli).all()


def test_solve_in_every_layout(comm):
    with small_up_to(0):
        for n, kinds in ((0, "d"), (1, "D"), (2, "F"), (5, "fD"), (40, "dF"), (130, "D"), (300, "d")):
            for i, kind in enumerate(kinds):
                values = random((n, n), kind)
                for j, layout in enumerate(layouts((n, n), comm.size) if n < 100 else (xp.Block(0), xp.Block(1))):
                    a = xp.asarray(values, layout=layout)
                    shape = ((n,), (n, 3), (n, 70))[(i + j) % 3]
                    b = random(shape, kind, 1)
                    choices = [xp.Replicated(), xp.Block(0)] if len(shape) == 1 else layouts(shape, comm.size)
                    side = choices[j % len(choices)]
                    x = linalg.solve(a, xp.asarray(b, layout=side))
                    assert x.dtype == np.dtype(kind)
                    assert x.shape == shape
                    check_residual(values, x, b)
                    if isinstance(side, xp.Block):
                        assert x.layout == xp.Block(side.axis)
                    elif side == xp.Replicated():
                        assert x.layout == (side if layout == side else xp.Block(0))


def test_hard_matrices(comm):
    """Residuals are small whatever the condition; digits are lost as the condition number says, and no more."""
    n = 100
    b = random((n, 2))
    with small_up_to(0):
        for values in (graded(n), nearly_singular(n), zero_leading_block(n), tiny_diagonal_blocks(n, 8), tiny_diagonal_blocks(n, 50)):
            check_residual(values, linalg.solve(xp.asarray(values), xp.asarray(b)), b)
        values = tiny_diagonal_blocks(n, 16)
        np.testing.assert_allclose(np.asarray(linalg.solve(xp.asarray(values), b)), np.linalg.solve(values, b), rtol=1e-9)


def test_positive_definite_systems(comm):
    """By Cholesky, half the work: ``|b - A x| <= gamma_(3n+1) |L| |L^H| |x|`` (Higham, theorem 10.4)."""
    for n, kinds in ((0, "d"), (1, "F"), (5, "D"), (40, KINDS)):
        for kind in kinds:
            values = positive(n, kind)
            moduli = np.abs(np.linalg.cholesky(values))
            lower = np.tril(values) + np.triu(np.full((n, n), np.nan, kind), 1)
            for limit, layout in ((0, xp.Block(0)), (0, xp.Block(1)), (256, xp.Block(0)), (0, xp.Replicated())):
                for shape in ((n,), (n, 4)) if limit else ((n, 4),):
                    b = random(shape, kind, 1)
                    with small_up_to(limit):
                        x = np.asarray(linalg.solve(xp.asarray(lower, layout=layout), xp.asarray(b), assume_a="pos"))
                    assert (np.abs(values @ x - b) <= rounding(kind, 3 * n + 1) * (moduli @ (moduli.T @ np.abs(x)))).all()
    for limit in (0, 256):
        with small_up_to(limit), pytest.raises(linalg.LinAlgError, match="not positive definite"):
            linalg.solve(-xp.eye(40), xp.ones(40), assume_a="positive definite")
    with pytest.raises(ValueError, match="assume_a is one of"):
        linalg.solve(xp.eye(2), xp.ones(2), assume_a="odd")


def test_shapes_and_stacks_are_as_in_numpy(comm):
    """A right-hand side is a vector if and only if it has one dimension; stacks broadcast."""
    shapes = [
        ((3, 3), (3,)),
        ((4, 3, 3), (3,)),
        ((4, 3, 3), (3, 3)),
        ((4, 3, 3), (4, 3, 1)),
        ((3, 3), (4, 3, 2)),
        ((1, 5, 3, 3), (4, 1, 3, 2)),
    ]
    shapes += [((0, 3, 3), (3, 2)), ((4, 0, 0), (4, 0, 2)), ((7, 3, 3), (3, 0)), ((2, 3, 3), (7, 2, 3, 2))]
    for left, right in shapes:
        a, b = random(left), random(right, seed=1)
        expected = np.linalg.solve(a, b)
        for i, one in enumerate((xp.Replicated(), *(xp.Block(i) for i in range(len(left))))):
            for other in (xp.Replicated(), xp.Block(0), xp.Block(len(right) - 1)):
                for limit in (0, 256) if i == 1 else (0,):
                    with small_up_to(limit):
                        x = linalg.solve(xp.asarray(a, layout=one), xp.asarray(b, layout=other))
                        assert x.shape == expected.shape
                        np.testing.assert_allclose(np.asarray(x), expected, rtol=1e-10, atol=1e-12)
                        assert (x.layout == xp.Replicated()) == (one == other == xp.Replicated())
    np.testing.assert_allclose(np.asarray(linalg.solve(xp.asarray(random(shapes[1][0])), np.ones(3), assume_a="gen")).shape, (4, 3))
    stack = np.array([positive(4, seed=i) for i in range(5)])
    x = linalg.solve(xp.asarray(stack), np.ones((4, 2)), assume_a="pos")
    np.testing.assert_allclose(np.asarray(x), np.linalg.solve(stack, np.ones((4, 2))), rtol=1e-10)


def test_errors_are_raised_by_all_ranks(comm):
    for n in (2, 50):
        singular = random((n, n))
        singular[n // 2] = 0
        for layout in (xp.Block(0), xp.Block(1), xp.Replicated()):
            a = xp.asarray(singular, layout=layout)
            for limit in (0, 256):
                with small_up_to(limit):
                    for act in (lambda a=a, n=n: linalg.solve(a, xp.ones((n, 3))), lambda a=a: linalg.inv(a)):
                        with pytest.raises(linalg.LinAlgError, match="Singular matrix"):
                            act()
    stack = np.array([np.eye(2)] * 5)
    stack[3, 1, 1] = 0
    for act in (lambda: linalg.inv(xp.asarray(stack)), lambda: linalg.solve(xp.asarray(stack), xp.ones(2))):
        with pytest.raises(linalg.LinAlgError, match="Singular matrix"):
            act()
    for a, b, error, text in (
        (xp.ones((2, 3)), xp.ones(2), linalg.LinAlgError, "Last 2 dimensions of the array must be square"),
        (xp.ones(3), xp.ones(3), linalg.LinAlgError, "1-dimensional array given"),
        (xp.eye(2), xp.ones(3), ValueError, "solve1: .*size 3 is different from 2"),
        (xp.eye(2), xp.ones((3, 1)), ValueError, "solve: .*size 3 is different from 2"),
        (xp.eye(2), xp.ones(()), ValueError, "does not have enough dimensions"),
        (xp.ones((3, 2, 2)), xp.ones((2, 2, 1)), ValueError, "broadcast"),
    ):
        with pytest.raises(error, match=text):
            linalg.solve(a, b)
    np.testing.assert_allclose(np.asarray(linalg.solve(xp.eye(3), xp.ones(3))), np.ones(3))


def test_what_is_no_number_spreads_as_in_numpy(comm):
    n = 40
    values = np.eye(n)
    values[7, 7] = np.nan
    for limit in (0, 256):
        with small_up_to(limit):
            x = np.asarray(linalg.solve(xp.asarray(values), xp.ones(n)))
            assert np.isnan(x[7])
            assert np.isnan(np.asarray(linalg.inv(xp.asarray(values)))[7, 7])
            b = np.ones(n)
            b[3] = np.nan
            assert np.isnan(np.asarray(linalg.solve(xp.eye(n), xp.asarray(b)))).any()


def test_types_promote_as_in_numpy(comm):
    kinds = ("f", "d", "F", "D", "i8")
    values = np.eye(5) * 2
    for limit in (0, 256):
        with small_up_to(limit):
            for one in kinds:
                for other in kinds:
                    a, b = values.astype(one), np.ones((5, 2), other)
                    x = linalg.solve(xp.asarray(a), xp.asarray(b))
                    assert x.dtype == np.linalg.solve(a, b).dtype
                    np.testing.assert_allclose(np.asarray(x), np.linalg.solve(a, b), rtol=1e-6)
                assert linalg.inv(xp.asarray(values.astype(one))).dtype == np.linalg.inv(values.astype(one)).dtype


def test_inverse(comm):
    """``|A X - I| <= gamma_3n |U^T| |L^T| |P^T X|``, being n systems: Higham, section 14.3.1."""
    for n, kinds in ((0, "d"), (1, "F"), (3, "D"), (40, "fD"), (130, "d")):
        for kind in kinds:
            values = random((n, n), kind)
            with small_up_to(0):
                for layout in layouts((n, n), comm.size) if n < 100 else (xp.Block(0), xp.Block(1)):
                    x = linalg.inv(xp.asarray(values, layout=layout))
                    assert x.dtype == np.dtype(kind)
                    assert x.layout == (layout if layout == xp.Replicated() else xp.Block(getattr(layout, "axis", 0)))
                    if layout in (xp.Block(1), xp.BlockCyclic(1, 16)):  # the inverse of the transposed
                        check_residual(values.T, np.asarray(x).T, np.eye(n))
                    else:
                        check_residual(values, x, np.eye(n))
    stack = random((2, 5, 4, 4))
    for layout in (xp.Replicated(), xp.Block(0), xp.Block(1), xp.Block(2)):
        np.testing.assert_allclose(np.asarray(linalg.inv(xp.asarray(stack, layout=layout))), np.linalg.inv(stack), rtol=1e-9, atol=1e-11)


def test_what_solving_costs(comm):
    """Broadcasts: one for each panel to factor and two to substitute; nothing else but rows to panels and back."""
    n, many = 300, comm.size > 1
    a, b = xp.asarray(random((n, n))), xp.asarray(random((n, 3)))
    count, traffic = Panels.of(a.mesh, n).count, a.mesh.traffic
    for act, sends in ((lambda: linalg.solve(a, b), 3), (lambda: linalg.inv(a), 2)):
        traffic.clear()
        act()
        assert traffic.messages.get("bcast", 0) == 3 * count * many
        assert set(traffic.messages) <= {"bcast", "send", "agree"}
        assert traffic.messages.get("send", 0) <= sends * (comm.size - 1)
    traffic.clear()
    linalg.solve(xp.asarray(positive(n)), b, assume_a="pos")
    assert traffic.messages.get("bcast", 0) == 3 * count * many
    assert traffic.messages.get("allgather", 0) == 2 * many
    replicated = xp.asarray(np.eye(300), layout=xp.Replicated())
    traffic.clear()
    assert linalg.solve(replicated, np.ones(300)).layout == xp.Replicated()
    linalg.inv(replicated)
    assert traffic.messages == {}


def test_blocks_of_other_libraries(comm):
    """Results have blocks of the library that the operands have."""
    kind = type(array_api_strict.asarray(0.0))
    n = 30
    rows = slice(n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size)
    values, sides = positive(n), random((n, 2))
    a = xp.from_local(array_api_strict.asarray(values[rows]), comm=comm)
    b = xp.from_local(array_api_strict.asarray(sides[rows]), comm=comm)
    for limit in (0, 256):
        with small_up_to(limit):
            x, lower = linalg.solve(a, b), linalg.cholesky(a)
            results = [x, lower, linalg.inv(a), linalg.det(a), *linalg.slogdet(a), *linalg.lu(a), linalg.solve(a, b, assume_a="pos")]
            results.append(linalg.solve_triangular(lower, b, lower=True))
            results.append(linalg.lu_solve(linalg.lu_factor(a), b))
        assert {type(r.local) for r in results} == {kind}
        np.testing.assert_allclose(np.asarray(x), np.linalg.solve(values, sides), rtol=1e-9)
        np.testing.assert_allclose(np.asarray(results[-1]), np.asarray(x), rtol=1e-9)
        np.testing.assert_allclose(np.asarray(lower), np.linalg.cholesky(values), atol=1e-12)


def test_what_lies_on_a_rank_meanwhile(comm):
    """So many times the matrix / p, and two panels: no rank ever has a whole matrix."""
    n, size = 400, comm.size
    a, few = xp.asarray(positive(n)), xp.asarray(random((n, 4)))
    part, panels = 8 * n * n / size, 2 * 8 * n * Panels.of(a.mesh, n).nb * (size > 1)
    acts = {
        2.5: [lambda: linalg.lu_factor(a), lambda: linalg.det(a), lambda: linalg.solve(a, few)],
        3.5: [lambda: linalg.cholesky(a)],
        5: [lambda: linalg.inv(a), lambda: linalg.solve(a, a)],
        6: [lambda: linalg.lu(a)],
    }
    for times, functions in acts.items():
        for act in functions:
            tracemalloc.start()
            act()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < times * part + panels + 0.25 * part + 100_000
