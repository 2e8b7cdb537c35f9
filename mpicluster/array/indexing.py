"""Parts of arrays, chosen by integers, slices, masks and arrays of integers: read, and written.

What comes out lies in even blocks again. What a slice chooses moves only by what the new blocks differ; where nothing along the divided
axis is chosen, nothing moves. A part at one index of the divided axis is replicated, up to `limits.REPLICATED_UP_TO`: one Bcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.keys import Indices, Item, Key, Mask, parse, width
from mpicluster.array.layout import Block, Layout, Replicated, Shape, default_layout
from mpicluster.array.masks import compress, counted
from mpicluster.array.operands import as_dist, block_for, mesh_of, normal_axis
from mpicluster.array.redistribute import Host, redistribute
from mpicluster.array.regions import along, interleaved, met, places
from mpicluster.array.rows import fetch, store, store_near
from mpicluster.array.searching import nonzero
from mpicluster.array.selection import choose, delivered, without
from mpicluster.array.shapes import expand_dims, moveaxis, reshape
from mpicluster.array.statistics import with_block_layout

__all__ = ["get_item", "set_item", "take", "take_along_axis"]


# -- reading ---------------------------------------------------------------------------------------------------------------------------


def get_item(x: DistArray, key: Any, /) -> DistArray:
    """``x[key]``, with NumPy's meaning of keys; always a new array, which shares no memory.

    Integers and slices: see `selection.choose`. A mask, of any layout: see `masks.compress`. Arrays of integers, divided or not (those of
    NumPy are the same on every rank): see `rows.fetch`. Where there are several arrays in a key, masks are turned into integers.

    Raises
    ------
    IndexError
        as NumPy does; on all ranks.
    """
    mesh = mesh_of(x, *_arrays(key))
    chosen = parse(key, x.shape, mesh)
    match chosen.arrays:
        case ():
            return _own(choose(x, _basic(chosen.items)), x)
        case (Mask() as mask,):
            return _masked(x, chosen, mask)
        case _:
            return _fetched(x, _without_masks(chosen.items, mesh), chosen.place)


def _arrays(key: Any) -> list[DistArray]:
    return [part for part in (key if isinstance(key, tuple) else (key,)) if isinstance(part, DistArray)]


def _basic(items: Sequence[Item]) -> list[int | range | None]:
    """A key with all of the axes in place of arrays."""
    basic: list[int | range | None] = []
    for item in items:
        if isinstance(item, Mask):
            basic += [range(n) for n in item.values.shape]
        elif isinstance(item, Indices):
            basic.append(None if item.axis is None else range(item.length))
        else:
            basic.append(item)
    return basic


def _own(part: DistArray, x: DistArray) -> DistArray:
    """The part; a copy, if it shares memory with the array."""
    return part.copy() if np.may_share_memory(blocks.host(part.local), blocks.host(x.local)) else part


def _masked(x: DistArray, key: Key, mask: Mask) -> DistArray:
    first = sum(not isinstance(item, int) for item in key.items[: key.items.index(mask)])
    return moveaxis(compress(choose(x, _basic(key.items)), mask.values, first), first, key.place)


def _without_masks(items: Sequence[Item], mesh: Any) -> list[Item]:
    """A key with arrays of integers in place of masks."""
    result: list[Item] = []
    for item in items:
        if isinstance(item, Mask):
            axes = enumerate(nonzero(item.values), item.axis)
            result += [Indices(index, axis, item.values.shape[axis - item.axis]) for axis, index in axes]
        else:
            result.append(item)
    _checked([item for item in result if isinstance(item, Indices)], mesh)
    return result


def _checked(arrays: Sequence[Indices], mesh: Any) -> Shape:
    """The shape to which arrays of integers broadcast. All ranks raise if one has an integer that is out of bounds: one Allreduce."""
    shapes = [item.values.shape for item in arrays]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        message = f"shape mismatch: indexing arrays could not be broadcast together with shapes {' '.join(map(str, shapes))}"
        raise IndexError(message) from None
    problem: IndexError | None = None
    for item in arrays:
        index, n = blocks.host(item.values.local), item.length
        if problem is None and index.size and not (-n <= index.min() and index.max() < n):
            wrong = index[(index < -n) | (index >= n)][0]
            problem = IndexError(f"index {wrong} is out of bounds for axis {item.axis} with size {n}")
    if not all(isinstance(item.values.layout, Replicated) for item in arrays):
        mesh.settle(problem)
    elif problem is not None:
        raise problem
    return shape


def _with_divided_integer(x: DistArray, items: Sequence[Item]) -> list[Item]:
    """A key with an array of no dimensions in place of an integer along the divided axis: then only what is chosen in its row moves."""
    result, axis = list(items), 0
    for i, item in enumerate(items):
        if isinstance(item, int) and isinstance(x.layout, Block) and x.layout.axis == axis:
            result[i] = Indices(as_dist(np.asarray(item), x.mesh), axis, x.shape[axis])
        axis += width(item)
    return result


def _fetched(x: DistArray, items: Sequence[Item], at: int) -> DistArray:
    items = _with_divided_integer(x, items)
    part = choose(x, _basic(items))
    kept = [item for item in items if not isinstance(item, int)]
    axes = [i for i, item in enumerate(kept) if isinstance(item, Indices)]
    indices = [item.values for item in kept if isinstance(item, Indices)]
    ndim = max(i.ndim for i in indices)
    rows = moveaxis(fetch(part, axes, indices), tuple(range(ndim)), tuple(range(at, at + ndim)))
    if isinstance(rows.layout, Block) and rows.shape[rows.layout.axis] < x.mesh.size:
        return rows.redistribute(default_layout(rows.shape, x.mesh.size))
    return rows


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> DistArray:
    """The parts of the array at these indices of an axis; of the flat array for None. See `rows.fetch`.

    ``indices``
        integers, of any shape, which takes the place of the axis; those below zero count from the end.

    Raises
    ------
    IndexError
        one is out of bounds; on all ranks.
    """
    mesh = mesh_of(x, indices)
    x, index = as_dist(x, mesh), as_dist(indices, mesh)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    place = normal_axis(axis, x.ndim)
    if blocks.host(index.local).dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, not {index.dtype}")
    return get_item(x, (*[slice(None)] * place, index))


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> DistArray:
    """For each place of ``indices``, the element at that index of an axis, and at the place's own of the others, which broadcast.

    Along the divided axis, elements are fetched from where they are (see `rows.fetch`), and lie as ``indices`` do; else the result lies as
    ``x`` does, and ``indices`` are brought there.

    Raises
    ------
    IndexError
        an index is out of bounds; on all ranks.
    """
    mesh = mesh_of(x, indices)
    x, index = with_block_layout(as_dist(x, mesh)), as_dist(indices, mesh)
    if x.ndim != index.ndim:
        raise ValueError("`indices` and `x` must have the same number of dimensions")
    along = normal_axis(axis, x.ndim)
    if blocks.host(index.local).dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    rest = [1 if i == along else n for i, n in enumerate(x.shape)]
    wanted = np.broadcast_shapes(tuple(rest), tuple(1 if i == along else n for i, n in enumerate(index.shape)))
    shape = tuple(index.shape[along] if i == along else n for i, n in enumerate(wanted))
    index = DistArray(mesh, index.layout, index.shape, blocks.host(index.local))
    _checked([Indices(index, along, x.shape[along])], mesh)
    if isinstance(x.layout, Block) and x.layout.axis != along and shape[x.layout.axis] == x.shape[x.layout.axis]:
        near = blocks.host(block_for(index, x.layout, shape)).astype(np.int64, copy=False)
        block = np.take_along_axis(blocks.host(x.local), near, along)
        return DistArray(mesh, x.layout, shape, blocks.like(x.local, block))
    own = [as_dist(np.arange(n).reshape([-1 if j == i else 1 for j in range(x.ndim)]), mesh) for i, n in enumerate(x.shape)]
    return fetch(x, range(x.ndim), [index if i == along else own[i] for i in range(x.ndim)])


# -- writing ---------------------------------------------------------------------------------------------------------------------------


def set_item(x: DistArray, key: Any, value: Any, /) -> None:
    """``x[key] = value``, with NumPy's meaning of keys, in the memory of the blocks, where it is NumPy's and can be written to.

    The value broadcasts, and is cast to the type of the array. One that is divided moves to where it belongs, each element at most once;
    one that broadcasts along the divided axis is replicated; one that all ranks have does not move. For a mask with a value for each of its
    places: one Allgather of counts. For arrays of integers, see `rows.store`: of several values for one place the last counts.

    An array in another layout than blocks is brought to blocks and back for arrays in a key, except for a mask of all of it and one value.

    Raises
    ------
    IndexError
        NumPy refuses the key; on all ranks.
    ValueError
        the value does not broadcast to what is chosen.
    TypeError
        it is complex, and the array is not.
    """
    mesh = mesh_of(x, value, *_arrays(key))
    chosen = parse(key, x.shape, mesh)
    value = _as_value(x, value, mesh)
    block = blocks.host(x.local)
    if block is not x.local or not block.flags.writeable:
        block = block.copy()
    _write(x, block, chosen, value)
    if block is not x.local:
        x._become(DistArray(mesh, x.layout, x.shape, blocks.like(x.local, block)))


def _as_value(x: DistArray, value: Any, mesh: Any) -> DistArray:
    """The value in the type of the array, in memory of its own."""
    kind = blocks.host(x.local).dtype
    if isinstance(value, bool | int | float | complex):
        return as_dist(np.asarray(value, kind), mesh)
    value = as_dist(value, mesh)
    block = blocks.host(value.local)
    if block.dtype.kind == "c" and kind.kind != "c":
        raise TypeError(f"cannot put values of {block.dtype} into an array of {kind}")
    with mesh.preparing(0 if isinstance(value.layout, Replicated) else value.nbytes):
        block = block.astype(kind, copy=np.may_share_memory(block, blocks.host(x.local)))
    return DistArray(mesh, value.layout, value.shape, block)


def _write(x: DistArray, block: Host, key: Key, value: DistArray) -> None:
    match key.arrays:
        case ():
            _put_basic(x, block, key.items, value)
        case (Mask(values=mask),) if mask.ndim == x.ndim and value.size == 1:
            value = _fitting(value, (1,))
            block[np.array(blocks.host(mask.redistribute(x.layout).local))] = blocks.host(value.replicate().local)[0]
        case _ if not isinstance(x.layout, Block | Replicated):
            changed = with_block_layout(x)
            _write(changed, blocks.host(changed.local), key, value)
            block[...] = blocks.host(changed.redistribute(x.layout).local)
        case (Mask() as mask,) if _with_divided_integer(x, key.items) == list(key.items):
            _put_masked(x, block, key, mask, value)
        case _:
            _put_rows(x, block, _without_masks(key.items, x.mesh), key.place, value)


def _stripped(value: DistArray, ndim: int) -> DistArray:
    """The value without leading axes of length 1 that are more than what is chosen has."""
    while value.ndim > ndim and value.shape[0] == 1:
        value = without(value, (0,))
    return value


def _fitting(value: DistArray, shape: Shape) -> DistArray:
    """The value with as many axes as what is chosen, which has this shape."""
    given = value
    value = _stripped(value, len(shape))
    if value.ndim > len(shape) or any(m not in (1, n) for m, n in zip(value.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(f"could not broadcast input array from shape {given.shape} into shape {shape}")
    return expand_dims(value, tuple(range(len(shape) - value.ndim)))


def _put_basic(x: DistArray, block: Host, items: Sequence[Any], value: DistArray) -> None:
    ranges = [range(item, item + 1) if isinstance(item, int) else item for item in items if item is not None]
    value = _fitting(value, tuple(1 if item is None else len(item) for item in items if not isinstance(item, int)))
    lengths = iter(value.shape)
    # its axes as those of the array: without new ones, and with those of integers
    value = choose(value, [_as_new(item, lengths) for item in items])
    here = blocks.place(places(x.layout, x.shape, x.mesh.size, x.mesh.rank, ranges))
    block[here] = delivered(value, x.layout, x.shape, ranges)


def _as_new(item: Any, lengths: Any) -> int | range | None:
    """What to choose of a value for an item of the key."""
    if isinstance(item, int):
        return None
    n = next(lengths)
    return 0 if item is None else range(n)


def _view(x: DistArray, block: Host, items: Sequence[Item]) -> Host:
    """What this rank has at the integers and ranges of a key, and all of the axes of its arrays: a view of its block."""
    held = x.layout.runs(x.shape, x.mesh.size, x.mesh.rank)
    index: list[Any] = []
    axis = 0
    for item in items:
        if isinstance(item, int):
            index.append(item)
        elif isinstance(item, range):
            index += blocks.place([met(held[axis], item)[1]])
        else:
            index += [slice(None)] * width(item) or [None]
        axis += width(item)
    return block[(*index, ...)]


def _others(x: DistArray, items: Sequence[Item]) -> tuple[Layout, Shape, list[range]]:
    """The axes of the result that are not of arrays: how they are divided, how long they are in the array, and what is chosen of each."""
    layout: Layout = Replicated()
    shape: list[int] = []
    ranges: list[range] = []
    axis = 0
    for item in items:
        if item is None:
            shape.append(1)
            ranges.append(range(1))
        elif isinstance(item, range):
            if isinstance(x.layout, Block) and x.layout.axis == axis:
                layout = along(x.layout, len(shape))
            shape.append(x.shape[axis])
            ranges.append(item)
        axis += width(item)
    return layout, tuple(shape), ranges


def _put(value: DistArray, front: Shape, others: tuple[Layout, Shape, list[range]]) -> Host:
    """This rank's part of a value whose first axes are of arrays, of which it needs all, or of length 1."""
    layout, shape, ranges = others
    if isinstance(layout, Block):
        layout = along(layout, layout.axis + len(front))
    return delivered(value, layout, (*front, *shape), [*map(range, front), *ranges])


