"""Arrays of more elements, and messages of more bytes, than a C int counts to."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpicluster.array as xp
from mpicluster.array import files, mesh
from mpicluster.array.layout import Block, BlockCyclic, Layout, Replicated, block_sizes, default_layout, plan, starts
from mpicluster.array.merging import cuts
from mpicluster.array.regions import flattened, met, selected
from mpicluster.array.stretches import stretches

LONG = 2**31 + 6


# -- arithmetic ------------------------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    """A shape of very many elements, a number of ranks, and two layouts in few pieces."""
    shape = tuple(draw(st.lists(st.one_of(st.integers(1, 5), st.integers(2**30, 2**40)), min_size=1, max_size=3)))
    size = draw(st.integers(1, 5))
    return shape, size, draw(layouts(shape, size)), draw(layouts(shape, size))


@st.composite
def layouts(draw, shape, size) -> Layout:
    axis = draw(st.integers(0, len(shape) - 1))
    match draw(st.sampled_from(["replicated", "block", "uneven", "cyclic"])):
        case "replicated":
            return Replicated()
        case "block":
            return Block(axis).settled(shape, size)
        case "cyclic":
            return BlockCyclic(axis, shape[axis] // draw(st.integers(1, 20)) + 1).settled(shape, size)
    ends = sorted(draw(st.lists(st.integers(0, shape[axis]), min_size=size - 1, max_size=size - 1)))
    return Block(axis, tuple(b - a for a, b in itertools.pairwise([0, *ends, shape[axis]]))).settled(shape, size)


def elements(shape):
    product = 1
    for n in shape:
        product *= n
    return product


@given(cases())
def test_a_plan_of_a_very_large_array_is_exact(case):
    """What one sends is what the other gets, and nobody lacks an element."""
    shape, size, source, target = case
    plans = [plan(shape, size, source, target, rank) for rank in range(size)]
    for rank, steps in enumerate(plans):
        kept = steps.kept[1].size if steps.kept else 0
        assert kept + sum(part.size for part in steps.receives) == elements(target.local_shape(shape, size, rank))
        for part in steps.receives:
            (sent,) = [other for other in plans[part.peer].sends if other.peer == rank]
            assert sent.shape == part.shape
    assert sum(len(p.sends) for p in plans) == sum(len(p.receives) for p in plans)


@given(cases(), st.data())
def test_slices_of_a_very_large_array_are_exact(case, data):
    shape, size, layout, _ = case
    bounds = st.one_of(st.none(), st.integers(-(2**41), 2**41))
    steps = st.sampled_from([None, 1, 2, 2**31 + 1, -1, -(2**33)])
    ranges = [range(*slice(data.draw(bounds), data.draw(bounds), data.draw(steps)).indices(n)) for n in shape]
    lies = selected(layout, shape, size, ranges)
    chosen = tuple(map(len, ranges))
    held = [elements(lies.local_shape(chosen, size, rank)) for rank in range(size)]
    assert sum(held) == elements(chosen) * (size if layout == Replicated() else 1)
    for rank in range(size):
        for runs, indices in zip(layout.runs(shape, size, rank), ranges, strict=True):
            for first, part in zip(*[iter(p) for p in met(runs, indices)], strict=False):
                assert first[0] < first[1] <= len(indices)
                assert min(part[0], part[-1]) >= 0


@given(st.integers(2**31, 2**45), st.integers(1, 7), st.integers(1, 5))
def test_places_in_files_and_flat_arrays_are_exact(n, size, columns):
    shape = (n, columns)
    layout = default_layout(shape, size)
    at = 0
    for rank in range(size):
        for start, length, _ in stretches(shape, layout, size, rank):
            assert start == at
            at += length
    assert at == n * columns
    assert flattened(layout, shape, size).runs((at,), size, size - 1)[0][-1][1] == at
    assert starts(block_sizes(n, size))[-1] == n


def test_cuts_of_sorted_runs_are_exact_where_runs_are_very_long():
    """Runs are not there: element i of run r is ``3 i + r``."""
    sizes = [2**32 + 1, 2**33, 5]
    total = sum(sizes)
    targets = block_sizes(total, 3)

    def show(places):
        return [np.concatenate([3 * at + run for run, at in enumerate(where)]) for where in places]

    found = cuts(sizes, targets, show)
    assert found.sum(axis=1).tolist() == list(starts(targets))
    assert found[-1].tolist() == sizes
    for row in found[1:-1].tolist():
        last = max(3 * (at - 1) + run for run, at in enumerate(row) if at)
        first = min(3 * at + run for run, at in enumerate(row) if at < sizes[run])
        assert last < first


# -- messages --------------------------------------------------------------------------------------------------------------------------


def _numbers(shape):
    return np.random.default_rng(1).standard_normal(shape)


@pytest.mark.spmd
def test_messages_are_cut_into_pieces_that_mpi_can_count(comm, tmp_path):
    """... as they are with a count of at most 5000 bytes, in pieces of 1000."""
    a, vector = _numbers((300, 40)), _numbers(4001)
    matrix = _numbers((300, 300))
    with (
        mock.patch.multiple(mesh, _GIB=1000, _INT_MAX=5000),
        mock.patch.multiple(files, _GIB=1000, _PIECE=3000),
    ):
        x, v, m = xp.asarray(a), xp.asarray(vector), xp.asarray(matrix)
        x.mesh.traffic.clear()
        np.testing.assert_array_equal(np.asarray(x), a)
        if comm.size > 1:
            assert "allgather" not in x.mesh.traffic.messages
            assert x.mesh.traffic.messages["send"] >= x.local.nbytes // 1000
        gathered = x.T.gather(comm.size - 1)
        assert comm.rank != comm.size - 1 or (gathered == a.T).all()
        np.testing.assert_array_equal(np.asarray(x.redistribute(xp.Block(1)).redistribute(xp.BlockCyclic(0, 7))), a)
        np.testing.assert_array_equal(np.asarray(x[17]), a[17])
        np.testing.assert_array_equal(np.asarray(x[3:250:7, ::-1]), a[3:250:7, ::-1])
        np.testing.assert_array_equal(np.asarray(xp.sort(v)), np.sort(vector))
        np.testing.assert_allclose(np.asarray(xp.sum(x, axis=0)), a.sum(axis=0), rtol=1e-12)
        np.testing.assert_allclose(np.asarray(m @ m), matrix @ matrix, rtol=1e-9)
        np.testing.assert_allclose(np.asarray(xp.linalg.solve(m, x)), np.linalg.solve(matrix, a), rtol=1e-6)
        np.testing.assert_allclose(np.asarray(xp.fft.fft(v)), np.fft.fft(vector), rtol=0, atol=1e-9)
        xp.save(tmp_path / "a.npy", x.T)
        np.testing.assert_array_equal(np.asarray(xp.load(tmp_path / "a.npy", layout=xp.Block(1))), a.T)


# -- elements --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.spmd(2)
def test_more_elements_than_an_int_counts(comm):
    """They are views of one element on each rank, so that no memory is needed."""
    mine = LONG // 2
    x = xp.from_local(np.broadcast_to(np.int8(comm.rank + 1), mine))
    assert x.shape == (LONG,)
    assert x.size == x.nbytes == LONG > 2**31
    assert x[-1].item() == x[LONG - 1].item() == 2
    assert x[mine - 1].item() == 1
    assert np.asarray(x[mine - 3 : mine + 4]).tolist() == [1] * 3 + [2] * 4
    assert np.asarray(x[2**31 - 2 :]).tolist() == [2] * 8
    assert np.asarray(x[:: -(2**30)]).tolist() == [2, 2, 1]
    assert np.asarray(x[xp.asarray([-1, 0, 2**31, mine - 1])]).tolist() == [2, 1, 2, 1]
    assert int(xp.count_nonzero(x[: 2**21])) == 2**21
    assert np.asarray(xp.take(x, np.asarray([2**31 + 5, -LONG]))).tolist() == [2, 1]
    far = xp.concat([x[-4:], x[:4]])
    assert np.asarray(far).tolist() == [2] * 4 + [1] * 4
    with pytest.raises(IndexError):
        x[LONG]
    last = xp.arange(2**31 - 2, LONG)
    assert np.asarray(last)[-1] == LONG - 1
