"""What is searched for is found where NumPy finds it, whatever lies on which rank."""

from __future__ import annotations

import contextlib
import itertools
from unittest.mock import patch

import numpy as np
import pytest
from against_numpy import layouts, same
from test_sorting import matrices, samples

import mpicluster.array as xp
from mpicluster.array import searching

pytestmark = pytest.mark.spmd


@contextlib.contextmanager
def nothing_replicated(at_once=1 << 16):
    """As if arrays were too large to be replicated."""
    with patch.object(searching, "REPLICATED_UP_TO", -1), patch.object(searching, "_ASKED_AT_ONCE", at_once):
        yield


def test_extremes_are_where_numpy_finds_them(comm):
    for values in itertools.chain(samples(), matrices(), [np.asarray(2.0), np.array([[1.0, np.nan], [np.nan, 5.0]])]):
        for layout in layouts(values.shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for ours, numpys in ((xp.argmax, np.argmax), (xp.argmin, np.argmin)):
                for i, axis in enumerate([None, *range(values.ndim)]):
                    if 0 in (values.shape if axis is None else values.shape[axis : axis + 1]):
                        with pytest.raises(ValueError, match="empty sequence"):
                            ours(x, axis=axis)
                        continue
                    same(ours(x, axis=axis, keepdims=i % 2 == 1), numpys(values, axis=axis, keepdims=i % 2 == 1))
                same(ours(x, keepdims=True), numpys(values, keepdims=True)) if values.size and values.ndim else None
    with pytest.raises(np.exceptions.AxisError):
        xp.argmax(xp.ones(3), axis=1)


def test_the_first_of_equal_extremes_counts_in_any_order_of_blocks(comm):
    """In C order the first 9 is on the last rank that has columns, though lower ranks have some, too."""
    values = np.zeros((3, 8))
    values[0, 7] = values[1, 0] = values[2, 3] = 9
    for layout in layouts(values.shape, comm.size):
        same(xp.argmax(xp.asarray(values, layout=layout)), 7)
        same(xp.argmax(xp.asarray(values, layout=layout), axis=1), [7, 0, 3])


def test_what_is_not_zero(comm):
    for values in itertools.chain(samples(), matrices(), [np.zeros((3, 4)), np.arange(24).reshape(2, 3, 4) % 3]):
        for layout in layouts(values.shape, comm.size):
            x = xp.asarray(values, layout=layout)
            found = xp.nonzero(x)
            assert len(found) == values.ndim
            for got, want in zip(found, np.nonzero(values), strict=True):
                same(got, want)
                assert got.layout == (xp.Replicated() if isinstance(layout, xp.Replicated) else xp.Block(0))
    with pytest.raises(ValueError, match="without dimensions"):
        xp.nonzero(xp.asarray(1))


def test_places_in_a_sorted_vector(comm):
    tables = (
        np.sort(np.random.default_rng(1).integers(0, 20, 50)),
        np.array([1.0, 2.0, np.nan, np.nan]),
        np.array([5], np.int8),
        np.zeros(0),
    )
    wanted = [np.array([-1.0, 0, 7, 7, np.nan, 19, 30]), np.array([[3, 5], [100, -2]]), np.asarray(4), np.zeros(0, int)]
    for table, elements in itertools.product(tables, wanted):
        ways = [xp.Replicated(), xp.Block(0), layouts(table.shape, comm.size)[-1]]
        for one, other in itertools.product(ways, layouts(elements.shape, comm.size)[::2]):
            x1, x2 = xp.asarray(table, layout=one), xp.asarray(elements, layout=other)
            for side in ("left", "right"):
                expected = np.searchsorted(table, elements, side=side)
                same(xp.searchsorted(x1, x2, side=side), expected)
                with nothing_replicated():
                    same(xp.searchsorted(x1, x2, side=side), expected)


def test_a_sorter_puts_the_vector_in_order(comm):
    mixed = np.random.default_rng(2).permutation(50)
    for x, order in itertools.product((mixed, xp.asarray(mixed)), (np.argsort(mixed), xp.argsort(xp.asarray(mixed)))):
        same(xp.searchsorted(x, xp.asarray([10, 20, 99]), sorter=order), [10, 20, 50])
    same(xp.searchsorted(xp.asarray(mixed), 7, sorter=np.argsort(mixed)), 7)
    with pytest.raises(TypeError, match="integers"):
        xp.searchsorted(xp.asarray(mixed), 7, sorter=np.ones(50))
    with pytest.raises(ValueError, match="shape of x1"):
        xp.searchsorted(xp.asarray(mixed), 7, sorter=np.arange(3))
    with pytest.raises(ValueError, match="side"):
        xp.searchsorted(xp.asarray(mixed), 7, side="middle")
    with pytest.raises(ValueError, match="vector"):
        xp.searchsorted(xp.ones((2, 2)), 7)


def test_no_rank_is_asked_for_much_at_once(comm):
    """All elements have their place on one rank: they come in rounds."""
    table, elements = np.arange(1000), np.full(600, 1)
    x1, x2 = xp.asarray(table), xp.asarray(elements)
    with nothing_replicated(at_once=1):
        x1.mesh.traffic.clear()
        same(xp.searchsorted(x1, x2), elements)
        sent = x1.mesh.traffic.messages.get("send", 0)
        rounds = -(-600 // (2 * 600 // comm.size))
        assert sent == (0 if comm.size == 1 else rounds if comm.rank else rounds * (comm.size - 1))


def test_among_others(comm):
    for values in itertools.chain(samples(), matrices()):
        other = np.concatenate([values.reshape(-1)[::3], values.reshape(-1)[:2]])
        for mine, its in [(xp.Block(0), xp.Block(0)), (xp.Replicated(), xp.Block(0)), (xp.BlockCyclic(0, 2), xp.Replicated())]:
            x, among = xp.asarray(values, layout=mine), xp.asarray(other, layout=its)
            for large, invert in itertools.product((False, True), (False, True)):
                with nothing_replicated() if large else contextlib.nullcontext():
                    result = xp.isin(x, among, invert=invert)
                same(result, np.isin(values, other, invert=invert))
                assert result.layout == x.layout
    same(xp.isin(3, xp.asarray([[1, 3]])), True)
    same(xp.isin(xp.asarray([1, 2, 3]), 2), [False, True, False])
    with nothing_replicated():
        same(xp.isin(xp.asarray([1.5, np.nan, 9.0, -1.0]), xp.asarray([np.nan, 1.5])), [True, False, False, False])
