"""What keys choose is what NumPy's choose, read and written, in whatever layout; and errors are NumPy's, on all ranks."""

from __future__ import annotations

import array_api_strict as strict
import numpy as np
import pytest
from test_manipulation import arrays, layouts, same, sent

import mpicluster.array as xp
from mpicluster.array import masks, rows, selection

pytestmark = pytest.mark.spmd

KEYS = {
    (): [(), ..., None, (None, ...), True, False],
    (7,): [0, -1, slice(2, 5), slice(6, 1, -2), slice(5, 2), (None, slice(1, 4)), (..., None)],
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
    (0, 3): [(slice(None), 1), (..., slice(None, None, -1))],
    (2, 9): [1, (slice(None), slice(1, 8, 3)), (0, slice(None, None, -2)), (slice(None), 4)],
}
#: with arrays of integers, and masks beside them
ARRAYS = {
    (7,): [[0, 3, 3, -1], [[1, 2], [6, 0]], []],
    (5, 4, 3): [
        ([4, 0, 1],),
        (slice(None), [3, 0]),
        (..., [2, 2, 0, 1]),
        ([0, 1], [2, 3]),
        ([0, 1], slice(None), [2, 1]),
        ([0, 1], [2], ..., [2]),
        (slice(1, 5), [[0, 1], [2, 3]]),
        ([[0], [1]], [0, 1, 2], 2),
        (1, slice(None), [0, 2]),
        (None, [1, 0], slice(None, None, -2)),
        ([True, False, True, False, True], slice(None), [0, 2, 1]),
        (slice(1, 4), [True, False, True, True]),
        (2, ..., [True, False, True]),
        (True, [1, 2], ..., None),
    ],
    (2, 9): [(slice(None), [8, 0, 8]), ([1, 0, 1], slice(1, 4))],
}


def as_numpy(key):
    """Lists as arrays."""
    if isinstance(key, tuple):
        return tuple(map(as_numpy, key))
    return np.asarray(key, np.int64 if not key else None) if isinstance(key, list) else key


def divided(key):
    """Lists as arrays that are divided."""
    if isinstance(key, tuple):
        return tuple(map(divided, key))
    return xp.asarray(as_numpy(key)) if isinstance(key, list) else key


def random_layout(rng, shape, size):
    found = layouts(shape, size)
    return found[rng.integers(len(found))]


def random_key(rng, shape):
    """A key of slices and integers, or with arrays of integers that broadcast, or with masks."""
    key, axis, together = [], 0, [(3,), (2, 2), (1,), (0,)][rng.integers(4)]
    with_arrays, with_masks = rng.random(2) < 0.5
    while axis < len(shape):
        n, kind = shape[axis], rng.integers(8)
        if kind == 0:
            key.append(None)
            continue
        if kind == 1 and Ellipsis not in [k for k in key if k is Ellipsis]:
            key.append(Ellipsis)
            axis += int(rng.integers(0, len(shape) - axis + 1))
            continue
        if kind == 2 and n:
            key.append(int(rng.integers(-n, n)))
        elif kind in (3, 4) and with_arrays and n:
            key.append(rng.integers(-n, n, together[int(rng.integers(2)) :]))
        elif kind in (5, 6) and with_masks:
            last = axis + 1 if with_arrays else int(rng.integers(axis + 1, len(shape) + 1))
            key.append(rng.random(shape[axis:last]) < rng.choice([0, 0.4, 1]))
            axis, with_masks = last - 1, False
        else:
            ends = [None if rng.random() < 0.4 else int(rng.integers(-n - 1, n + 2)) for _ in range(2)]
            key.append(slice(*ends, None if rng.random() < 0.5 else int(rng.choice([-2, -1, 2, 3]))))
        axis += 1
    return tuple(key)


def check_any_keys(comm, seed, cases):
    """Keys, layouts and values of any kind, read and written."""
    rng = np.random.default_rng(seed)
    for _ in range(cases):
        shape = tuple(int(n) for n in rng.choice([0, 1, 2, 3, 5, 9], rng.integers(1, 4), p=[0.04, 0.1, 0.2, 0.2, 0.2, 0.26]))
        values = rng.integers(0, 1000, shape)
        x = xp.asarray(values, layout=random_layout(rng, shape, comm.size))
        key = random_key(rng, shape)
        its = [
            k if not isinstance(k, np.ndarray) or rng.random() < 0.3 else xp.asarray(k, layout=random_layout(rng, k.shape, comm.size))
            for k in key
        ]
        try:
            wanted = values[key]
        except IndexError:  # a mask and integers that do not broadcast
            with pytest.raises(IndexError, match="broadcast"):
                _ = x[tuple(its)]
            continue
        got = x[tuple(its)]
        same(got, wanted)
        assert not np.may_share_memory(got.local, x.local)
        lengths = [n if rng.random() < 0.7 else 1 for n in wanted.shape][int(rng.integers(0, wanted.ndim + 1)) :]
        part = -1 - np.arange(int(np.prod(lengths))).reshape(lengths)
        values[key] = part
        block = x.local
        x[tuple(its)] = part if rng.random() < 0.3 else xp.asarray(part, layout=random_layout(rng, part.shape, comm.size))
        same(x, values)
        assert x.local is block


