"""Functions that move elements about, or only their axes.

Transposing, adding and taking away axes move nothing: the layout's axis goes along. Functions along an axis that is not divided are local.
Along the divided axis, each element travels at most once (see `assemble`). Results are in even blocks; of replicated operands they are
replicated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.assemble import assemble, in_blocks_of
from mpicluster.array.assembly import Piece
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Layout, Replicated, Shape, block_sizes, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.operands import as_dist, block_for, mesh_of, normal_axes, normal_axis
from mpicluster.array.statistics import with_block_layout, without_axes

__all__ = [
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flip",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "repeat",
    "reshape",
    "roll",
    "squeeze",
    "stack",
    "tile",
    "unstack",
]


def _operand(x: Any) -> DistArray:
    return with_block_layout(as_dist(x, mesh_of(x)))


# -- axes alone ------------------------------------------------------------------------------------------------------------------------


def permute_dims(x: Any, /, axes: Sequence[int]) -> DistArray:
    """The array with its axes in another order. No message; blocks are views."""
    x = _operand(x)
    order = tuple(normal_axis(a, x.ndim) for a in axes)
    if len(order) != x.ndim or len(set(order)) != x.ndim:
        raise ValueError("axes don't match array")
    layout: Layout = x.layout
    if isinstance(layout, Block):
        layout = Block(order.index(layout.axis), layout.sizes)
    block = blocks.namespace(x.local).permute_dims(x.local, order)
    return DistArray(x.mesh, layout, tuple(x.shape[a] for a in order), block)


def matrix_transpose(x: Any, /) -> DistArray:
    """The array with its last two axes exchanged. No message; blocks are views."""
    x = _operand(x)
    if x.ndim < 2:
        raise ValueError(f"a matrix has two dimensions or more, not the shape {x.shape}")
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int], /) -> DistArray:
    """The array with some axes at other places, the others in their order. No message; blocks are views."""
    x = _operand(x)
    sources = [normal_axis(a, x.ndim) for a in ((source,) if isinstance(source, int) else source)]
    targets = [normal_axis(a, x.ndim) for a in ((destination,) if isinstance(destination, int) else destination)]
    if len(sources) != len(targets):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    if len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ValueError("repeated axis")
    order = [a for a in range(x.ndim) if a not in sources]
    for target, from_ in sorted(zip(targets, sources, strict=True)):
        order.insert(target, from_)
    return permute_dims(x, order)


def expand_dims(x: Any, /, axis: int | Sequence[int] = 0) -> DistArray:
    """The array with new axes of length 1, at these places of the result. No message; blocks are views."""
    x = _operand(x)
    wanted = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = x.ndim + len(wanted)
    places = normal_axes(wanted, ndim)
    old = iter(x.shape)
    shape = tuple(1 if i in places else next(old) for i in range(ndim))
    layout: Layout = x.layout
    if isinstance(layout, Block):
        layout = Block([i for i in range(ndim) if i not in places][layout.axis], layout.sizes)
    lengths = iter(x.local.shape)
    local = tuple(1 if i in places else next(lengths) for i in range(ndim))
    return DistArray(x.mesh, layout, shape, blocks.namespace(x.local).reshape(x.local, local))


def squeeze(x: Any, /, axis: int | Sequence[int]) -> DistArray:
    """The array without these axes, of length 1. No message, unless the divided axis is one of them: then one Allgatherv.

    Raises
    ------
    ValueError
        one of them is longer.
    """
    x = _operand(x)
    axes = normal_axes(axis, x.ndim)
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return without_axes(x, axes)


# -- shapes ----------------------------------------------------------------------------------------------------------------------------


def _wanted_shape(shape: int | Sequence[int], size: int) -> Shape:
    wanted = [int(shape)] if isinstance(shape, int | np.integer) else [int(n) for n in shape]
    if wanted.count(-1) == 1:
        known = math.prod(n for n in wanted if n != -1)
        if known and size % known == 0:
            wanted[wanted.index(-1)] = size // known
    if min(wanted, default=0) < 0 or math.prod(wanted) != size:
        raise ValueError(f"cannot reshape array of size {size} into shape {tuple(shape) if isinstance(shape, Sequence) else (shape,)}")
    return tuple(wanted)


def reshape(x: Any, /, shape: int | Sequence[int], *, copy: bool | None = None) -> DistArray:
    """The values, in C order, in another shape; one length may be -1.

    What lies in blocks of axis 0 lies in the order of its values: these move only by what the new blocks differ. Other blocks are first
    brought there. Where the axes up to the divided one stay as they are, nothing moves.

    Raises
    ------
    ValueError
        there are more or fewer values in that shape; or ``copy`` is false, and they must be copied.
    """
    x = _operand(x)
    wanted = _wanted_shape(shape, x.size)
    mesh, layout = x.mesh, x.layout
    namespace = blocks.namespace(x.local)
    if isinstance(layout, Replicated):
        return DistArray(mesh, layout, wanted, namespace.reshape(x.local, wanted, copy=copy))
    assert isinstance(layout, Block)
    upto = layout.axis + 1
    if wanted[:upto] == x.shape[:upto]:
        local = (*x.local.shape[:upto], *wanted[upto:])
        return DistArray(mesh, layout, wanted, namespace.reshape(x.local, local, copy=copy))
    if not wanted:
        return DistArray(mesh, Replicated(), wanted, namespace.reshape(x.replicate().local, ()))
    if copy is False and mesh.size > 1:
        raise ValueError("the values lie on several ranks and cannot have that shape without a copy")
    target = default_layout(wanted, mesh.size)
    assert isinstance(target, Block)
    lines = in_blocks_of(x, 0)
    assert isinstance(lines.layout, Block)
    before, after = math.prod(x.shape[1:]), math.prod(wanted[1:])
    have = tuple(n * before for n in lines.layout.parts(x.shape, mesh.size))
    want = tuple(n * after for n in block_sizes(wanted[0], mesh.size))
    flat = wrap(mesh, Block(0, have), (x.size,), namespace.reshape(lines.local, (-1,)) if x.size else namespace.reshape(lines.local, (0,)))
    moved = flat.redistribute(Block(0, want))
    rows = block_sizes(wanted[0], mesh.size)[mesh.rank]
    block = namespace.reshape(moved.local, (rows, *wanted[1:]))
    if copy and moved is flat:
        block = namespace.asarray(block, copy=True)
    return DistArray(mesh, Block(0), wanted, block).redistribute(target)


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The shape to which shapes broadcast."""
    return np.broadcast_shapes(*(tuple(s) for s in shapes))


