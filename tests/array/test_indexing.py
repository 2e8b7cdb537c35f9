"""What keys choose is what NumPy's choose, read and written, in whatever layout; and errors are NumPy's, on all ranks."""

from __future__ import annotations

import numpy as np
import pytest
from test_manipulation import arrays, layouts, same

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

KEYS = {
    (): [(), ..., None, (None, ...)],
    (7,): [0, -1, 3, slice(None), slice(2, 5), slice(None, None, -1), slice(6, 1, -2), slice(5, 2), (None, slice(1, 4)), ..., (..., None)],
    (5, 4, 3): [
        0,
        (slice(None), 1),
        (..., 2),
        (1, 2, 0),
        (slice(1, 4), slice(None), slice(None, None, 2)),
        (slice(None, None, -1), slice(3, 0, -1)),
        (-1, slice(1, 3), None, -2),
        (None, ..., None, slice(0, 2)),
        (slice(4, None, -3), 2),
        (slice(0, 0),),
    ],
    (0, 3): [(slice(None), 1), slice(None), (..., slice(None, None, -1))],
    (2, 9): [1, (slice(None), slice(1, 8, 3)), (0, slice(None, None, -2)), (slice(None), 4)],
}
#: arrays of integers
FANCY = {
    (7,): [[0, 3, 3, -1], [[1, 2], [6, 0]], []],
    (5, 4, 3): [
        ([4, 0, 1],),
        (slice(None), [3, 0]),
        (..., [2, 2, 0, 1]),
        ([0, 1], [2, 3]),
        ([0, 1], slice(None), [2, 1]),
        (slice(1, 5), [[0, 1], [2, 3]]),
        ([[0], [1]], [0, 1, 2], 2),
        (slice(None), 1, [0, 2]),
        (1, slice(None), [0, 2]),
        (None, [1, 0], slice(None, None, 2)),
    ],
    (2, 9): [(slice(None), [8, 0, 8]), ([1, 0, 1], slice(1, 4))],
}


def as_numpy(key):
    """Lists as arrays."""
    if isinstance(key, tuple):
        return tuple(np.asarray(k, np.int64) if isinstance(k, list) else k for k in key)
    return np.asarray(key, np.int64) if isinstance(key, list) else key


def divided(key):
    """Lists as arrays that are divided."""
    if isinstance(key, tuple):
        return tuple(xp.asarray(np.asarray(k, np.int64)) if isinstance(k, list) else k for k in key)
    return xp.asarray(np.asarray(key, np.int64)) if isinstance(key, list) else key


def test_integers_slices_and_new_axes(comm):
    for shape, keys in KEYS.items():
        for values, x in arrays(comm.size, [shape]):
            for key in keys:
                same(x[key], values[key])
            same(x, values)


def test_a_part_is_a_copy(comm):
    for values, x in arrays(comm.size, [(7,), (2, 9)]):
        y = x[:]
        y[...] = -1
        same(x, values)


def test_a_full_slice_sends_nothing(comm):
    x = xp.zeros((8, 6))
    x.mesh.traffic.clear()
    assert x[:, 2:4].shape == (8, 2)
    assert x[:, 3].layout == xp.Block(0)
    assert not x.mesh.traffic.messages


def test_a_slice_sends_only_what_changes_its_rank(comm):
    x = xp.zeros(1000 * comm.size)
    x.mesh.traffic.clear()
    assert x[comm.size :].shape == (999 * comm.size,)
    assert x.mesh.traffic.nbytes.get("send", 0) <= 8 * comm.size


def test_arrays_of_integers(comm):
    for shape, keys in FANCY.items():
        for values, x in arrays(comm.size, [shape]):
            for key in keys:
                same(x[as_numpy(key)], values[as_numpy(key)])
                same(x[divided(key)], values[as_numpy(key)])


def test_masks(comm):
    for values, x in arrays(comm.size, [(7,), (5, 4, 3), (0, 3), (2, 9), ()]):
        for chosen in (values % 3 == 1, values < 0, values >= 0):
            for layout in layouts(values.shape, comm.size):
                same(x[xp.asarray(chosen, layout=layout)], values[chosen])
            same(x[chosen], values[chosen])
    for values, x in arrays(comm.size, [(5, 4, 3)]):
        rows, pairs = np.arange(5) % 2 == 0, np.arange(20).reshape(5, 4) % 3 == 0
        same(x[xp.asarray(rows)], values[rows])
        same(x[xp.asarray(pairs)], values[pairs])
        same(x[:, np.array([True, False, True, True])], values[:, np.array([True, False, True, True])])
        same(x[np.arange(5) % 2 == 1, 2], values[np.arange(5) % 2 == 1, 2])


