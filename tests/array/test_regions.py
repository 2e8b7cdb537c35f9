"""Parts of arrays, and arrays in C order, are layouts that say where each element is."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from test_layout import cases, held

from mpicluster.array.layout import BlockCyclic2D, block_sizes, default_layout, starts
from mpicluster.array.local import place
from mpicluster.array.regions import Listed, even, flattened, interleaved, places, runs_when_flat, selected, wrapped


def some_range(n):
    return st.slices(n).map(lambda s: range(n)[s]) if n else st.just(range(0))


@given(cases(), st.data())
def test_what_ranges_choose_is_said_where_it_lies(case, data):
    shape, size, layout, _ = case
    values = np.arange(int(np.prod(shape))).reshape(shape)
    ranges = tuple(data.draw(some_range(n)) for n in shape)
    chosen = values[np.ix_(*(np.array(r, int) for r in ranges))]
    lies = selected(layout, shape, size, ranges)
    assert lies.settled(chosen.shape, size) == lies
    for rank in range(size):
        here = held(layout, values, size, rank)[place(places(layout, shape, size, rank, ranges))]
        assert here.shape == lies.local_shape(chosen.shape, size, rank)
        np.testing.assert_array_equal(here, held(lies, chosen, size, rank))


@given(cases(), st.data())
def test_a_value_that_broadcasts_is_where_it_is_put(case, data):
    shape, size, layout, _ = case
    ranges = tuple(data.draw(some_range(n)) for n in shape)
    lengths = tuple(data.draw(st.sampled_from([1, len(r)])) for r in ranges)
    value = np.arange(int(np.prod(lengths))).reshape(lengths)
    lies = selected(layout, shape, size, ranges, lengths)
    wanted = np.full(shape, -1)
    wanted[np.ix_(*(np.array(r, int) for r in ranges))] = value
    for rank in range(size):
        block = np.full(layout.local_shape(shape, size, rank), -1)
        block[place(places(layout, shape, size, rank, ranges))] = held(lies, value, size, rank)
        np.testing.assert_array_equal(block, held(layout, wanted, size, rank))


@given(cases())
def test_blocks_in_c_order_are_runs_of_the_flat_array(case):
    shape, size, layout, _ = case
    assume(not isinstance(layout, BlockCyclic2D))
    values = np.arange(int(np.prod(shape))).reshape(shape)
    flat = flattened(layout, shape, size)
    for rank in range(size):
        np.testing.assert_array_equal(held(layout, values, size, rank).reshape(-1), held(flat, values.reshape(-1), size, rank))
        if isinstance(flat, Listed):
            assert len(flat.runs((values.size,), size, rank)[0]) <= runs_when_flat(layout, shape, size)


@given(cases(), st.data())
def test_what_a_mask_chooses_on_each_rank_is_said_where_it_lies(case, data):
    shape, size, _, _ = case
    axis = data.draw(st.integers(0, len(shape) - 1))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))), bool).reshape(shape)
    values = np.arange(mask.size).reshape(shape)
    bounds = starts(block_sizes(shape[axis], size))
    blocks = [(slice(None),) * axis + (slice(lo, hi),) for lo, hi in itertools.pairwise(bounds)]
    parts = int(np.prod(shape[:axis]))
    assume(parts)
    counts = [np.count_nonzero(mask[b].reshape(parts, int(np.prod(mask[b].shape[axis:]))), axis=1).tolist() for b in blocks]
    chosen = values[mask]
    lies = interleaved(counts, chosen.shape, 0)
    for rank, block in enumerate(blocks):
        np.testing.assert_array_equal(values[block][mask[block]], held(lies, chosen, size, rank))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 9))
def test_indices_that_begin_again(lo, length, n):
    wanted = sorted({i % n for i in range(lo, lo + length)}) if n else []
    assert [i for a, b in wrapped(lo, lo + length, n) for i in range(a, b)] == wanted


def test_even_blocks_go_round():
    assert even((8, 3), 4, 0) == default_layout((8, 3), 4)
    assert even((2, 9), 4, 0).axis == 1
    assert even((9, 8), 4, 1).axis == 1


def test_long_axes_are_only_numbers():
    n = 10**12
    lies = selected(default_layout((n,), 4), (n,), 4, (range(n - 1, -1, -1),))
    assert lies.runs((n,), 4, 0) == (((3 * n // 4, n),),)