def broadcast_to(x: Any, /, shape: Sequence[int]) -> DistArray:
    """The array repeated along new axes and those of length 1. Blocks are views, which cannot be written to.

    No message if the divided axis stays; else what is repeated is replicated first.
    """
    x = _operand(x)
    wanted = tuple(int(n) for n in shape)
    if len(wanted) < x.ndim or np.broadcast_shapes(x.shape, wanted) != wanted:
        raise ValueError(f"cannot broadcast an array of shape {x.shape} to {wanted}")
    layout: Layout = x.layout
    missing = len(wanted) - x.ndim
    if isinstance(layout, Block) and wanted[layout.axis + missing] == x.shape[layout.axis]:
        layout = Block(layout.axis + missing, layout.sizes)
    elif isinstance(layout, Block) or (wanted != x.shape and math.prod(wanted) * x.itemsize > REPLICATED_UP_TO):
        layout = default_layout(wanted, x.mesh.size)
    block = block_for(x, layout, wanted)
    view = blocks.namespace(block).broadcast_to(block, layout.local_shape(wanted, x.mesh.size, x.mesh.rank))
    return DistArray(x.mesh, layout, wanted, view)


def broadcast_arrays(*arrays: Any) -> tuple[DistArray, ...]:
    """The arrays broadcast against each other; see `broadcast_to`."""
    mesh = mesh_of(*arrays)
    operands = [as_dist(a, mesh) for a in arrays]
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    return tuple(broadcast_to(x, shape) for x in operands)


# -- along an axis ---------------------------------------------------------------------------------------------------------------------


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> DistArray:
    """Arrays one after another along an axis; flattened first for None. Types promote.

    No message, where they are divided alike along another axis.
    """
    mesh = mesh_of(*arrays)
    operands = [with_block_layout(as_dist(a, mesh)) for a in arrays]
    if not operands:
        raise ValueError("need at least one array to concatenate")
    if axis is None:
        return concat([reshape(x, (-1,)) for x in operands], axis=0)
    if any(x.ndim != operands[0].ndim for x in operands):
        raise ValueError("all the input array dimensions must be equal")
    if not operands[0].ndim:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    along = normal_axis(axis, operands[0].ndim)
    if len({x.shape[:along] + x.shape[along + 1 :] for x in operands}) != 1:
        raise ValueError("all the input array dimensions except for the concatenation axis must match exactly")
    kind = np.result_type(*(x.dtype for x in operands))
    operands = [_as_type(x, kind) for x in operands]
    divided = next((x.layout for x in operands if isinstance(x.layout, Block)), None)
    shape = tuple(sum(x.shape[along] for x in operands) if i == along else n for i, n in enumerate(operands[0].shape))
    if divided is None or divided.axis != along:
        layout: Layout = divided or Replicated()
        parts = [x.redistribute(layout).local for x in operands]
        return DistArray(mesh, layout, shape, blocks.namespace(parts[0]).concat(parts, axis=along))
    return assemble([in_blocks_of(x, along) for x in operands], [Piece(i, 0, 1, x.shape[along]) for i, x in enumerate(operands)], along)


