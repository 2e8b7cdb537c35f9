"""Moving axes and elements gives what NumPy gives, in whatever layout."""

from __future__ import annotations

import itertools

import array_api_strict as strict
import numpy as np
import pytest

import mpicluster.array as xp
from mpicluster.array import manipulation

pytestmark = pytest.mark.spmd

SHAPES = [(), (1,), (7,), (0,), (2, 3), (5, 4, 3), (0, 3), (1, 6)]


def layouts(shape, size):
    found = [xp.Replicated()]
    for axis in range(len(shape)):
        found += [xp.Block(axis), xp.BlockCyclic(axis, 2)]
        sizes = [0] * size
        sizes[-1] = shape[axis]
        found.append(xp.Block(axis, tuple(sizes)))
    if len(shape) == 2:
        found.append(xp.BlockCyclic2D((1, size) if size % 2 else (2, size // 2), (1, 2)))
    return found


def arrays(size, shapes=SHAPES):
    """Arrays of every shape in every layout, and NumPy's."""
    for shape in shapes:
        values = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
        for layout in layouts(shape, size):
            yield values, xp.asarray(values, layout=layout)


def same(x, values):
    assert x.shape == values.shape
    assert x.layout == x.layout.settled(x.shape, x.mesh.size)
    assert x.local.shape == x.layout.local_shape(x.shape, x.mesh.size, x.mesh.rank)
    assert x.dtype == values.dtype
    np.testing.assert_array_equal(np.asarray(x), values)


def sent(x):
    """Bytes that went from rank to rank since the last call, and the kinds of messages."""
    nbytes, kinds = x.mesh.traffic.nbytes.get("send", 0), set(x.mesh.traffic.messages)
    x.mesh.traffic.clear()
    return nbytes, kinds


def test_axes_in_another_order(comm):
    for values, x in arrays(comm.size, [(), (7,), (2, 3), (5, 4, 3)]):
        for order in itertools.permutations(range(values.ndim)):
            same(xp.permute_dims(x, order), values.transpose(order))
        if values.ndim >= 2:
            same(x.mT, values.mT)
            same(xp.moveaxis(x, 0, -1), np.moveaxis(values, 0, -1))
            same(xp.moveaxis(x, (0, 1), (-1, -2)), np.moveaxis(values, (0, 1), (-1, -2)))
    x = xp.zeros((2, 3))
    for wrong in (lambda: xp.permute_dims(x, (0, 0)), lambda: xp.permute_dims(x, (0,)), lambda: xp.moveaxis(x, (0, 0), (0, 1))):
        with pytest.raises(ValueError, match=r"axes|repeated"):
            wrong()
    with pytest.raises(ValueError, match="two dimensions"):
        xp.matrix_transpose(xp.zeros(3))


def test_axes_change_without_a_message_and_in_the_same_memory(comm):
    x = xp.ones((8, 4))
    sent(x)
    assert x.T.layout == xp.Block(1)
    assert xp.expand_dims(x, axis=0).layout == xp.Block(1)
    assert xp.squeeze(xp.expand_dims(x, axis=1), 1).layout == xp.Block(0)
    assert xp.asarray(np.ones((8, 4)), layout=xp.BlockCyclic(0, 2)).T.layout == xp.BlockCyclic(1, 2)
    row = xp.asarray(np.ones((8, 4)), layout=xp.BlockCyclic2D((1, comm.size), (2, 3))).T
    assert row.layout == xp.BlockCyclic2D((comm.size, 1), (3, 2))
    x.T[...] = 5
    assert sent(x) == (0, set())
    same(x, np.full((8, 4), 5.0))


def test_axes_more_and_fewer(comm):
    for values, x in arrays(comm.size):
        for axis in {-values.ndim - 1, -1, 0, values.ndim}:
            same(xp.expand_dims(x, axis=axis), np.expand_dims(values, axis))
        same(xp.expand_dims(x, axis=(0, -1)), np.expand_dims(values, (0, -1)))
        for axis, n in enumerate(values.shape):
            if n == 1:
                same(xp.squeeze(x, axis=axis), values.squeeze(axis))
            else:
                with pytest.raises(ValueError, match="not equal to one"):
                    xp.squeeze(x, axis=axis)
    with pytest.raises(np.exceptions.AxisError):
        xp.expand_dims(xp.zeros(3), axis=3)


def test_reshape(comm):
    for shape, others in {
        (): [(1,), (1, 1)],
        (6,): [(2, 3), (3, -1), (1, 6)],
        (4, 6): [(24,), (6, 4), (4, 2, 3), (2, 2, 6), (1, 24), (3, 8), (1, 4, 1, 6)],
        (5, 4, 3): [(20, 3), (5, 12), (-1,), (3, 4, 5)],
        (0, 3): [(0,), (3, 0), (0, 5, 2)],
        (1, 1): [(), (1,)],
    }.items():
        for values, x in arrays(comm.size, [shape]):
            for other in others:
                same(xp.reshape(x, other), values.reshape(other))
    for wrong in [(4, 2), (-1, 4), (-1, -1), (-6, -1), (-2, -3)]:
        with pytest.raises(ValueError, match=r"reshape array of size 6|one unknown"):
            xp.reshape(xp.zeros(6), wrong)


def test_a_reshape_moves_only_what_changes_its_rank(comm):
    x = xp.zeros((8, 6))
    sent(x)
    assert xp.reshape(x, (8, 2, 3)).layout == xp.Block(0)
    assert xp.reshape(x.T, (2, 3, 8)).layout == xp.Block(2)
    assert sent(x) == (0, set())
    n = 1000 * comm.size
    xp.reshape(xp.zeros((n + 1, 3)), (3 * n + 3,))
    assert sent(x)[0] <= 8 * 3 * comm.size
    wide = xp.zeros((2, n))
    assert wide.layout == (xp.Block(1) if comm.size > 2 else xp.Block(0))
    xp.reshape(wide, (2 * n,))
    assert sent(x)[0] <= 8 * 2 * 1000


def test_copies_of_a_reshape(comm):
    x = xp.zeros((4, 6))
    assert np.may_share_memory(xp.reshape(x, (4, 3, 2)).local, x.local)
    assert not np.may_share_memory(xp.reshape(x, (4, 3, 2), copy=True).local, x.local)
    same(xp.reshape(x, (4, 3, 2), copy=False), np.zeros((4, 3, 2)))
    block = np.zeros((6, 2, 2))
    one_alone = xp.from_local(block.transpose(0, 2, 1) if comm.rank == comm.size - 1 else block)
    with pytest.raises(ValueError, match="copy"):
        xp.reshape(one_alone, (6 * comm.size, 4), copy=False)
    if comm.size > 1:
        with pytest.raises(ValueError, match="several ranks"):
            xp.reshape(x, (24,), copy=False)


def test_broadcasting(comm):
    for values, x in arrays(comm.size, [(), (3,), (1, 6), (0, 1)]):
        for front in ((), (2,) + (1,) * values.ndim):
            shape = np.broadcast_shapes(values.shape, front)
            target = tuple(7 if n == 1 else n for n in shape)
            same(xp.broadcast_to(x, target), np.broadcast_to(values, target))
    a, b = np.arange(3), np.arange(4).reshape(4, 1)
    together = xp.broadcast_arrays(xp.asarray(a), xp.asarray(b), 1.5)
    for got, want in zip(together, np.broadcast_arrays(a, b, 1.5), strict=True):
        same(got, want)
    assert len({x.layout for x in together}) == 1
    assert xp.broadcast_shapes((3, 1), (2,)) == (3, 2)
    for wrong in [(4,), (), (3, 1)]:
        with pytest.raises(ValueError, match="broadcast"):
            xp.broadcast_to(xp.zeros(3), wrong)


def test_what_is_broadcast_is_no_memory_until_it_is_written(comm):
    x = xp.asarray(np.arange(3.0))
    y = xp.broadcast_to(x, (4 * comm.size, 3))
    assert y.local.strides[0] == 0
    y[1] = 5
    wanted = np.tile(np.arange(3.0), (4 * comm.size, 1))
    wanted[1] = 5
    same(y, wanted)
    same(x, np.arange(3.0))


def test_concatenating_and_stacking(comm):
    for shape in [(3, 4), (5,), (0, 2)]:
        values = np.arange(int(np.prod(shape))).reshape(shape)
        found = layouts(shape, comm.size)
        for i, one in enumerate(found):
            x, y = xp.asarray(values, layout=one), xp.asarray(values + 0.5, layout=found[(i * 3 + 1) % len(found)])
            for axis in range(-1, len(shape)):
                same(xp.concat([x, y, values[:0] if axis == 0 else values], axis=axis),
                     np.concatenate([values, values + 0.5, values[:0] if axis == 0 else values], axis=axis))  # fmt: skip
                same(xp.stack([x, y], axis=axis), np.stack([values, values + 0.5], axis=axis))
            same(xp.concat([x, y], axis=None), np.concatenate([values, values + 0.5], axis=None))
    for arrays_, axis, match in [
        ([], 0, "at least one"),
        ([xp.zeros((2, 3)), xp.zeros((2, 4))], 0, "must match exactly"),
        ([xp.zeros((2, 3)), xp.zeros(2)], 0, "dimensions must be equal"),
        ([xp.zeros(())], 0, "zero-dimensional"),
    ]:
        with pytest.raises(ValueError, match=match):
            xp.concat(arrays_, axis=axis)
    with pytest.raises(ValueError, match="same shape"):
        xp.stack([xp.zeros(2), xp.zeros(3)])


def test_what_is_alike_is_concatenated_without_a_message(comm):
    x = xp.ones((8, 3))
    sent(x)
    assert xp.concat([x, x], axis=1).layout == xp.Block(0)
    assert xp.stack([x, x]).layout == xp.Block(1)
    assert sent(x) == (0, set())
    xp.concat([x, xp.zeros((1, 3))])
    assert sent(x)[0] <= 3 * 8 * comm.size


def test_unstack(comm):
    for values, x in arrays(comm.size, [(3,), (2, 5), (5, 2)]):
        for axis in range(values.ndim):
            for got, want in zip(xp.unstack(x, axis=axis), np.unstack(values, axis=axis), strict=True):
                same(got, want)
    with pytest.raises(ValueError, match="at least 1-d"):
        xp.unstack(xp.zeros(()))


def test_flip_and_roll(comm):
    for values, x in arrays(comm.size, [(), (7,), (0, 3), (5, 4, 3), (2, 9)]):
        same(xp.flip(x), np.flip(values))
        same(xp.roll(x, 3), np.roll(values, 3))
        for axis in range(values.ndim):
            same(xp.flip(x, axis=axis), np.flip(values, axis))
            for shift in (0, -2):
                y = xp.roll(x, shift, axis=axis)
                same(y, np.roll(values, shift, axis))
                assert not np.may_share_memory(y.local, x.local)
        if values.ndim >= 2:
            same(xp.roll(x, (1, -1, 2), axis=(0, 1, 0)), np.roll(values, (1, -1, 2), (0, 1, 0)))
            same(xp.flip(x, axis=(0, -1)), np.flip(values, (0, -1)))
    with pytest.raises(ValueError, match="of one length"):
        xp.roll(xp.zeros((2, 3)), (1, 2), axis=(0, 1, 0))


def test_rolling_moves_only_what_changes_its_rank(comm):
    x = xp.zeros(1000 * comm.size)
    sent(x)
    xp.roll(x, 1, axis=0)
    xp.roll(xp.reshape(x, (100 * comm.size, 10)), 1)
    assert sent(x)[0] == (16 if comm.size > 1 else 0)


def test_repeat_and_tile(comm):
    for i, (values, x) in enumerate(arrays(comm.size, [(), (7,), (0, 3), (5, 4, 3), (1, 6)])):
        same(xp.repeat(x, 3), np.repeat(values, 3))
        for axis, n in enumerate(values.shape):
            same(xp.repeat(x, 2, axis=axis), np.repeat(values, 2, axis))
            times = np.arange(n) * 5 % 4
            layout = (xp.Replicated(), xp.Block(0), xp.BlockCyclic(0, 1))[(i + axis) % 3]
            same(xp.repeat(x, xp.asarray(times, layout=layout), axis=axis), np.repeat(values, times, axis))
        for repetitions in [(2,), (1, 3), (2, 1, 2), (0,), (), (9,)][i % 2 :: 2]:
            same(xp.tile(x, repetitions), np.tile(values, repetitions))
    for repeats, error, match in [
        (-1, ValueError, "negative"),
        (xp.asarray([1, 1, -1, 1]), ValueError, "negative"),
        (np.array([1, 2]), ValueError, "2 repeats for 4"),
        (1.5, TypeError, "integers"),
    ]:
        with pytest.raises(error, match=match):
            xp.repeat(xp.ones(4), repeats)


def test_one_element_is_repeated_by_all_ranks(comm):
    """... so that no rank holds more of the result than its share."""
    n = 1000 * comm.size
    times = np.zeros(4 * comm.size, np.int64)
    times[1] = n
    x = xp.arange(4 * comm.size)
    sent(x)
    y = xp.repeat(x, xp.asarray(times), axis=0)
    assert sent(x)[0] <= 16 * comm.size
    assert y.local.shape == (1000,)
    same(y, np.ones(n, np.int64))


def test_large_results_of_replicated_arrays_are_divided(comm):
    x, limit = xp.replicate(np.arange(12.0).reshape(3, 4)), manipulation.REPLICATED_UP_TO
    try:
        manipulation.REPLICATED_UP_TO = 96
        values = np.asarray(x)
        for got, want in [
            (xp.concat([x, x], axis=1), np.concatenate([values, values], axis=1)),
            (xp.tile(x, (5, 1)), np.tile(values, (5, 1))),
            (xp.repeat(x, 4, axis=0), np.repeat(values, 4, axis=0)),
            (xp.repeat(x, np.arange(4), axis=1), np.repeat(values, np.arange(4), axis=1)),
        ]:
            assert got.layout != xp.Replicated()
            same(got, want)
        assert xp.flip(x).layout == xp.Replicated()
    finally:
        manipulation.REPLICATED_UP_TO = limit


def test_blocks_of_another_library_stay_its(comm):
    values = np.arange(12.0 * comm.size).reshape(4 * comm.size, 3)
    x = xp.from_local(strict.asarray(values[4 * comm.rank : 4 * comm.rank + 4]))
    for got, want in [
        (xp.concat([x, x]), np.concatenate([values, values])),
        (xp.flip(x), np.flip(values)),
        (xp.roll(x, 1), np.roll(values, 1)),
        (xp.tile(x, (2, 2)), np.tile(values, (2, 2))),
        (xp.repeat(x, 2, axis=0), np.repeat(values, 2, axis=0)),
        (xp.reshape(x, (3, -1)), values.reshape(3, -1)),
        (xp.reshape(x, (-1, 3, 1)), values.reshape(-1, 3, 1)),
        (xp.broadcast_to(x, (2, *x.shape)), np.broadcast_to(values, (2, *x.shape))),
        (x.T, values.T),
    ]:
        assert isinstance(got.local, type(x.local))
        np.testing.assert_array_equal(np.asarray(got), want)