def test_any_keys(comm):
    check_any_keys(comm, 1, 60)


def test_any_keys_where_nothing_is_small(comm):
    """With bounds so low that parts are divided that would be replicated, and arrays are brought to other layouts."""
    before = selection.REPLICATED_UP_TO, rows.REPLICATED_UP_TO, rows.GATHERED_UP_TO, masks._MOST_RUNS
    try:
        selection.REPLICATED_UP_TO = rows.REPLICATED_UP_TO = rows.GATHERED_UP_TO = 16
        masks._MOST_RUNS = 2
        check_any_keys(comm, 2, 40)
    finally:
        selection.REPLICATED_UP_TO, rows.REPLICATED_UP_TO, rows.GATHERED_UP_TO, masks._MOST_RUNS = before


def test_integers_slices_and_new_axes(comm):
    for shape, keys in KEYS.items():
        for i, (values, x) in enumerate(arrays(comm.size, [shape])):
            for key in keys[i % 2 :: 2]:
                same(x[key], values[key])
                wanted = values.copy()
                wanted[key] = 100
                y = x.copy()
                y[key] = 100
                same(y, wanted)
                part = 1000 + np.arange(wanted[key].size).reshape(wanted[key].shape)
                wanted[key] = part
                y[key] = part if i % 2 else xp.asarray(part)
                same(y, wanted)


def test_arrays_in_keys(comm):
    for shape, keys in ARRAYS.items():
        for i, (values, x) in enumerate(arrays(comm.size, [shape])):
            for key in keys[i % 3 :: 3]:
                wanted = values.copy()
                same(x[as_numpy(key) if i % 2 else divided(key)], wanted[as_numpy(key)])
                part = 1000 + np.arange(wanted[as_numpy(key)].size).reshape(wanted[as_numpy(key)].shape)
                wanted[as_numpy(key)] = part
                x[divided(key) if i % 2 else as_numpy(key)] = xp.asarray(part)
                same(x, wanted)
                wanted[as_numpy(key)] = 5
                x[as_numpy(key) if i % 2 else divided(key)] = 5
                same(x, wanted)
                wanted[...] = x[...] = values


def test_masks_of_everything(comm):
    for i, (values, x) in enumerate(arrays(comm.size, [(7,), (2, 9), (0, 3), ()])):
        for chosen in (values % 3 == 1, values < 0, values >= 0):
            found = layouts(values.shape, comm.size)
            mask = xp.asarray(chosen, layout=found[(3 * i + 1) % len(found)])
            same(x[mask], values[chosen])
            wanted, y = values.copy(), x.copy()
            wanted[chosen] = -1
            y[mask] = -1
            same(y, wanted)
            wanted[chosen] = np.arange(int(chosen.sum()))
            y[mask] = xp.arange(int(chosen.sum()))
            same(y, wanted)


def test_a_mask_with_an_axis_of_no_length_fits_and_chooses_nothing(comm):
    for shape, at in [((0,), ()), ((0, 9), ()), ((2, 0), ()), ((0,), (1,)), ((0,), (slice(None),))]:
        mask = np.zeros(shape, bool)
        for values, x in arrays(comm.size, [(2, 9)]):
            same(x[*at, xp.asarray(mask)], values[*at, mask])
            y = x.copy()
            y[*at, xp.asarray(mask)] = -1
            same(y, values)
    with pytest.raises(IndexError, match="did not match"):
        _ = x[xp.asarray(np.zeros((0, 2), bool))]


def test_a_part_is_a_copy_and_a_value_too(comm):
    values = np.arange(16.0).reshape(4, 4)
    for layout in layouts((4, 4), comm.size):
        x, wanted = xp.asarray(values, layout=layout), values.copy()
        y = x[:]
        y[...] = -1
        same(x, values)
        for target, value in [(slice(None), lambda a: a.T), (slice(None, None, -1), lambda a: a), (slice(1, None), lambda a: a[:-1])]:
            x[target] = value(x)
            wanted[target] = value(wanted).copy()
            same(x, wanted)
    order = xp.asarray([2, 0, 1, 3])
    order[order] = order
    same(order, np.array([0, 1, 2, 3])[[0, 1, 2, 3]])
    flags = xp.asarray([True, False, True])
    flags[flags] = False
    assert not bool(xp.any(flags))