def _as_type(x: DistArray, kind: Any) -> DistArray:
    if x.dtype == kind:
        return x
    return DistArray(x.mesh, x.layout, x.shape, blocks.namespace(x.local).astype(x.local, kind))


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> DistArray:
    """Arrays of one shape, one after another along a new axis. No message, where they are divided alike."""
    mesh = mesh_of(*arrays)
    operands = [as_dist(a, mesh) for a in arrays]
    if not operands:
        raise ValueError("need at least one array to stack")
    if len({x.shape for x in operands}) != 1:
        raise ValueError("all input arrays must have the same shape")
    place = normal_axis(axis, operands[0].ndim + 1)
    return concat([expand_dims(x, place) for x in operands], axis=place)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[DistArray, ...]:
    """The parts of the array at each index of an axis. Along the divided axis, each costs a message; see `get_item`."""
    x = _operand(x)
    if not x.ndim:
        raise ValueError("Input array must be at least 1-d.")
    along = normal_axis(axis, x.ndim)
    return tuple(x[(slice(None),) * along + (i,)] for i in range(x.shape[along]))


def _local(x: DistArray, function: Callable[[Any, Any], Any]) -> DistArray:
    """A function of each block and its namespace, which keeps its shape."""
    return DistArray(x.mesh, x.layout, x.shape, function(blocks.namespace(x.local), x.local))


def flip(x: Any, /, *, axis: int | Sequence[int] | None = None) -> DistArray:
    """The array in reverse order along axes, all by default."""
    x = _operand(x)
    axes = normal_axes(axis, x.ndim)
    divided = x.layout.axis if isinstance(x.layout, Block) else -1
    near = tuple(a for a in axes if a != divided)
    if near:
        x = _local(x, lambda namespace, block: namespace.flip(block, axis=near))
    if divided in axes and x.shape[divided]:
        n = x.shape[divided]
        x = assemble([x], [Piece(0, n - 1, -1, n)], divided)
    return x


def roll(x: Any, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> DistArray:
    """The array with its elements shifted along axes, from the end to the beginning; as if it were flat for None."""
    x = _operand(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, axis=0), x.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    if len(shifts) == 1:
        shifts = shifts * len(axes)
    if len(axes) == 1:
        axes = axes * len(shifts)
    if len(shifts) != len(axes):
        raise ValueError("'shift' and 'axis' should be scalars or of one length")
    for distance, along in zip(shifts, axes, strict=True):
        x = _rolled(x, int(distance), normal_axis(along, x.ndim))
    return x


def _rolled(x: DistArray, distance: int, axis: int) -> DistArray:
    n = x.shape[axis]
    distance = distance % n if n else 0
    if not distance:
        return x
    if not isinstance(x.layout, Block) or x.layout.axis != axis:
        return _local(x, lambda namespace, block: namespace.roll(block, distance, axis=axis))
    return assemble([x], [Piece(0, n - distance, 1, distance), Piece(0, 0, 1, n - distance)], axis)


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> DistArray:
    """Each element so many times, one after another, along an axis; of the flat array for None.

    ``repeats``
        a number, or an array of one for each index, which is replicated.
    """
    x = _operand(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    along = normal_axis(axis, x.ndim)
    times = blocks.host(as_dist(repeats, x.mesh).replicate().local).reshape(-1)
    if times.dtype.kind not in "iu":
        raise TypeError(f"repeats must be integers, not {times.dtype}")
    if times.size not in (1, x.shape[along]):
        raise ValueError(f"there are {times.size} repeats for {x.shape[along]} indices of axis {along}")
    if times.size and times.min() < 0:
        raise ValueError("repeats may not contain negative values.")
    each = np.broadcast_to(times, (x.shape[along],))
    shape = tuple(int(each.sum()) if i == along else n for i, n in enumerate(x.shape))
    if not isinstance(x.layout, Block) or x.layout.axis != along:
        return DistArray(x.mesh, x.layout, shape, blocks.like(x.local, np.repeat(blocks.host(x.local), each, axis=along)))
    bounds = x.layout.bounds(x.shape, x.mesh.size)
    sizes = tuple(int(each[lo:hi].sum()) for lo, hi in itertools.pairwise(bounds))
    mine = each[bounds[x.mesh.rank] : bounds[x.mesh.rank + 1]]
    block = blocks.like(x.local, np.repeat(blocks.host(x.local), mine, axis=along))
    return wrap(x.mesh, Block(along, sizes), shape, block).redistribute(Block(along))


def tile(x: Any, repetitions: Sequence[int], /) -> DistArray:
    """The array so many times along each axis; the last number is for the last axis."""
    x = _operand(x)
    times = (repetitions,) if isinstance(repetitions, int) else tuple(int(r) for r in repetitions)
    if min(times, default=0) < 0:
        raise ValueError("repetitions must not be negative")
    if len(times) > x.ndim:
        x = expand_dims(x, tuple(range(len(times) - x.ndim)))
    times = (1,) * (x.ndim - len(times)) + times
    for axis, count in enumerate(times):
        if count == 1:
            continue
        if isinstance(x.layout, Block) and x.layout.axis == axis:
            x = assemble([x], [Piece(0, 0, 1, x.shape[axis])] * count, axis)
        else:
            shape = tuple(n * count if i == axis else n for i, n in enumerate(x.shape))
            local = tuple(count if i == axis else 1 for i in range(x.ndim))
            x = DistArray(x.mesh, x.layout, shape, blocks.namespace(x.local).tile(x.local, local))
    return x
