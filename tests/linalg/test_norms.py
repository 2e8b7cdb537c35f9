"""Norms of arrays in every layout are NumPy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import mpicluster.array as xp
from mpicluster.linalg import norms

pytestmark = pytest.mark.spmd

ORDERS = (0, 1, 2, 3, 0.5, -1, -2, np.inf, -np.inf)


def values(shape, kind="float64", seed=1):
    rng = np.random.default_rng(seed)
    x = 3 * rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(kind).kind == "c" else x).astype(kind)


def layouts(shape, size):
    found = [xp.Replicated()]
    for axis, n in enumerate(shape):
        found += [xp.Block(axis), xp.Block(axis, (0,) * (size - 1) + (n,)), xp.BlockCyclic(axis, 2)]
    return [*found, xp.BlockCyclic2D((size, 1), (2, 3))] if len(shape) == 2 else found


def same(result, expected):
    expected = np.asarray(expected)
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    rtol = {"f": 1e-5, "e": 1e-2}.get(expected.dtype.char, 1e-12)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=rtol, atol=rtol)


def test_vector_norm(comm):
    for shape in ((7,), (1,), (), (5, 4)):
        a = values(shape)
        axes = [None, *range(-1, len(shape) - 1), *([(0, 1), (1, 0)] if len(shape) > 1 else [])]
        for layout, axis in itertools.product(layouts(shape, comm.size), axes):
            x = xp.asarray(a, layout=layout)
            for order in ORDERS if len(shape) == 1 else (2, 3, -np.inf):
                same(norms.vector_norm(x, axis=axis, ord=order), np.linalg.vector_norm(a, axis=axis, ord=order))
            same(norms.vector_norm(x, axis=axis, keepdims=True), np.linalg.vector_norm(a, axis=axis, keepdims=True))


def test_vector_norm_of_every_type(comm):
    for kind, order in itertools.product(("float32", "complex64", "complex128", "int8", "bool", "uint16", "float16"), ORDERS):
        a = np.abs(values((3, 5))).astype(kind) + np.ones((), kind)
        same(norms.vector_norm(xp.asarray(a), ord=order), np.linalg.vector_norm(a, ord=order))
        same(norms.vector_norm(xp.asarray(a), ord=order, axis=0), np.linalg.vector_norm(a, ord=order, axis=0))


def test_vector_norm_of_what_is_empty_infinite_or_no_number(comm):
    for shape in ((0,), (0, 3), (3, 0)):
        for order, layout in itertools.product((0, 1, 2, 3, np.inf), layouts(shape, comm.size)):
            a = np.zeros(shape)
            same(norms.vector_norm(xp.asarray(a, layout=layout), ord=order), np.linalg.vector_norm(a, ord=order))
    same(norms.vector_norm(xp.zeros((0, 3)), axis=1, ord=-np.inf), np.zeros(0))
    for bad in (np.inf, -np.inf, np.nan):
        a = np.array([1.0, bad, 2.0, 3.0])
        for order in (1, 2, np.inf, -np.inf):
            same(norms.vector_norm(xp.asarray(a), ord=order), np.linalg.vector_norm(a, ord=order))
    with np.errstate(over="ignore"):
        same(norms.vector_norm(xp.asarray(np.full(5, 1e200))), np.inf)


def test_a_norm_is_one_fold_and_the_same_everywhere(comm):
    x = xp.asarray(values((40,)), layout=xp.BlockCyclic(0, 3))
    x.mesh.traffic.clear()
    length = norms.vector_norm(x)
    assert x.mesh.traffic.messages == ({"allgather": 1} if comm.size > 1 else {})
    assert length.layout == xp.Replicated()
    assert len(set(comm.allgather(float(length)))) == 1


def test_matrix_norm(comm):
    for shape in ((5, 4), (3, 7), (1, 1), (2, 3, 5)):
        a = values(shape, "complex128" if shape == (3, 7) else "float64")
        for layout in layouts(shape, comm.size):
            x = xp.asarray(a, layout=layout)
            for order, keepdims in itertools.product(("fro", 1, -1, np.inf, -np.inf), (False, True)):
                same(norms.matrix_norm(x, ord=order, keepdims=keepdims), np.linalg.matrix_norm(a, ord=order, keepdims=keepdims))
        for order in (2, -2, "nuc"):
            same(norms.matrix_norm(xp.asarray(a), ord=order), np.linalg.matrix_norm(a, ord=order))
    same(norms.matrix_norm(xp.ones((3, 2), dtype=xp.float32)), np.linalg.matrix_norm(np.ones((3, 2), "float32")))
    for order in ("fro", 1, np.inf):
        same(norms.matrix_norm(xp.zeros((0, 3)), ord=order), 0.0)


def test_norm_as_numpy_has_it(comm):
    a, v, t = values((4, 5)), values(6), values((2, 3, 4))
    cases = [
        (a, {}), (a, {"ord": 1}), (a, {"ord": "fro"}), (a, {"axis": 0}), (a, {"axis": 1, "ord": 3}),
        (a, {"axis": (0, 1), "keepdims": True}), (a, {"axis": (1, 0), "ord": 1}), (v, {}), (v, {"ord": 0}),
        (v, {"ord": -np.inf, "keepdims": True}), (t, {}), (t, {"keepdims": True}), (t, {"axis": (0, 2), "ord": np.inf}),
        (t, {"axis": (2, 0), "ord": 1, "keepdims": True}), (t, {"axis": -1}),
    ]  # fmt: skip
    for x, options in cases:
        same(norms.norm(xp.asarray(x), **options), np.linalg.norm(x, **options))


def test_cond(comm):
    a, stack = values((6, 6)), values((2, 4, 4))
    for layout in (xp.Replicated(), xp.Block(0), xp.Block(1)):
        for p in (None, 2, -2, 1, -1, "fro", np.inf, -np.inf, "nuc"):
            result = norms.cond(xp.asarray(a, layout=layout), p)
            np.testing.assert_allclose(np.asarray(result), np.linalg.cond(a, p), rtol=1e-9)
    for p in (None, 1):
        np.testing.assert_allclose(np.asarray(norms.cond(xp.asarray(stack), p)), np.linalg.cond(stack, p), rtol=1e-9)
    same(norms.cond(xp.asarray(a[:, :3])), np.linalg.cond(a[:, :3]))
    assert float(norms.cond(xp.zeros((5, 5)), 1)) == np.inf
    assert np.isnan(float(norms.cond(xp.zeros((5, 5)))))


def test_what_has_no_norm(comm):
    x = xp.ones((4, 3))
    for wrong in ("fro", "nuc", None):
        with pytest.raises(ValueError, match="Invalid norm order"):
            norms.vector_norm(xp.ones(3), ord=wrong)
    for wrong in (3, "x", 0):
        with pytest.raises(ValueError, match="Invalid norm order"):
            norms.matrix_norm(x, ord=wrong)
    with pytest.raises(np.linalg.LinAlgError):
        norms.matrix_norm(xp.ones(3))
    with pytest.raises(np.linalg.LinAlgError):
        norms.cond(x, 1)
    with pytest.raises(np.linalg.LinAlgError):
        norms.cond(xp.ones((0, 0)))
    with pytest.raises(ValueError, match="minimum"):
        norms.vector_norm(xp.ones(0), ord=-np.inf)
    with pytest.raises(ValueError, match="minimum"):
        norms.matrix_norm(xp.ones((3, 0)), ord=-1)
    for axis in ((0, 0), (0, 1, 2)):
        with pytest.raises(ValueError):
            norms.norm(xp.ones((2, 2, 2)), axis=axis)
    with pytest.raises(ValueError, match="Improper"):
        norms.norm(xp.ones((2, 2, 2)), ord=1)
    same(norms.norm(x), np.sqrt(12))