def _put_masked(x: DistArray, block: Host, key: Key, mask: Mask, value: DistArray) -> None:
    mesh, ndim, axis = x.mesh, mask.values.ndim, mask.axis
    near = x.layout.axis - axis if isinstance(x.layout, Block) and axis <= x.layout.axis < axis + ndim else None
    fitting: Layout = Replicated() if near is None else along(x.layout, near)
    where = np.array(blocks.host(mask.values.redistribute(fitting).local))
    at, first = key.place, sum(not isinstance(item, int) for item in key.items[: key.items.index(mask)])
    others = _others(x, key.items)
    lengths = tuple(map(len, others[2]))
    value = _stripped(value, len(lengths) + 1)
    before = value.ndim - len(lengths) - 1 + at  # the axis of the value that is for the places of the mask
    counts = None
    if before < 0 or value.shape[before] == 1:
        total = 1
    elif near is None:
        total = int(np.count_nonzero(where))
    else:
        counts = counted(mesh, where, near)
        total = sum(map(sum, counts))
    value = moveaxis(_fitting(value, (*lengths[:at], total, *lengths[at:])), at, 0)
    rows = np.moveaxis(_view(x, block, key.items), range(first, first + ndim), range(ndim))
    if counts is None:
        rows[where] = _put(value, (total,), others)
    else:
        rows[where] = redistribute(mesh, blocks.host(value.local), value.shape, value.layout, interleaved(counts, value.shape, 0))


def _put_rows(x: DistArray, block: Host, items: Sequence[Item], at: int, value: DistArray) -> None:
    items = _with_divided_integer(x, items)
    kept = [item for item in items if not isinstance(item, int)]
    divided = x.layout.axis if isinstance(x.layout, Block) else None
    arrays = [(i, item) for i, item in enumerate(kept) if isinstance(item, Indices)]
    arrays.sort(key=lambda pair: pair[1].axis is None or pair[1].axis != divided)
    indices, lengths = [item.values for _, item in arrays], [item.length for _, item in arrays]
    front = np.broadcast_shapes(*(index.shape for index in indices))
    others = _others(x, items)
    chosen = tuple(map(len, others[2]))
    value = _fitting(value, (*chosen[:at], *front, *chosen[at:]))
    value = moveaxis(value, tuple(range(at, at + len(front))), tuple(range(len(front))))
    rows = np.moveaxis(_view(x, block, items), [i for i, _ in arrays], range(len(arrays)))
    if isinstance(x.layout, Block) and arrays[0][1].axis == divided:
        store(rows, x.layout.bounds(x.shape, x.mesh.size), lengths, indices, value)
    else:
        store_near(rows, lengths, indices, _put(value, front, others))
