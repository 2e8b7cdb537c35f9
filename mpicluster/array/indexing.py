"""Parts of arrays, chosen by integers, slices, masks and arrays of integers: read, and written.

What comes out lies in even blocks again. What a slice chooses moves only by what the new blocks differ; where nothing along the divided
axis is chosen, nothing moves. A part at one index of the divided axis is replicated, up to `limits.REPLICATED_UP_TO`: one Bcast.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.assemble import assemble, in_blocks_of
from mpicluster.array.assembly import Piece, span
from mpicluster.array.creation import asarray
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Layout, Replicated, Shape, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.lookup import look_up
from mpicluster.array.manipulation import broadcast_to, moveaxis, reshape
from mpicluster.array.operands import as_dist, block_for, mesh_of, normal_axis
from mpicluster.array.statistics import with_block_layout

__all__ = ["get_item", "set_item", "take", "take_along_axis"]


class Basic(NamedTuple):
    """What integers, slices and new axes choose of an array."""

    #: for each axis: an index, or what range of indices
    chosen: tuple[int | range, ...]
    #: the axes of the result: that of the array that they are, or None for a new one
    axes: tuple[int | None, ...]

    @property
    def shape(self) -> Shape:
        """Shape of what is chosen."""
        return tuple(1 if a is None else len(self.range(a)) for a in self.axes)

    def range(self, axis: int) -> range:
        """The indices of an axis."""
        chosen = self.chosen[axis]
        return range(chosen, chosen + 1) if isinstance(chosen, int) else chosen


def _parts(key: Any, ndim: int) -> list[Any]:
    """The parts of a key, with slices in place of an ellipsis and of what is missing; sequences become arrays."""
    parts = list(key) if isinstance(key, tuple) else [key]
    parts = [_as_index(part) for part in parts]
    used = sum(part.ndim if _is_mask(part) else 0 if part is None or part is Ellipsis else 1 for part in parts)
    if used > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {used} were indexed")
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = ellipses[0] if ellipses else len(parts)
    return [*parts[:at], *[slice(None)] * (ndim - used), *parts[at + 1 :]]


def _as_index(part: Any) -> Any:
    """An int, a slice of ints, None, Ellipsis, or an array."""
    if part is None or part is Ellipsis or isinstance(part, DistArray):
        return int(part) if isinstance(part, DistArray) and not part.shape and part.dtype.kind in "iu" else part
    if isinstance(part, slice):
        return slice(*(None if v is None else _integer(v) for v in (part.start, part.stop, part.step)))
    if isinstance(part, bool | np.bool_ | list | np.ndarray):
        array = np.asarray(part)
        if isinstance(part, list) and not array.size:
            array = array.astype(np.int64)
        return int(array) if not array.shape and array.dtype.kind in "iu" else array
    return _integer(part)


def _integer(value: Any) -> int:
    try:
        return int(value.__index__())
    except AttributeError:
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays are valid indices"
        ) from None


def _is_mask(part: Any) -> bool:
    return isinstance(part, DistArray | np.ndarray) and part.dtype == bool


def _is_advanced(part: Any) -> bool:
    return isinstance(part, DistArray | np.ndarray)


def _basic(parts: list[Any], shape: Shape) -> Basic:
    chosen: list[int | range] = []
    axes: list[int | None] = []
    for part in parts:
        axis = len(chosen)
        if part is None:
            axes.append(None)
        elif isinstance(part, int):
            n = shape[axis]
            if not -n <= part < n:
                raise IndexError(f"index {part} is out of bounds for axis {axis} with size {n}")
            chosen.append(part % n)
        else:
            chosen.append(range(*part.indices(shape[axis])))
            axes.append(axis)
    return Basic(tuple(chosen), tuple(axes))


# -- reading ---------------------------------------------------------------------------------------------------------------------------


def get_item(x: DistArray, key: Any) -> DistArray:
    """``x[key]``, with NumPy's meaning of keys; always a new array.

    Arrays of integers may be divided, masks too; NumPy's are the same on every rank. Along the divided axis, each rank asks the others for
    what it needs: three exchanges of at most size - 1 messages.

    Raises
    ------
    IndexError
        as NumPy does; on all ranks.
    """
    x = with_block_layout(x)
    parts = _parts(key, x.ndim)
    if not any(_is_advanced(part) for part in parts):
        return _get_basic(x, _basic(parts, x.shape))
    if _is_mask(parts[0]) and all(part == slice(None) for part in parts[1:] if not _is_advanced(part)) and _one_array(parts):
        return _get_masked(x, as_dist(parts[0], x.mesh))
    return _get_advanced(x, parts)


def _one_array(parts: list[Any]) -> bool:
    return sum(_is_advanced(part) for part in parts) == 1 and None not in [p for p in parts if not _is_advanced(p)]


def _get_basic(x: DistArray, basic: Basic) -> DistArray:
    divided = x.layout.axis if isinstance(x.layout, Block) else -1
    near = tuple(slice(None) if i == divided else span(r.start, r.step, len(r)) for i, r in enumerate(map(basic.range, range(x.ndim))))
    block = x.local[near] if near else x.local
    shape = tuple(n if i == divided else len(basic.range(i)) for i, n in enumerate(x.shape))
    part = DistArray(x.mesh, x.layout, shape, block)
    if divided >= 0:
        wanted = basic.chosen[divided]
        if isinstance(wanted, int):
            part = _at_one_index(part, divided, wanted)
        elif len(wanted) != x.shape[divided] or wanted.step != 1:
            part = assemble([part], [Piece(0, wanted.start, wanted.step, len(wanted))] if wanted else [], divided)
        elif x.layout != Block(divided):
            part = part.redistribute(Block(divided))
    return _with_axes(part, basic)


def _with_axes(part: DistArray, basic: Basic) -> DistArray:
    """With the axes that the result has: those of integers gone (length 1), new ones in."""
    lengths = part.local.shape
    local = tuple(1 if a is None else lengths[a] for a in basic.axes)
    block = blocks.namespace(part.local).reshape(part.local, local)
    shape = tuple(1 if a is None else part.shape[a] for a in basic.axes)
    layout: Layout = part.layout
    if isinstance(layout, Block):
        if layout.axis not in basic.axes:
            return DistArray(part.mesh, Replicated(), shape, blocks.namespace(block).reshape(part.replicate().local, shape))
        layout = Block(basic.axes.index(layout.axis), layout.sizes)
    if np.may_share_memory(blocks.host(block), blocks.host(part.local)):
        block = blocks.namespace(block).asarray(block, copy=True)
    return DistArray(part.mesh, layout, shape, block)


def _at_one_index(x: DistArray, axis: int, index: int) -> DistArray:
    """What is at one index of the divided axis, with that axis kept: replicated, or divided along the longest axis if it is large."""
    assert isinstance(x.layout, Block)
    mesh = x.mesh
    bounds = x.layout.bounds(x.shape, mesh.size)
    owner = int(np.searchsorted(bounds, index, side="right")) - 1
    shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    mine: Any = None
    if mesh.rank == owner:
        place = (slice(None),) * axis + (slice(index - bounds[owner], index - bounds[owner] + 1),)
        mine = np.ascontiguousarray(blocks.host(x.local)[place])
    if math.prod(shape) * x.itemsize <= REPLICATED_UP_TO:
        values = mesh.bcast(mine if mine is not None else np.empty(shape, x.dtype), owner)
        return DistArray(mesh, Replicated(), shape, blocks.like(x.local, values))
    target = default_layout(shape, mesh.size)
    assert isinstance(target, Block)
    sizes = tuple(shape[target.axis] if r == owner else 0 for r in range(mesh.size))
    if mine is None:
        mine = np.empty(tuple(0 if i == target.axis else n for i, n in enumerate(shape)), x.dtype)
    return wrap(mesh, Block(target.axis, sizes), shape, blocks.like(x.local, mine)).redistribute(target)


def _checked_mask(x: DistArray, mask: DistArray) -> None:
    for axis, (n, m) in enumerate(zip(x.shape, mask.shape, strict=False)):
        if n != m:
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis}; size of axis is {n} "
                f"but size of corresponding boolean axis is {m}"
            )


def _get_masked(x: DistArray, mask: DistArray) -> DistArray:
    """The elements (or sub-arrays) where a mask of the leading axes is true, in C order."""
    _checked_mask(x, mask)
    mesh = x.mesh
    if not mask.shape:
        chosen = bool(mask)
        return reshape(x, (1, *x.shape)) if chosen else asarray(np.empty((0, *x.shape), x.dtype), comm=mesh)
    rest = x.shape[mask.ndim :]
    if isinstance(x.layout, Replicated) and isinstance(mask.layout, Replicated):
        block = x.local[mask.local]
        return DistArray(mesh, Replicated(), tuple(block.shape), block)
    lines = in_blocks_of(x, 0)
    assert isinstance(lines.layout, Block)
    where = mask.redistribute(lines.layout)
    block = lines.local[where.local]
    sizes = tuple(int(n) for n in mesh.gather_ints(block.shape[0])[:, 0])
    return wrap(mesh, Block(0, sizes), (sum(sizes), *rest), block).redistribute(Block(0))


def _get_advanced(x: DistArray, parts: list[Any]) -> DistArray:
    """With arrays of integers: slices first, then one look-up in the array with the axes of the arrays in front, as one."""
    x, indices, place, shape = _advanced(x, parts)
    flat = reshape(x, (math.prod(x.shape[: len(indices)]), *x.shape[len(indices) :]))
    found = look_up(flat, reshape(_raveled(x, indices), (-1,)))
    found = reshape(found, (*shape, *found.shape[1:]))
    ends = tuple(range(place, place + len(shape)))
    return moveaxis(found, tuple(range(len(shape))), ends) if place and shape else found


def _advanced(x: DistArray, parts: list[Any]) -> tuple[DistArray, list[DistArray], int, Shape]:
    """The array after slices, with the axes of arrays in front; these, broadcast; where their axes belong in the result; their shape."""
    expanded: list[Any] = []
    for part in parts:
        if _is_mask(part):
            mask = as_dist(part, x.mesh)
            first = sum(1 for p in expanded if p is not None)
            _checked_mask(DistArray(x.mesh, Replicated(), x.shape[first:], None), mask)
            expanded += _where(mask)
        else:
            expanded.append(part)
    arrays = [i for i, part in enumerate(expanded) if _is_advanced(part)]
    fancy = [i for i, part in enumerate(expanded) if _is_advanced(part) or isinstance(part, int)]
    together = fancy == list(range(fancy[0], fancy[-1] + 1))
    place = sum(1 for part in expanded[: fancy[0]] if not isinstance(part, int)) if together else 0
    basic = [slice(None) if _is_advanced(part) else slice(part, part + 1 or None) if isinstance(part, int) else part for part in expanded]
    lengths = iter(x.shape)
    for i, part in enumerate(expanded):
        n = next(lengths) if part is not None else 1
        if isinstance(part, int):
            if not -n <= part < n:
                raise IndexError(f"index {part} is out of bounds for axis {i} with size {n}")
            expanded[i] = np.asarray(0)
    x = _get_basic(x, _basic(basic, x.shape)) if any(p != slice(None) for p in basic if not _is_advanced(p)) else x
    indices = [as_dist(expanded[i], x.mesh) for i in fancy]
    if any(i.dtype.kind not in "iu" for i in indices):
        raise IndexError("arrays used as indices must be of integer (or boolean) type")
    shape = np.broadcast_shapes(*(i.shape for i in indices))
    assert arrays
    indices = [broadcast_to(i, shape) for i in indices]
    return moveaxis(x, tuple(fancy), tuple(range(len(fancy)))), indices, place, shape


def _where(mask: DistArray) -> list[DistArray]:
    """The indices at which a mask is true, for each axis."""
    from mpicluster.array.searching import nonzero

    return list(nonzero(mask)) if mask.shape else [asarray(np.zeros(int(bool(mask)), np.int64), comm=mask.mesh)]


def _raveled(x: DistArray, indices: list[DistArray]) -> DistArray:
    """One index of the leading axes as one, from an index of each. Agreed upon: all ranks raise if one has an index out of bounds."""
    layout = indices[0].layout
    for i in indices:
        if isinstance(i.layout, Block):
            layout = i.layout
    shape = indices[0].shape
    local = [blocks.host(block_for(i, layout, shape)) for i in indices]
    flat = np.zeros(local[0].shape, np.int64)
    problem: Exception | None = None
    for axis, index in enumerate(local):
        n = x.shape[axis]
        bad = (index < -n) | (index >= n)
        if bad.any() and problem is None:
            problem = IndexError(f"index {int(index[bad].flat[0])} is out of bounds for axis {axis} with size {n}")
        flat = flat * n + np.where(index < 0, index + n, index).astype(np.int64)
    x.mesh.settle(problem)
    return DistArray(x.mesh, layout, shape, flat)


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> DistArray:
    """The parts of the array at these indices of an axis; of the flat array for None.

    Along the divided axis each rank asks the others for what it needs (see `get_item`); else ``indices`` are replicated.
    """
    x = with_block_layout(as_dist(x, mesh_of(x, indices)))
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    along = normal_axis(axis, x.ndim)
    index = as_dist(indices, x.mesh)
    if index.dtype.kind not in "iu":
        raise IndexError("arrays used as indices must be of integer type")
    return _get_advanced(x, [*[slice(None)] * along, index if index.shape else reshape(index, ()), *[slice(None)] * (x.ndim - along - 1)])


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> DistArray:
    """For each place of ``indices``, the element at that index of an axis, and at the place's own of the others, which broadcast.

    Where the divided axis is that axis, both are first brought to blocks of another.
    """
    mesh = mesh_of(x, indices)
    x, index = with_block_layout(as_dist(x, mesh)), with_block_layout(as_dist(indices, mesh))
    if x.ndim != index.ndim:
        raise ValueError("`indices` and `x` must have the same number of dimensions")
    along = normal_axis(axis, x.ndim)
    if index.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if x.ndim == 1:
        return take(x, index, axis=0)
    rest = np.broadcast_shapes(*(tuple(1 if i == along else n for i, n in enumerate(a.shape)) for a in (x, index)))
    x = broadcast_to(x, tuple(x.shape[along] if i == along else n for i, n in enumerate(rest)))
    index = broadcast_to(index, tuple(index.shape[along] if i == along else n for i, n in enumerate(rest)))
    keep: Layout = x.layout if not isinstance(x.layout, Replicated) else index.layout
    if isinstance(keep, Block):
        other = keep.axis if keep.axis != along else max((i for i in range(x.ndim) if i != along), key=lambda i: x.shape[i])
        layout: Layout = Block(other)
    else:
        layout = Replicated()
    table, mine = blocks.host(x.redistribute(layout).local), blocks.host(index.redistribute(layout).local)
    n = x.shape[along]
    bad = (mine < -n) | (mine >= n)
    mesh.settle(IndexError(f"index {int(mine[bad].flat[0])} is out of bounds for axis {along} with size {n}") if bad.any() else None)
    found = DistArray(mesh, layout, index.shape, blocks.like(x.local, np.take_along_axis(table, mine.astype(np.int64), axis=along)))
    return found.redistribute(Block(keep.axis)) if isinstance(keep, Block) else found


# -- writing ---------------------------------------------------------------------------------------------------------------------------


def set_item(x: DistArray, key: Any, value: Any) -> None:
    """``x[key] = value``, with NumPy's meaning of keys, in the memory of the blocks; the value is cast to the type of the array.

    A value that is divided moves to where it belongs. With arrays of integers, these and the value are replicated.
    """
    mesh = mesh_of(x, value)
    value = as_dist(value, mesh)
    if not np.can_cast(value.dtype, x.dtype, "same_kind") and value.dtype.kind == "c":
        raise TypeError(f"cannot put {value.dtype} values into an array of {x.dtype}")
    if not isinstance(x.layout, Block | Replicated):
        changed = with_block_layout(x)
        set_item(changed, key, value)
        x.local[...] = changed.redistribute(x.layout).local
        return
    parts = _parts(key, x.ndim)
    if not any(_is_advanced(part) for part in parts):
        _set_basic(x, parts, value)
    elif _is_mask(parts[0]) and all(part == slice(None) for part in parts[1:] if not _is_advanced(part)) and _one_array(parts):
        _set_masked(x, as_dist(parts[0], mesh), value)
    else:
        _set_advanced(x, parts, value)


def _fitting(value: DistArray, shape: Shape) -> DistArray:
    """The value without leading axes of length 1 that what is chosen does not have."""
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = reshape(value, value.shape[1:])
    try:
        fits = np.broadcast_shapes(value.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"could not broadcast input array from shape {value.shape} into shape {shape}")
    return value


def _set_basic(x: DistArray, parts: list[Any], value: DistArray) -> None:
    basic = _basic(parts, x.shape)
    value = _fitting(value, basic.shape)
    mesh = x.mesh
    if not isinstance(x.layout, Block):
        x.local[tuple(_key(basic, i) for i in range(x.ndim))] = _without_new_axes(value.replicate().local, basic)
        return
    divided = x.layout.axis
    bounds = x.layout.bounds(x.shape, mesh.size)
    lo, hi = bounds[mesh.rank], bounds[mesh.rank + 1]
    wanted = basic.chosen[divided]
    keys: list[Any] = [_key(basic, i) for i in range(x.ndim)]
    if isinstance(wanted, int):
        values = value.replicate().local
        if lo <= wanted < hi:
            keys[divided] = wanted - lo
            x.local[tuple(keys)] = _without_new_axes(values, basic)
        return
    at = basic.axes.index(divided)
    rising = wanted if wanted.step > 0 else wanted[::-1]
    if wanted.step < 0 and value.ndim and at - (len(basic.shape) - value.ndim) >= 0:
        axis = at - (len(basic.shape) - value.ndim)
        if value.shape[axis] > 1:
            from mpicluster.array.manipulation import flip

            value = flip(value, axis=axis)
    cuts = [_position(rising, b) for b in bounds]
    sizes = tuple(b - a for a, b in itertools.pairwise(cuts))
    block = block_for(value, Block(at, sizes).settled(basic.shape, mesh.size), basic.shape)
    mine = rising[cuts[mesh.rank] : cuts[mesh.rank + 1]]
    keys[divided] = span(mine.start - lo, mine.step, len(mine)) if mine else slice(0, 0)
    x.local[tuple(keys)] = _without_new_axes(block, basic)


def _key(basic: Basic, axis: int) -> Any:
    chosen = basic.chosen[axis]
    return chosen if isinstance(chosen, int) else span(chosen.start, chosen.step, len(chosen))


def _position(indices: range, bound: int) -> int:
    """How many of rising indices are below a bound."""
    return min(max(-((indices.start - bound) // indices.step), 0), len(indices))


def _without_new_axes(block: Any, basic: Basic) -> Any:
    """A value that fits what is chosen, without the axes that the array does not have."""
    missing = len(basic.axes) - block.ndim
    shape = tuple(n for axis, n in zip(basic.axes[missing:], block.shape, strict=True) if axis is not None)
    return blocks.namespace(block).reshape(block, shape)


def _set_masked(x: DistArray, mask: DistArray, value: DistArray) -> None:
    _checked_mask(x, mask)
    mesh = x.mesh
    if not mask.shape:
        if bool(mask):
            _set_basic(x, [slice(None)] * x.ndim, _fitting(value, (1, *x.shape)))
        return
    if not value.shape:
        spread = mask if mask.ndim == x.ndim else broadcast_to(reshape(mask, (*mask.shape, *[1] * (x.ndim - mask.ndim))), x.shape)
        x.local[block_for(spread, x.layout, x.shape)] = value.local
        return
    if isinstance(x.layout, Replicated):
        chosen = mask.replicate().local
        value = _fitting(value, (int(chosen.sum()), *x.shape[mask.ndim :]))
        x.local[chosen] = value.replicate().local
        return
    lines = in_blocks_of(x, 0)
    assert isinstance(lines.layout, Block)
    where = mask.redistribute(lines.layout).local
    sizes = tuple(int(n) for n in mesh.gather_ints(int(where.sum()))[:, 0])
    shape = (sum(sizes), *x.shape[mask.ndim :])
    value = _fitting(value, shape)
    lines.local[where] = block_for(value, Block(0, sizes).settled(shape, mesh.size), shape)
    if lines is not x:
        x.local[...] = lines.redistribute(x.layout).local


def _set_advanced(x: DistArray, parts: list[Any], value: DistArray) -> None:
    key = tuple(_replicated_key(part) for part in parts)
    shape = _shape_of_choice(x.shape, key)
    value = _fitting(value, shape)
    values = blocks.host(value.replicate().local)
    if not isinstance(x.layout, Block):
        x.local[key] = values
        return
    bounds = x.layout.bounds(x.shape, x.mesh.size)
    lo, hi = bounds[x.mesh.rank], bounds[x.mesh.rank + 1]
    # the place of each element that is chosen, and which of these are here
    places = np.indices(x.shape, sparse=True)[x.layout.axis]
    chosen = np.broadcast_to(places, x.shape)[key]
    here = (chosen >= lo) & (chosen < hi)
    others = [np.broadcast_to(p, x.shape)[key][here] for p in np.indices(x.shape, sparse=True)]
    others[x.layout.axis] = others[x.layout.axis] - lo
    x.local[tuple(others)] = np.broadcast_to(values, shape)[here]


def _replicated_key(part: Any) -> Any:
    return blocks.host(part.replicate().local) if isinstance(part, DistArray) else part


def _shape_of_choice(shape: Shape, key: Any) -> Shape:
    chosen: Shape = np.broadcast_to(np.zeros((), np.bool_), shape)[key].shape
    return chosen
