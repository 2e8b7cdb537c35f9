"""Layouts and plans are exact for all small shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.array.layout import Block, BlockCyclic, BlockCyclic2D, Layout, Replicated, block_sizes, count, default_layout, plan


@st.composite
def cases(draw):
    """A shape, a number of ranks, and two layouts for them."""
    shape = tuple(draw(st.lists(st.integers(0, 12), min_size=1, max_size=3)))
    size = draw(st.integers(1, 6))
    return shape, size, draw(layouts(shape, size)), draw(layouts(shape, size))


@st.composite
def layouts(draw, shape, size):
    axis = draw(st.integers(0, len(shape) - 1))
    kinds = ["replicated", "block", "uneven", "cyclic", *(["grid"] if len(shape) == 2 else [])]
    match draw(st.sampled_from(kinds)):
        case "replicated":
            return Replicated()
        case "block":
            return Block(axis).settled(shape, size)
        case "uneven":
            cuts = sorted(draw(st.lists(st.integers(0, shape[axis]), min_size=size - 1, max_size=size - 1)))
            sizes = tuple(b - a for a, b in itertools.pairwise([0, *cuts, shape[axis]]))
            return Block(axis, sizes).settled(shape, size)
        case "cyclic":
            return BlockCyclic(axis, draw(st.integers(1, 5))).settled(shape, size)
    rows = draw(st.sampled_from([r for r in range(1, size + 1) if size % r == 0]))
    return BlockCyclic2D((rows, size // rows), (draw(st.integers(1, 4)), draw(st.integers(1, 4)))).settled(shape, size)


def indices(layout: Layout, shape, size, rank):
    return [[i for lo, hi in runs for i in range(lo, hi)] for runs in layout.runs(shape, size, rank)]


def held(layout: Layout, values, size, rank):
    return values[np.ix_(*(np.array(i, int) for i in indices(layout, values.shape, size, rank)))]


@given(cases())
def test_every_element_is_somewhere_and_only_once(case):
    """... unless it is replicated; runs rise and are apart."""
    shape, size, layout, _ = case
    seen = np.zeros(shape, int)
    for rank in range(size):
        for runs in layout.runs(shape, size, rank):
            assert all(lo < hi for lo, hi in runs)
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(runs))
        assert layout.local_shape(shape, size, rank) == tuple(map(len, indices(layout, shape, size, rank)))
        seen[np.ix_(*(np.array(i, int) for i in indices(layout, shape, size, rank)))] += 1
    assert (seen == (size if layout == Replicated() else 1)).all()


def _at(values, part):
    return values[np.ix_(*(np.array([i for lo, hi in r for i in range(lo, hi)], int) for r in part.runs))]


@given(cases())
def test_a_plan_brings_every_element_to_where_it_belongs(case):
    """What one sends is what the other receives, each element once."""
    shape, size, source, target = case
    values = np.arange(int(np.prod(shape))).reshape(shape)
    before = [held(source, values, size, r) for r in range(size)]
    plans = [plan(shape, size, source, target, r) for r in range(size)]
    for rank in range(size):
        want = held(target, values, size, rank)
        got = np.full(want.shape, -1)
        parts = [(part, _at(before[part.peer], next(s for s in plans[part.peer].sends if s.peer == rank))) for part in plans[rank].receives]
        if plans[rank].kept is not None:
            out, into = plans[rank].kept
            parts.append((into, _at(before[rank], out)))
        for part, sent in parts:
            place = np.ix_(*(np.array([i for lo, hi in r for i in range(lo, hi)], int) for r in part.runs))
            assert (got[place] == -1).all()
            got[place] = sent
        np.testing.assert_array_equal(got, want)
        assert sum(len(p.sends) for p in plans) == sum(len(p.receives) for p in plans)


@given(cases())
def test_nothing_is_sent_to_oneself_or_for_nothing(case):
    shape, size, source, target = case
    for rank in range(size):
        steps = plan(shape, size, source, target, rank)
        for part in (*steps.sends, *steps.receives):
            assert part.peer != rank
            assert part.size
        if source == target:
            assert not steps.sends
            assert not steps.receives


@given(st.integers(0, 100), st.integers(1, 20))
def test_blocks_are_as_even_as_can_be(length, size):
    sizes = block_sizes(length, size)
    assert sum(sizes) == length
    assert len(sizes) == size
    assert max(sizes) - min(sizes) <= 1
    assert list(sizes) == sorted(sizes, reverse=True)


def test_layouts_are_values():
    assert Block(0) == Block(0)
    assert len({Block(0), Block(0), Block(1), BlockCyclic(0, 4), Replicated()}) == 4
    assert Block(-1).settled((3, 4), 2) == Block(1)
    assert Block(0, (2, 1)).settled((3,), 2) == Block(0)
    assert Block(0, (1, 2)).settled((3,), 2) == Block(0, (1, 2))


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (Block(2), (3, 3)),
        (Block(0, (1, 1)), (3, 3)),
        (Block(0, (4, -1)), (3, 3)),
        (Block(0, (1, 1, 1)), (3, 3)),
        (BlockCyclic(0, 0), (3, 3)),
        (BlockCyclic(5, 1), (3, 3)),
        (BlockCyclic2D((2, 2)), (3, 3)),
        (BlockCyclic2D((1, 2)), (3, 3, 3)),
        (BlockCyclic2D((1, 2), (0, 1)), (3, 3)),
        (Block(0), ()),
    ],
    ids=str,
)
def test_what_cannot_be_divided_so_is_said(layout, shape):
    with pytest.raises(ValueError, match=r"."):
        layout.settled(shape, 2)


def test_a_new_array_lies_in_blocks_of_rows_unless_these_do_not_go_round():
    assert default_layout((), 4) == Replicated()
    assert default_layout((8, 100), 4) == Block(0)
    assert default_layout((2, 100), 4) == Block(1)
    assert default_layout((2, 1), 4) == Block(0)
    assert default_layout((0, 0), 4) == Block(0)


def test_very_large_shapes_are_only_numbers():
    shape = (2**40, 3)
    steps = plan(shape, 4, Block(0), Block(1).settled(shape, 4), 1)
    assert sum(p.size for p in steps.receives) + (steps.kept[0].size if steps.kept else 0) == 2**40
    assert count(Block(0).runs(shape, 4, 3)[0]) == 2**38
