"""Where elements are: the largest and smallest, those that are not zero, and where others would be in a sorted array."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Replicated
from mpicluster.array.manipulation import reshape
from mpicluster.array.operands import as_dist, mesh_of, normal_axis
from mpicluster.array.statistics import with_block_layout, without_axes

__all__ = ["argmax", "argmin", "isin", "nonzero", "searchsorted"]


def _extreme_index(x: Any, axis: int | None, keepdims: bool, name: str) -> DistArray:
    x = with_block_layout(as_dist(x, mesh_of(x)))
    if axis is None:
        ndim = x.ndim
        found = _extreme_index(reshape(x, (-1,)), 0, False, name)
        return reshape(found, (1,) * ndim) if keepdims else found
    along = normal_axis(axis, x.ndim)
    if not x.shape[along]:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    data = blocks.host(x.local)
    best = getattr(np, name)
    if not isinstance(x.layout, Block) or x.layout.axis != along:
        shape = tuple(1 if i == along else n for i, n in enumerate(x.shape))
        result = DistArray(x.mesh, x.layout, shape, blocks.like(x.local, best(data, axis=along, keepdims=True).astype(np.int64)))
    else:
        result = _across_ranks(x, data, along, best)
    return result if keepdims else without_axes(result, (along,))


def _across_ranks(x: DistArray, data: Any, axis: int, best: Any) -> DistArray:
    """The first of the best of all ranks: the best of each and its index are gathered. One Allgather of the size of the result."""
    mesh, layout = x.mesh, x.layout
    assert isinstance(layout, Block)
    bounds = layout.bounds(x.shape, mesh.size)
    present = [bounds[r + 1] > bounds[r] for r in range(mesh.size)]
    shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    pair = np.zeros(shape, [("value", x.dtype), ("index", np.int64)])
    if data.shape[axis]:
        index = best(data, axis=axis, keepdims=True)
        pair["value"] = np.take_along_axis(data, index, axis)
        pair["index"] = index + bounds[mesh.rank]

    def first_of_best(a: Any, b: Any) -> Any:
        """``a`` has lower indices. The best of the two values: position 1 only if it is truly better."""
        second = best(np.stack([a["value"], b["value"]]), axis=0) == 1
        return np.where(second, b, a)

    return DistArray(mesh, Replicated(), shape, mesh.fold(pair, first_of_best, present)["index"].copy())


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> DistArray:
    """The index of the first largest element along an axis, of the flat array for None; of the first NaN, if there is one.

    Along the divided axis: one fold of the size of the result. int64.

    Raises
    ------
    ValueError
        there are no elements.
    """
    return _extreme_index(x, axis, keepdims, "argmax")


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> DistArray:
    """The index of the first smallest element along an axis; as `argmax`."""
    return _extreme_index(x, axis, keepdims, "argmin")


def nonzero(x: Any, /) -> tuple[DistArray, ...]:
    """The indices of the elements that are not zero, in C order: for each axis an int64 vector, in even blocks. One Allgather of counts.

    Arrays that are divided along another axis than the first are brought to blocks of that.

    Raises
    ------
    ValueError
        the array has no dimensions.
    """
    x = with_block_layout(as_dist(x, mesh_of(x)))
    if not x.ndim:
        raise ValueError("nonzero is not defined for arrays without dimensions: reshape(x, (1,)) has one")
    mesh = x.mesh
    if isinstance(x.layout, Replicated):
        return tuple(DistArray(mesh, Replicated(), i.shape, i) for i in np.nonzero(blocks.host(x.local)))
    x = x if isinstance(x.layout, Block) and x.layout.axis == 0 else x.redistribute(Block(0))
    assert isinstance(x.layout, Block)
    found = list(np.nonzero(blocks.host(x.local)))
    found[0] = found[0] + x.layout.bounds(x.shape, mesh.size)[mesh.rank]
    sizes = tuple(int(n) for n in mesh.gather_ints(found[0].size)[:, 0])
    return tuple(wrap(mesh, Block(0, sizes), (sum(sizes),), i.astype(np.int64, copy=False)).redistribute(Block(0)) for i in found)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> DistArray:
    """Where the elements of ``x2`` would be in the sorted vector ``x1``: before (``"left"``) or after those that are equal.

    Each rank looks in its part of ``x1`` for all of ``x2``, and what is found is summed up: one Allgatherv of ``x2``, and one fold of its
    size; memory: all of ``x2`` on each rank. With ``x1`` replicated: no message.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', not {side!r}")
    mesh = mesh_of(x1, x2, sorter)
    table, wanted = with_block_layout(as_dist(x1, mesh)), with_block_layout(as_dist(x2, mesh))
    if table.ndim != 1:
        raise ValueError("x1 must have one dimension")
    if sorter is not None:
        from mpicluster.array.indexing import take

        table = with_block_layout(take(table, sorter, axis=0))
    find: Any = np.searchsorted
    if isinstance(table.layout, Replicated):
        index = find(blocks.host(table.local), blocks.host(wanted.local), side=side).astype(np.int64)
        return DistArray(mesh, wanted.layout, wanted.shape, index)
    # in a sorted vector, what is before an element in all is what is before it in each block
    counts = np.asarray(find(blocks.host(table.local), blocks.host(wanted.replicate().local), side=side), np.int64)
    index = mesh.fold(counts.reshape(-1), np.add).reshape(wanted.shape)
    return DistArray(mesh, Replicated(), wanted.shape, index).redistribute(wanted.layout)


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> DistArray:
    """Whether each element of ``x1`` is among those of ``x2``, which is replicated: at most one Allgatherv. Divided as ``x1``."""
    mesh = mesh_of(x1, x2)
    x, among = as_dist(x1, mesh), as_dist(x2, mesh)
    found = np.isin(blocks.host(x.local), blocks.host(among.replicate().local), invert=invert)
    return DistArray(mesh, x.layout, x.shape, np.asarray(found))