def test_take(comm):
    for values, x in arrays(comm.size, [(7,), (5, 4, 3), (2, 9)]):
        for axis, n in enumerate(values.shape):
            index = np.array([n - 1, 0, 0, n // 2])
            for layout in (xp.Block(0), xp.Replicated()):
                same(xp.take(x, xp.asarray(index, layout=layout), axis=axis), np.take(values, index, axis))
        same(xp.take(x, xp.asarray([1, 0])), np.take(values, [1, 0]))


def test_take_along_axis(comm):
    for values, x in arrays(comm.size, [(7,), (5, 4, 3), (2, 9)]):
        for axis in range(values.ndim):
            order = np.argsort(-values, axis=axis)
            for layout in layouts(values.shape, comm.size):
                same(xp.take_along_axis(x, xp.asarray(order, layout=layout), axis=axis), np.take_along_axis(values, order, axis))
    same(xp.take_along_axis(xp.asarray(np.arange(6).reshape(3, 2)), xp.asarray([[1], [0], [1]]), axis=1), np.array([[1], [2], [5]]))


def test_writing_to_what_integers_and_slices_choose(comm):
    for shape, keys in KEYS.items():
        for values, x in arrays(comm.size, [shape]):
            for key in keys:
                wanted = values.copy()
                wanted[key] = 100
                y = x.copy()
                y[key] = 100
                same(y, wanted)
                part = 1000 + np.arange(wanted[key].size).reshape(wanted[key].shape)
                wanted[key] = part
                y[key] = xp.asarray(part)
                same(y, wanted)
                y[key] = part + 1
                wanted[key] = part + 1
                same(y, wanted)


def test_writing_broadcasts(comm):
    for values, x in arrays(comm.size, [(5, 4, 3)]):
        for value in (np.arange(3), np.arange(4).reshape(4, 1), np.arange(5).reshape(5, 1, 1), np.arange(60).reshape(1, 5, 4, 3)):
            wanted, y = values.copy(), x.copy()
            wanted[...] = value
            y[...] = xp.asarray(value)
            same(y, wanted)
            wanted[::-1] = value
            y[::-1] = xp.asarray(value)
            same(y, wanted)


def test_writing_to_what_masks_choose(comm):
    for values, x in arrays(comm.size, [(7,), (5, 4, 3), (0, 3), ()]):
        chosen = values % 3 == 1
        wanted, y = values.copy(), x.copy()
        wanted[chosen] = -1
        y[xp.asarray(chosen)] = -1
        same(y, wanted)
        wanted[chosen] = -np.arange(int(chosen.sum()))
        y[chosen] = xp.asarray(-np.arange(int(chosen.sum())))
        same(y, wanted)
    for values, x in arrays(comm.size, [(5, 4)]):
        rows = np.arange(5) % 2 == 0
        wanted, y = values.copy(), x.copy()
        wanted[rows] = np.arange(4)
        y[xp.asarray(rows)] = xp.asarray(np.arange(4))
        same(y, wanted)


def test_writing_to_what_arrays_of_integers_choose(comm):
    for shape, keys in FANCY.items():
        for values, x in arrays(comm.size, [shape]):
            for key in keys:
                wanted, y = values.copy(), x.copy()
                part = 1000 + np.arange(wanted[as_numpy(key)].size).reshape(wanted[as_numpy(key)].shape)
                wanted[as_numpy(key)] = part
                y[divided(key)] = xp.asarray(part)
                same(y, wanted)
                wanted[as_numpy(key)] = 5
                y[as_numpy(key)] = 5
                same(y, wanted)


def test_writing_goes_to_the_memory_of_the_blocks(comm):
    x = xp.zeros((6, 4))
    block = x.local
    x[2:5, ::2] = 1
    x[xp.asarray(np.eye(6, 4) > 0)] = 2
    assert x.local is block
    assert float(xp.sum(x)) == 6 + 4 * 2 - int(np.eye(6, 4)[2:5, ::2].sum())


def test_errors_are_those_of_numpy_and_everywhere(comm):
    x = xp.zeros((5, 4))
    for key, match in [
        (5, "index 5 is out of bounds for axis 0 with size 5"),
        ((0, -5), "index -5 is out of bounds for axis 1 with size 4"),
        ((0, 0, 0), "too many indices"),
        ((..., ...), "single ellipsis"),
        (xp.asarray([0, 7]), "index 7 is out of bounds for axis 0 with size 5"),
        (np.ones(4, bool), "boolean index did not match"),
        ("a", "only integers"),
        (1.5, "only integers"),
    ]:
        with pytest.raises(IndexError, match=match):
            _ = x[key]
        with pytest.raises(IndexError, match=match if not isinstance(key, xp.DistArray) else "out of bounds"):
            x[key] = 1
    with pytest.raises(ValueError, match="could not broadcast"):
        x[0] = xp.zeros(3)
    assert float(xp.sum(x)) == 0
