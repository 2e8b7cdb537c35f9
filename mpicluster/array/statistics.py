"""Reductions: each rank reduces its block, and the ranks fold what they have, to the same bits everywhere.

Where the divided axis is reduced away, the result is replicated (divided, if larger than `limits.REPLICATED_UP_TO`): one
fold of the size of the result (see `Mesh.fold`). Otherwise it is divided as the operand was, without a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated, Shape, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist, mesh_of, normal_axes

__all__ = ["reduced", "sum"]

Axis = int | Sequence[int] | None


def reduced(
    x: DistArray, axis: Axis, keepdims: bool, reduce: Callable[[Any, tuple[int, ...]], Any], op: Callable[[Any, Any], Any], *, empty: bool
) -> DistArray:
    """``reduce(block, axes)`` of each block, which keeps the dimensions, folded with ``op`` over the divided axis.

    ``empty``: whether a block without elements has a result.
    """
    axes = normal_axes(axis, x.ndim)
    x = with_block_layout(x)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    layout: Layout = x.layout
    if isinstance(layout, Block) and layout.axis in axes:
        parts = layout.parts(x.shape, x.mesh.size)
        present = None if empty else [n > 0 for n in parts]
        there = empty or parts[x.mesh.rank] > 0 or not any(parts)
        part = blocks.host(reduce(x.local, axes)) if there else None
        part = _placeholder(x, shape, part, reduce, axes)
        block, layout = folded(x.mesh, part, op, present if present is None or any(present) else None)
        result = DistArray(x.mesh, layout, shape, blocks.like(x.local, block))
    else:
        result = DistArray(x.mesh, layout, shape, reduce(x.local, axes))
    return result if keepdims else without_axes(result, axes)


def _placeholder(x: DistArray, shape: Shape, part: Any, reduce: Any, axes: tuple[int, ...]) -> Any:
    """What a rank gives that has nothing to say: of the type that the others give."""
    if part is not None:
        return part
    kind = blocks.host(reduce(np.zeros((1,) * x.ndim, x.dtype), axes)).dtype
    return np.zeros(shape, kind)


def folded(mesh: Mesh, part: np.ndarray[Any, Any], op: Any, present: Any = None) -> tuple[np.ndarray[Any, Any], Layout]:
    """What the ranks have, folded: replicated, or divided if it is large."""
    if part.nbytes <= REPLICATED_UP_TO or present is not None or mesh.size == 1:
        return mesh.fold(part, op), Replicated()
    layout = default_layout(part.shape, mesh.size)
    assert isinstance(layout, Block)
    rows = np.ascontiguousarray(np.moveaxis(part, layout.axis, 0))
    block = mesh.fold_scatter(rows, op, layout.parts(part.shape, mesh.size))
    return np.moveaxis(block, 0, layout.axis), layout


def with_block_layout(x: DistArray) -> DistArray:
    """The array in blocks of one axis, or replicated."""
    return x if isinstance(x.layout, Block | Replicated) else x.redistribute(default_layout(x.shape, x.mesh.size))


def without_axes(x: DistArray, axes: tuple[int, ...]) -> DistArray:
    """The array without axes of length 1. No message, unless the divided axis is one of them."""
    if isinstance(x.layout, Block) and x.layout.axis in axes:
        x = x.replicate()
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    layout = x.layout
    if isinstance(layout, Block):
        layout = Block(layout.axis - len([a for a in axes if a < layout.axis]), layout.sizes)
    block = blocks.namespace(x.local).squeeze(x.local, axis=axes) if axes else x.local
    return DistArray(x.mesh, layout, shape, block)


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """The sum over axes, all by default; integers are summed as int64 or uint64. 0 for no elements. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))
    namespace = blocks.namespace(x.local)
    return reduced(x, axis, keepdims, lambda b, axes: namespace.sum(b, axis=axes, dtype=dtype, keepdims=True), np.add, empty=True)
