"""Order, search and sets are NumPy's, on divided axes and others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_manipulation import layouts, same

import mpicluster.array as xp

pytestmark = pytest.mark.spmd


def samples():
    """Vectors and others, with many equal elements, NaN and infinities; of few elements and of many."""
    rng = np.random.default_rng(5)
    yield rng.integers(0, 4, 50)
    yield rng.standard_normal(1001)
    yield rng.integers(-128, 127, 300).astype(np.int8)
    yield rng.integers(0, 2, 33).astype(bool)
    yield rng.integers(0, 2**63, 20, dtype=np.uint64)
    yield np.array([np.nan, 1.0, -0.0, 0.0, np.inf, np.nan, -np.inf, 1.0], np.float32)
    yield np.zeros(17)
    yield np.arange(40)[::-1]
    yield np.array([3.0])
    yield np.zeros(0)
    yield rng.integers(0, 5, (6, 5))
    yield rng.standard_normal((3, 2, 4))


def falling(values, axis):
    """The stable falling order, NaN last."""
    key = values.astype(np.float64) if values.dtype.kind != "u" else values
    key = ~key if values.dtype.kind == "u" else -key
    return np.argsort(key, axis=axis, stable=True)


def test_sorting(comm):
    for values in samples():
        for layout, axis in itertools.product(layouts(values.shape, comm.size), range(-values.ndim, values.ndim)):
            x = xp.asarray(values, layout=layout)
            same(xp.sort(x, axis=axis), np.sort(values, axis=axis))
            same(xp.argsort(x, axis=axis), np.argsort(values, axis=axis, stable=True))
            order = falling(values, axis)
            same(xp.argsort(x, axis=axis, descending=True), order)
            same(xp.sort(x, axis=axis, descending=True), np.take_along_axis(values, order, axis))


def test_a_sorted_vector_lies_in_even_blocks_whatever_is_in_it(comm):
    for values in (np.zeros(1000), np.arange(1000), np.repeat([2, 1], 500)):
        assert xp.sort(xp.asarray(values)).layout == xp.Block(0)


def test_extremes_are_where_numpy_finds_them(comm):
    for values in samples():
        for layout in layouts(values.shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for name in ("argmax", "argmin"):
                ours, numpys = getattr(xp, name), getattr(np, name)
                if not values.size:
                    with pytest.raises(ValueError, match="empty sequence"):
                        ours(x)
                    continue
                same(ours(x), np.asarray(numpys(values)))
                for axis, keep in itertools.product(range(values.ndim), (False, True)):
                    same(ours(x, axis=axis, keepdims=keep), np.asarray(numpys(values, axis=axis, keepdims=keep)))


def test_what_is_not_zero(comm):
    for values in samples():
        for layout in layouts(values.shape, comm.size):
            for got, want in zip(xp.nonzero(xp.asarray(values, layout=layout)), np.nonzero(values), strict=True):
                same(got, want)
    with pytest.raises(ValueError, match="without dimensions"):
        xp.nonzero(xp.asarray(1))


def test_places_in_a_sorted_vector(comm):
    table = np.sort(np.random.default_rng(1).integers(0, 20, 50))
    for wanted in (np.array([-1, 0, 7, 7, 19, 30]), np.array([[3, 5], [100, -2]]), np.asarray(4), np.zeros(0, int)):
        for one, other, side in itertools.product([xp.Block(0), xp.Replicated()], layouts(wanted.shape, comm.size), ("left", "right")):
            x1, x2 = xp.asarray(table, layout=one), xp.asarray(wanted, layout=other)
            same(xp.searchsorted(x1, x2, side=side), np.asarray(np.searchsorted(table, wanted, side=side)))
    mixed = np.random.default_rng(2).permutation(50)
    same(xp.searchsorted(xp.asarray(mixed), xp.asarray([10, 20]), sorter=xp.argsort(xp.asarray(mixed))), np.array([10, 20]))


def test_among_others(comm):
    for values in samples():
        x, other = xp.asarray(values), values.reshape(-1)[::3]
        same(xp.isin(x, xp.asarray(other)), np.isin(values, other))
        same(xp.isin(x, xp.asarray(other), invert=True), np.isin(values, other, invert=True))


def test_distinct_elements(comm):
    for values in samples():
        v, i, b, c = np.unique(values, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
        for layout in layouts(values.shape, comm.size):
            x = xp.asarray(values, layout=layout)
            found = xp.unique_all(x)
            same(found.values, v)
            same(found.counts, c)
            same(found.indices, i)
            same(found.inverse_indices, b.reshape(values.shape))
            same(xp.unique_values(x), v)
            assert xp.unique_counts(x)._fields == ("values", "counts")
            same(xp.unique_inverse(x).inverse_indices, b.reshape(values.shape))
