"""Moving axes and elements gives what NumPy gives, in whatever layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

SHAPES = [(), (1,), (7,), (0,), (2, 3), (5, 4, 3), (0, 3), (1, 6), (9, 1)]


def layouts(shape, size):
    found = [xp.Replicated()]
    for axis in range(len(shape)):
        found += [xp.Block(axis), xp.BlockCyclic(axis, 2)]
        sizes = [0] * size
        sizes[-1] = shape[axis]
        found.append(xp.Block(axis, tuple(sizes)))
    return found


def arrays(size, shapes=SHAPES):
    """Arrays of every shape in every layout, and NumPy's."""
    for shape in shapes:
        values = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
        for layout in layouts(shape, size):
            yield values, xp.asarray(values, layout=layout)


def same(x, values):
    assert x.shape == values.shape
    assert x.local.shape == x.layout.local_shape(x.shape, x.mesh.size, x.mesh.rank)
    assert x.dtype == values.dtype
    np.testing.assert_array_equal(np.asarray(x), values)


def test_axes_in_another_order(comm):
    for values, x in arrays(comm.size):
        for order in itertools.permutations(range(values.ndim)):
            same(xp.permute_dims(x, order), values.transpose(order))
        if values.ndim >= 2:
            same(x.mT, values.mT)
            same(xp.moveaxis(x, 0, -1), np.moveaxis(values, 0, -1))
            same(xp.moveaxis(x, (0, 1), (-1, -2)), np.moveaxis(values, (0, 1), (-1, -2)))
        if values.ndim == 2:
            same(x.T, values.T)


def test_transposing_sends_nothing(comm):
    x = xp.ones((8, 4))
    x.mesh.traffic.clear()
    assert x.T.layout == xp.Block(1)
    assert xp.expand_dims(x, axis=0).layout == xp.Block(1)
    assert not x.mesh.traffic.messages


def test_axes_more_and_fewer(comm):
    for values, x in arrays(comm.size):
        for axis in range(-values.ndim - 1, values.ndim + 1):
            same(xp.expand_dims(x, axis=axis), np.expand_dims(values, axis))
        same(xp.expand_dims(x, axis=(0, -1)), np.expand_dims(values, (0, -1)))
        for axis, n in enumerate(values.shape):
            if n == 1:
                same(xp.squeeze(x, axis=axis), values.squeeze(axis))
            else:
                with pytest.raises(ValueError, match="not equal to one"):
                    xp.squeeze(x, axis=axis)


def test_reshape(comm):
    for shape, others in {
        (): [(1,), (1, 1)],
        (6,): [(2, 3), (3, -1), (6, 1), (1, 6)],
        (4, 6): [(24,), (6, 4), (4, 2, 3), (2, 2, 6), (-1,), (1, 24), (3, 8)],
        (5, 4, 3): [(20, 3), (5, 12), (60,), (3, 4, 5)],
        (0, 3): [(0,), (3, 0), (0, 5, 2)],
        (1, 1): [(), (1,)],
    }.items():
        for values, x in arrays(comm.size, [shape]):
            for other in others:
                same(xp.reshape(x, other), values.reshape(other))
    with pytest.raises(ValueError, match="cannot reshape array of size 6"):
        xp.reshape(xp.zeros(6), (4, 2))


def test_a_reshape_that_keeps_the_divided_axis_sends_nothing(comm):
    x = xp.zeros((8, 6))
    x.mesh.traffic.clear()
    xp.reshape(x, (8, 2, 3))
    assert not x.mesh.traffic.messages


def test_broadcasting(comm):
    for values, x in arrays(comm.size, [(), (3,), (1,), (1, 6), (9, 1), (0, 1)]):
        for front in ((), (2,) + (1,) * values.ndim):
            shape = np.broadcast_shapes(values.shape, front)
            target = tuple(7 if n == 1 else n for n in shape)
            same(xp.broadcast_to(x, target), np.broadcast_to(values, target))
    a, b = np.arange(3), np.arange(4).reshape(4, 1)
    for got, want in zip(xp.broadcast_arrays(xp.asarray(a), xp.asarray(b)), np.broadcast_arrays(a, b), strict=True):
        same(got, want)
    assert xp.broadcast_shapes((3, 1), (2,)) == (3, 2)
    with pytest.raises(ValueError, match="broadcast"):
        xp.broadcast_to(xp.zeros(3), (4,))


def test_concatenating_and_stacking(comm):
    for shape in [(3, 4), (5,), (0, 2)]:
        values = np.arange(int(np.prod(shape))).reshape(shape)
        for one, other in itertools.product(layouts(shape, comm.size), repeat=2):
            x, y = xp.asarray(values, layout=one), xp.asarray(values + 0.5, layout=other)
            for axis in range(len(shape)):
                same(xp.concat([x, y, x], axis=axis), np.concatenate([values, values + 0.5, values], axis=axis))
                same(xp.stack([x, y], axis=axis), np.stack([values, values + 0.5], axis=axis))
            same(xp.concat([x, y], axis=None), np.concatenate([values, values + 0.5], axis=None))
    with pytest.raises(ValueError, match="must match exactly"):
        xp.concat([xp.zeros((2, 3)), xp.zeros((2, 4))])
    with pytest.raises(ValueError, match="zero-dimensional"):
        xp.concat([xp.zeros(())])


def test_unstack(comm):
    for values, x in arrays(comm.size, [(3,), (2, 5), (5, 2)]):
        for axis in range(values.ndim):
            for got, want in zip(xp.unstack(x, axis=axis), np.unstack(values, axis=axis), strict=True):
                same(got, want)


def test_flip_and_roll(comm):
    for values, x in arrays(comm.size):
        same(xp.flip(x), np.flip(values))
        for axis in range(values.ndim):
            same(xp.flip(x, axis=axis), np.flip(values, axis))
            for shift in (0, 1, -2, 10):
                same(xp.roll(x, shift, axis=axis), np.roll(values, shift, axis))
        same(xp.roll(x, 3), np.roll(values, 3))
        if values.ndim == 2:
            same(xp.roll(x, (1, -1), axis=(0, 1)), np.roll(values, (1, -1), (0, 1)))


def test_rolling_moves_only_what_changes_its_rank(comm):
    x = xp.zeros(1000 * comm.size)
    x.mesh.traffic.clear()
    xp.roll(x, 1, axis=0)
    assert x.mesh.traffic.nbytes.get("send", 0) == (8 if comm.size > 1 else 0)


def test_repeat_and_tile(comm):
    for values, x in arrays(comm.size):
        same(xp.repeat(x, 3), np.repeat(values, 3))
        for axis, n in enumerate(values.shape):
            same(xp.repeat(x, 2, axis=axis), np.repeat(values, 2, axis))
            times = np.arange(n) % 3
            same(xp.repeat(x, xp.asarray(times), axis=axis), np.repeat(values, times, axis))
        for times in [(2,), (1, 3), (2, 1, 2), (0,), ()]:
            same(xp.tile(x, times), np.tile(values, times))
    with pytest.raises(ValueError, match="negative"):
        xp.repeat(xp.ones(3), -1)
