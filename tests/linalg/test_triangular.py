"""Triangular systems: forwards and backwards, transposed or not, wherever the matrix lies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from dense_cases import KINDS, layouts, random, rounding, small_up_to

import mpicluster.array as xp
from mpicluster import linalg

pytestmark = pytest.mark.spmd

TRANS = {0: lambda t: t, "T": lambda t: t.T, "C": lambda t: t.conj().T, 1: lambda t: t.T}


def triangle(n, kind, lower, unit):
    """A matrix with NaN where nobody should look, and the triangle that is meant; not too ill-conditioned."""
    values = random((n, n), kind) / max(1, n) + 2 * np.eye(n, dtype=kind)
    meant = np.tril(values) if lower else np.triu(values)
    given = np.where(np.tri(n, dtype=bool) if lower else np.tri(n, dtype=bool).T, values, np.nan).astype(kind)
    if unit:
        np.fill_diagonal(meant, 1)
        np.fill_diagonal(given, np.nan)
    return given, meant.astype(kind)


def test_all_ways_to_solve(comm):
    """``|b - T x| <= gamma_n |T| |x|``, element by element: Higham, Accuracy and Stability of Numerical Algorithms, theorem 8.5."""
    ways = [*itertools.product((3, 40), (False, True), (0, "T", "C"), (False, True))]
    ways += [(0, True, 1, False), (1, False, 0, True), (130, True, "C", False)]
    for i, (n, lower, trans, unit) in enumerate(ways):
        kind = KINDS[i % 4]
        given, meant = triangle(n, kind, lower, unit)
        for j, layout in list(enumerate(layouts((n, n), comm.size)))[i % 3 :: 3]:
            shape = ((n,), (n, 4), (n, 90))[j % 3]
            b = random(shape, KINDS[i % 4 if j % 2 else i % 2 + 2], 1)
            side = xp.Block(0) if len(shape) == 1 else layouts(shape, comm.size)[(i + j) % 6]
            with small_up_to(0 if j < 5 else 256):
                x = linalg.solve_triangular(
                    xp.asarray(given, layout=layout), xp.asarray(b, layout=side), lower=lower, trans=trans, unit_diagonal=unit
                )
            assert x.dtype == np.result_type(given, b)
            matrix, x = TRANS[trans](meant), np.asarray(x)
            limit = rounding(kind if np.finfo(kind).eps > np.finfo(b.dtype).eps else b.dtype.char, n + 1)
            assert (np.abs(matrix @ x - b) <= 2 * limit * (np.abs(matrix) @ np.abs(x))).all()


def test_stacks_broadcast(comm):
    for left, right in (((3, 4, 4), (4,)), ((3, 4, 4), (4, 2)), ((4, 4), (5, 4, 2)), ((3, 1, 4, 4), (5, 4, 2)), ((0, 4, 4), (4, 1))):
        a, b = random(left) + 3 * np.eye(4), random(right, seed=1)
        expected = np.linalg.solve(np.tril(a), b)
        for one, other in itertools.product((xp.Replicated(), xp.Block(0), xp.Block(1)), (xp.Replicated(), xp.Block(0))):
            for limit in (0, 256):
                with small_up_to(limit):
                    x = linalg.solve_triangular(xp.asarray(a, layout=one), xp.asarray(b, layout=other), lower=True)
                np.testing.assert_allclose(np.asarray(x), expected, rtol=1e-10, atol=1e-12)


def test_a_zero_on_the_diagonal_is_everybodys_error(comm):
    for n, limit, layout in ((60, 0, xp.Block(0)), (60, 0, xp.Block(1)), (60, 256, xp.Block(0)), (60, 0, xp.Replicated())):
        values = np.eye(n)
        values[41, 41] = values[50, 50] = 0
        a = xp.asarray(values, layout=layout)
        with small_up_to(limit):
            with pytest.raises(linalg.LinAlgError, match="resolution failed at diagonal 41"):
                linalg.solve_triangular(a, xp.ones(n), trans=1)
            np.testing.assert_array_equal(np.asarray(linalg.solve_triangular(a, xp.ones(n), unit_diagonal=True)), np.ones(n))
    with pytest.raises(ValueError, match="size 3 is different from 2"):
        linalg.solve_triangular(xp.eye(2), xp.ones(3))
    with pytest.raises(ValueError, match="trans is 0"):
        linalg.solve_triangular(xp.eye(2), xp.ones(2), trans="X")


def test_a_matrix_in_panels_is_not_moved(comm):
    """Nor changed: the only messages are the broadcasts, the search for zeros, and those of the right-hand sides."""
    n, nb = 100, 8
    a = xp.asarray(triangle(n, "d", True, False)[1], layout=xp.BlockCyclic(0, nb))
    b = xp.asarray(random((n, 2)), layout=xp.BlockCyclic(0, nb))
    a.mesh.traffic.clear()
    with small_up_to(0):
        linalg.solve_triangular(a, b, lower=True)
    sent = a.mesh.traffic.messages
    assert sent.get("bcast", 0) == (-(-n // nb) if comm.size > 1 else 0)
    assert sent.get("allgather", 0) == (comm.size > 1)
    assert sent.get("send", 0) <= comm.size - 1