def test_of_several_values_for_one_place_the_last_counts(comm):
    for layout in layouts((5,), comm.size):
        for index in (np.array([1, 1, 1, 4, 1]), xp.asarray([1, 1, 1, 4, 1])):
            x = xp.asarray(np.zeros(5), layout=layout)
            x[index] = xp.asarray(np.arange(5.0))
            same(x, np.array([0, 4, 0, 0, 3.0]))
    for axis in (0, 1):
        x = xp.zeros((5, 2))
        x[xp.asarray([[1], [1]]), xp.asarray([0, 0, 1])] = xp.asarray(np.arange(6.0).reshape(2, 3), layout=xp.Block(axis))
        same(x[1], np.array([4, 5.0]))


def test_values_are_cast(comm):
    for kind in ("bool", "int8", "uint64", "float32", "complex64"):
        values = np.array([0, 1, 2, 3, 4]).astype(kind)
        x = xp.asarray(values)
        for value in (np.array([1.7, 2.2]), True, 3):
            values[1:3] = value
            x[1:3] = value
            x[np.array([1, 2])] = xp.asarray(value)
            same(x, values)
    x = xp.zeros(3)
    for value in (1j, np.ones(3, complex), xp.ones(3, dtype=xp.complex64)):
        with pytest.raises(TypeError):
            x[...] = value
    with pytest.raises(OverflowError):
        xp.asarray(np.zeros(3, np.int8))[0] = 300


def test_operations_in_place_on_parts(comm):
    x, values = xp.asarray(np.arange(12.0).reshape(6, 2)), np.arange(12.0).reshape(6, 2)
    for a in (x, values):
        a[2] += 1
        a[a > 5] *= 2
        a[:, 0] -= 3
        a[[0, 5]] /= 4
    same(x, values)


