"""Sorted arrays are NumPy's and stable, NaN last in either direction, in even blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from against_numpy import layouts, same

import mpicluster.array as xp

pytestmark = pytest.mark.spmd


def samples():
    """Vectors and others, with many equal elements, NaN and infinities; of few elements and of many."""
    rng = np.random.default_rng(5)
    yield rng.integers(0, 4, 50)
    yield rng.standard_normal(1001)
    yield rng.integers(-128, 128, 300).astype(np.int8)
    yield rng.integers(0, 2, 33).astype(bool)
    yield rng.integers(0, 2**64 - 1, 20, dtype=np.uint64)
    yield np.array([np.nan, 1.0, -0.0, 0.0, np.inf, np.nan, -np.inf, 1.0, 0.0, -0.0], np.float32)
    yield rng.integers(0, 2, 12) + 1j * rng.integers(0, 3, 12)
    yield np.zeros(17)
    yield np.arange(40)[::-1]
    yield np.array([3.0])
    yield np.zeros(0)


def matrices():
    rng = np.random.default_rng(6)
    yield rng.integers(0, 5, (6, 5))
    yield rng.standard_normal((3, 2, 4))
    yield np.where(rng.integers(0, 3, (9, 2)) == 0, np.nan, rng.integers(0, 4, (9, 2)))
    yield np.zeros((0, 3))
    yield np.zeros((3, 0))


def falling(values, axis):
    """The stable falling order, NaN last."""
    return np.argsort(~values if values.dtype.kind in "biu" else -values, axis=axis, stable=True)


def test_sorting(comm):
    for values in itertools.chain(samples(), matrices()):
        for layout, axis in itertools.product(layouts(values.shape, comm.size), range(values.ndim)):
            x = xp.asarray(values, layout=layout)
            order, down = np.argsort(values, axis=axis, stable=True), falling(values, axis)
            for result, expected in [
                (xp.sort(x, axis=axis - values.ndim), np.take_along_axis(values, order, axis)),
                (xp.sort(x, axis=axis, stable=False), np.sort(values, axis=axis)),
                (xp.argsort(x, axis=axis), order),
                (xp.sort(x, axis=axis, descending=True), np.take_along_axis(values, down, axis)),
                (xp.argsort(x, axis=axis, descending=True), down),
            ]:
                same(result, expected)
                assert getattr(result.layout, "sizes", None) is None
                assert not isinstance(layout, xp.Block) or result.layout == xp.Block(layout.axis)


def test_zeros_of_both_signs_stay_in_their_order(comm):
    values = np.array([0.0, -0.0, 1.0, -0.0, 0.0, -1.0, 0.0, -0.0] * 3)
    signs = np.signbit(values[values == 0])
    for x, descending in itertools.product((xp.asarray(values), xp.asarray(np.stack([values] * 5, axis=1))), (False, True)):
        ordered = np.asarray(xp.sort(x, axis=0, descending=descending)).reshape(len(values), -1)[:, 0]
        np.testing.assert_array_equal(np.signbit(ordered[ordered == 0]), signs)


def test_no_rank_gets_more_than_its_share_and_nothing_travels_twice(comm):
    n = 4000
    for values in (np.zeros(n), np.arange(n) * 1.0, -np.arange(n) * 1.0, np.repeat([2.0, 1.0], n // 2), np.random.default_rng(1).random(n)):
        x = xp.asarray(values)
        x.mesh.traffic.clear()
        same(xp.sort(x), np.sort(values))
        traffic = x.mesh.traffic
        assert traffic.nbytes.get("send", 0) <= x.local.nbytes
        assert traffic.messages.get("send", 0) <= comm.size - 1
        assert traffic.messages.get("allgather", 0) <= 5


def test_what_is_wrong_is_wrong_on_every_rank(comm):
    for f in (xp.sort, xp.argsort):
        with pytest.raises(np.exceptions.AxisError):
            f(xp.ones((3, 2)), axis=2)
        with pytest.raises(np.exceptions.AxisError):
            f(xp.asarray(1.0))
    same(xp.sort(xp.asarray([2, 1])), [1, 2])
