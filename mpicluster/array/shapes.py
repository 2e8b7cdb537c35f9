"""Arrays in other shapes: their axes in another order, more or fewer of them, or broadcast.

Transposing, adding and taking away axes move nothing: the layout's axis goes along, and the result shares memory with the array, as NumPy's
does. Reshaping moves only what must change its rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, BlockCyclic, BlockCyclic2D, Layout, Replicated, Shape, default_layout
from mpicluster.array.operands import as_dist, block_for, common_layout, mesh_of, normal_axes, normal_axis
from mpicluster.array.redistribute import redistribute
from mpicluster.array.regions import along, flattened, runs_when_flat
from mpicluster.array.selection import choose, without
from mpicluster.array.statistics import with_block_layout

__all__ = [
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "expand_dims",
    "in_few_runs",
    "integers",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "reshape",
    "squeeze",
]

#: An array that is more runs of its elements in C order is brought to the default layout before it is reshaped.
_MOST_RUNS = 4096


def _operand(x: Any) -> DistArray:
    return as_dist(x, mesh_of(x))


def integers(value: Any) -> tuple[int, ...]:
    """One integer, or several, as a tuple."""
    return (int(value),) if isinstance(value, int | np.integer) else tuple(int(v) for v in value)


# -- axes alone ------------------------------------------------------------------------------------------------------------------------


def permute_dims(x: Any, /, axes: Sequence[int]) -> DistArray:
    """The array with its axes in another order. No message; blocks are views.

    From a 2-D grid of more than one row and column of ranks, the elements are first moved to blocks.
    """
    x = _operand(x)
    order = tuple(normal_axis(a, x.ndim) for a in axes)
    if len(order) != x.ndim or len(set(order)) != x.ndim:
        raise ValueError("axes don't match array")
    if order == tuple(range(x.ndim)):
        return x
    layout: Layout = x.layout
    if isinstance(layout, BlockCyclic2D):
        if min(layout.grid) > 1:
            return permute_dims(with_block_layout(x), order)
        layout = BlockCyclic2D(layout.grid[::-1], layout.block[::-1])  # of one row or column, ranks are where they were
    elif isinstance(layout, Block | BlockCyclic):
        layout = along(layout, order.index(layout.axis))
    block = blocks.namespace(x.local).permute_dims(x.local, order)
    return DistArray(x.mesh, layout, tuple(x.shape[a] for a in order), block)


def matrix_transpose(x: Any, /) -> DistArray:
    """The array with its last two axes exchanged; as `permute_dims`."""
    x = _operand(x)
    if x.ndim < 2:
        raise ValueError(f"a matrix has two dimensions or more, not the shape {x.shape}")
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int], /) -> DistArray:
    """The array with some axes at other places, the others in their order; as `permute_dims`."""
    x = _operand(x)
    sources = [normal_axis(a, x.ndim) for a in integers(source)]
    targets = [normal_axis(a, x.ndim) for a in integers(destination)]
    if len(sources) != len(targets):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    if len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ValueError("repeated axis")
    order = [a for a in range(x.ndim) if a not in sources]
    for target, from_ in sorted(zip(targets, sources, strict=True)):
        order.insert(target, from_)
    return permute_dims(x, order)


def expand_dims(x: Any, /, axis: int | Sequence[int]) -> DistArray:
    """The array with new axes of length 1, at these places of the result. No message, but from a 2-D grid; blocks are views."""
    x = _operand(x)
    wanted = integers(axis)
    places = normal_axes(wanted, x.ndim + len(wanted))
    old = iter(x.shape)
    return choose(x, [None if i in places else range(next(old)) for i in range(x.ndim + len(wanted))])


def squeeze(x: Any, /, axis: int | Sequence[int]) -> DistArray:
    """The array without these axes, of length 1. No message, unless the divided axis is one of them: see `selection.choose`.

    Raises
    ------
    ValueError
        one of them is longer.
    """
    x = _operand(x)
    axes = normal_axes(axis, x.ndim)
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return without(x, axes)


# -- shapes ----------------------------------------------------------------------------------------------------------------------------


def _wanted_shape(shape: int | Sequence[int], size: int) -> Shape:
    given = integers(shape)
    wanted = list(given)
    if wanted.count(-1) == 1:
        known = math.prod(n for n in wanted if n != -1)
        if known and size % known == 0:
            wanted[wanted.index(-1)] = size // known
    if wanted.count(-1) > 1:
        raise ValueError("can only specify one unknown dimension")
    if min(wanted, default=0) < 0 or math.prod(wanted) != size:
        raise ValueError(f"cannot reshape array of size {size} into shape {given}")
    return tuple(wanted)


def _reshaped(layout: Layout, shape: Shape, wanted: Shape) -> Layout | None:
    """The layout in another shape, if the divided axis is in both, with as many elements after it; else None."""
    if isinstance(layout, Replicated) or shape == wanted:
        return layout
    if not isinstance(layout, Block | BlockCyclic):
        return None
    before, n = math.prod(shape[: layout.axis]), shape[layout.axis]
    fitting = [e for e, m in enumerate(wanted) if m == n and math.prod(wanted[:e]) == before]
    if not fitting or not math.prod(shape):
        return None
    return along(layout, layout.axis if layout.axis in fitting else fitting[0])


def reshape(x: Any, /, shape: int | Sequence[int], *, copy: bool | None = None) -> DistArray:
    """The elements, in C order, in another shape; one length may be -1.

    Where the divided axis stays an axis, with as many elements after it, no message, and the layout is kept; blocks are views where they
    can be, unless ``copy`` is true. Else the result is in the default layout: each element travels at most once, and of an array in blocks
    of its first axis only those travel by which the new blocks differ.

    Raises
    ------
    ValueError
        there are more or fewer elements in that shape; or ``copy`` is false, and they must be copied (on all ranks: one Allreduce).
    """
    x = _operand(x)
    mesh, wanted = x.mesh, _wanted_shape(shape, x.size)
    layout = _reshaped(x.layout, x.shape, wanted)
    if layout is None and mesh.size == 1:
        layout = default_layout(wanted, 1)
    if layout is not None:
        namespace, local = blocks.namespace(x.local), layout.local_shape(wanted, mesh.size, mesh.rank)
        if copy is not False:
            return DistArray(mesh, layout, wanted, namespace.reshape(x.local, local, copy=copy))
        with mesh.together():
            block = namespace.reshape(x.local, local, copy=False)
        return DistArray(mesh, layout, wanted, block)
    if copy is False:
        raise ValueError("the elements lie on several ranks and cannot have that shape without a copy")
    x = in_few_runs(x)
    target = default_layout(wanted, mesh.size)
    with mesh.preparing(x.nbytes):
        flat = np.ascontiguousarray(blocks.host(x.local)).reshape(-1)
    lies = flattened(x.layout, x.shape, mesh.size), flattened(target, wanted, mesh.size)
    moved = redistribute(mesh, flat, (x.size,), *lies)
    block = moved.reshape(target.local_shape(wanted, mesh.size, mesh.rank))
    if np.may_share_memory(block, blocks.host(x.local)) and copy:
        block = block.copy()
    return DistArray(mesh, target, wanted, blocks.like(x.local, block))


def in_few_runs(x: DistArray) -> DistArray:
    """The array, in a layout in which it is not many runs of its elements in C order."""
    default = default_layout(x.shape, x.mesh.size)
    if not isinstance(x.layout, BlockCyclic2D) and (x.layout == default or runs_when_flat(x.layout, x.shape, x.mesh.size) <= _MOST_RUNS):
        return x
    return x.redistribute(default)


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The shape to which shapes broadcast."""
    return np.broadcast_shapes(*map(integers, shapes))