def test_take(comm):
    for i, (values, x) in enumerate(arrays(comm.size, [(7,), (5, 4, 3), (2, 9)])):
        for axis, n in enumerate(values.shape):
            for index in (np.array([n - 1, 0, -1, n // 2]), np.array([[0], [1]]), np.array(1), np.empty(0, np.int64))[i % 2 :: 2]:
                layout = layouts(index.shape, comm.size)[-1 if i % 3 else 0]
                same(xp.take(x, xp.asarray(index, layout=layout), axis=axis), np.take(values, index, axis))
        same(xp.take(x, xp.asarray([1, 0])), np.take(values, [1, 0]))
    with pytest.raises(TypeError, match="integers"):
        xp.take(xp.zeros(3), xp.ones(2), axis=0)


def test_take_along_axis(comm):
    for i, (values, x) in enumerate(arrays(comm.size, [(7,), (5, 4, 3), (2, 9)])):
        for axis in range(values.ndim):
            order = np.argsort(-values, axis=axis)
            for layout in layouts(values.shape, comm.size)[i % 4 :: 4]:
                same(xp.take_along_axis(x, xp.asarray(order, layout=layout), axis=axis), np.take_along_axis(values, order, axis))
    values, index = np.arange(6).reshape(3, 2), np.array([[1, 0, -1, 0]])
    for axis in (0, 1):
        x = xp.asarray(values, layout=xp.Block(axis))
        same(xp.take_along_axis(x, xp.asarray(index), axis=1), np.take_along_axis(values, index, 1))
    with pytest.raises(ValueError, match="number of dimensions"):
        xp.take_along_axis(x, xp.asarray([0]), axis=0)


def test_what_does_not_change_its_rank_is_not_sent(comm):
    n = 1000 * comm.size
    x, cyclic = xp.zeros((n, 6)), xp.asarray(np.zeros((40 * comm.size, 6)), layout=xp.BlockCyclic(0, 8))
    sent(x)
    assert x[:, 2:4].layout == x[:, 3].layout == xp.Block(0)
    assert cyclic[:, 1].layout == xp.BlockCyclic(0, 8)
    x[:, ::2] = 1
    x[n // 2 :, 1] = np.arange(6 * n)[-n // 2 :][: n - n // 2]
    x[np.array([0, -1])] = 3
    x[x > 2] = 4
    x[np.arange(n) % 2 == 0] = 5
    cyclic[3:17, 1] = 6
    assert sent(x) == (0, set())
    assert x[comm.size :].shape == (n - comm.size, 6)
    assert sent(x)[0] <= 6 * 8 * comm.size
    few = x[np.array([0, n - 1, 0])]
    assert few.shape == (3, 6)
    assert sent(x)[0] <= 2 * 3 * 6 * 8
    assert xp.take(few, np.array([0]), axis=1).shape == (3, 1)


def test_one_index_of_the_divided_axis_is_replicated_by_one_bcast(comm):
    x = xp.asarray(np.arange(12.0 * comm.size).reshape(-1, 3))
    for layout in (xp.Block(0), xp.BlockCyclic(0, 1)):
        y = x.redistribute(layout)
        sent(x)
        row = y[2]
        assert row.layout == xp.Replicated()
        assert x.mesh.traffic.messages == ({} if comm.size == 1 else {"bcast": 1})
        same(row, np.array([6.0, 7, 8]))


def test_a_mask_of_few_long_rows_leaves_no_rank_with_more_than_its_share(comm):
    n = 1000 * comm.size
    x = xp.asarray(np.arange(2 * n).reshape(2, n), layout=xp.Block(1))
    sent(x)
    y = x[xp.asarray(np.ones((2, n), bool), layout=xp.Block(1))]
    assert sent(x)[0] <= 2 * 1000 * 8
    assert y.local.shape == (2000,)
    same(y, np.arange(2 * n))


def test_indices_that_all_ranks_have_are_not_asked_for(comm):
    x = xp.arange(100 * comm.size)
    sent(x)
    x[np.array([5, 50, 3])]
    assert sent(x)[1] <= {"send"}
    x[xp.asarray([5, 50, 3])]
    assert sent(x)[1] <= {"send", "alltoall", "agree"}
    table = xp.arange(comm.size)
    table[xp.asarray(np.zeros(100 * comm.size, np.int64))]
    assert sent(x)[1] <= {"allgather", "agree"}


def test_a_block_that_cannot_be_written_to_is_replaced(comm):
    fixed = np.zeros((2, 3))
    fixed.flags.writeable = False
    x = xp.from_local(fixed)
    x[1:, 1] = 7
    assert not fixed.any()
    assert float(x[1, 1]) == 7


def test_blocks_of_another_library_stay_its(comm):
    values = np.arange(12.0 * comm.size).reshape(4 * comm.size, 3)
    mine = slice(4 * comm.rank, 4 * comm.rank + 4)
    for key in [slice(1, 3), 0, (slice(None, None, -1), 1), values % 2 == 0, np.array([0, -1, 2]), (slice(None), np.array([2, 0]))]:
        x, wanted = xp.from_local(strict.asarray(values[mine])), values.copy()
        for value in (lambda part: -1.0, lambda part: np.arange(float(part.size)).reshape(part.shape)):
            part = x[key]
            assert isinstance(part.local, type(x.local))
            np.testing.assert_array_equal(np.asarray(part), wanted[key])
            x[key] = wanted[key] = value(wanted[key])
            assert isinstance(x.local, type(part.local))
            np.testing.assert_array_equal(np.asarray(x), wanted)
    x, index = xp.from_local(strict.asarray(values[mine])), xp.from_local(strict.asarray([0, -1]))
    np.testing.assert_array_equal(np.asarray(x[index]), values[[0, -1] * comm.size])
    np.testing.assert_array_equal(np.asarray(x[x > 5]), values[values > 5])


def test_errors_are_those_of_numpy_and_everywhere(comm):
    x = xp.zeros((5, 4))
    bad_on_one = xp.from_local(np.array([0, 7 if comm.rank == comm.size - 1 else 1]))
    for key, match in [
        (5, "index 5 is out of bounds for axis 0 with size 5"),
        ((0, -5), "index -5 is out of bounds for axis 1 with size 4"),
        ((0, 0, 0), "too many indices"),
        ((..., ...), "single ellipsis"),
        (np.array([0, 5]), "index 5 is out of bounds for axis 0 with size 5"),
        (bad_on_one, "index 7 is out of bounds for axis 0 with size 5"),
        ((slice(None), bad_on_one), "index 7 is out of bounds for axis 1 with size 4"),
        ((np.array([0, 1]), np.array([0, 1, 2])), "could not be broadcast together"),
        (np.ones(4, bool), "boolean index did not match"),
        ((0, xp.asarray([True, False])), "boolean index did not match indexed array along axis 1"),
        ("a", "only integers"),
        (1.5, "only integers"),
        (xp.ones(2), "must be of integer"),
        (slice("a"), "slice indices"),
    ]:
        with pytest.raises(IndexError, match=match):
            _ = x[key]
        with pytest.raises(IndexError, match=match):
            x[key] = 1
    with pytest.raises(ValueError, match="step cannot be zero"):
        _ = x[::0]
    for key, shape in [(0, (3,)), (slice(None), (5, 3)), (np.array([0, 1]), (3, 4)), (xp.asarray([True] * 5), (4, 4)), ((0, 0), (2,))]:
        with pytest.raises(ValueError, match="could not broadcast"):
            x[key] = xp.zeros(shape)
    for function in (xp.take, xp.take_along_axis):
        with pytest.raises(IndexError, match="out of bounds"):
            function(xp.zeros(5), bad_on_one, axis=0)
    assert float(xp.sum(x)) == 0