def broadcast_to(x: Any, /, shape: Sequence[int]) -> DistArray:
    """The array repeated along new axes and those of length 1. Blocks are views, which cannot be written to.

    No message if the divided axis stays as it is; else what is repeated along it is replicated first.
    """
    x, wanted = _operand(x), integers(shape)
    if len(wanted) < x.ndim or any(m not in (1, n) for m, n in zip(x.shape[::-1], wanted[::-1], strict=False)):
        raise ValueError(f"cannot broadcast an array of shape {x.shape} to {wanted}")
    return _broadcast(x, wanted, common_layout([x], wanted, x.mesh))


def _broadcast(x: DistArray, shape: Shape, layout: Layout) -> DistArray:
    layout = layout.settled(shape, x.mesh.size)
    block = block_for(x, layout, shape)
    view = blocks.namespace(block).broadcast_to(block, layout.local_shape(shape, x.mesh.size, x.mesh.rank))
    return DistArray(x.mesh, layout, shape, view)


def broadcast_arrays(*arrays: Any) -> tuple[DistArray, ...]:
    """The arrays broadcast against each other, all in the layout that an elementwise function of them has; see `broadcast_to`."""
    mesh = mesh_of(*arrays)
    operands = [as_dist(a, mesh) for a in arrays]
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    layout = common_layout(operands, shape, mesh) if operands else Replicated()
    return tuple(_broadcast(x, shape, layout) for x in operands)
