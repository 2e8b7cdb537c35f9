"""Sorted arrays. Along an axis that is not divided, each block by itself. Along the divided one:

* a vector: each rank sorts its block, and the blocks are merged (see `merging`);
* of several axes: so many lines that each rank gets some of them whole, and the array is brought there and back; fewer, one by one as
  vectors.

NaN is the last in either direction, and of equal elements those of lower indices come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated, block_sizes, starts
from mpicluster.array.merging import Host, merge
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist, mesh_of, normal_axis
from mpicluster.array.statistics import along_whole_lines, with_block_layout

__all__ = ["argsort", "sort"]


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DistArray:
    """The elements in rising (or falling) order along an axis; in even blocks of the axis that was divided.

    Along another axis than the divided one: no message. A divided vector of n elements: a few small Allgathers (see `merging`), and one
    exchange of size - 1 messages, in which each element travels at most once. Memory: 3 n/p elements, and n/p more for a falling order.
    Of more dimensions: two exchanges of the whole array, and 3 blocks; with fewer lines than ranks, the cost of a vector for each of them.

    Raises
    ------
    numpy.exceptions.AxisError
        there is no such axis.
    """
    x = with_block_layout(as_dist(x, mesh_of(x)))
    along = normal_axis(axis, x.ndim)

    def local(data: Host, axis: int) -> Host:
        return np.sort(data, axis=axis, stable=_by_radix(data) or (stable and _distinguishable(data)))

    def vector(mesh: Mesh, data: Host, sizes: tuple[int, ...]) -> Host:
        nbytes = sum(sizes) * data.itemsize
        with mesh.preparing(nbytes):
            data = local(data, 0)
        come = merge(mesh, data, sizes).carry(data)
        with mesh.preparing(nbytes):
            come.sort(stable=True)  # merges what is in order already
        return come

    if not descending:
        return _ordered(x, along, local, vector)
    return _mapped(_ordered(_mapped(x, _opposite), along, local, vector), _opposite)


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DistArray:
    """The indices that put the elements in order along an axis; int64, in even blocks of the axis that was divided.

    As `sort`; of a divided vector each element travels with its index. Memory: 3 n/p elements and 4 n/p indices.

    Raises
    ------
    numpy.exceptions.AxisError
        there is no such axis.
    """
    x = with_block_layout(as_dist(x, mesh_of(x)))
    along = normal_axis(axis, x.ndim)

    def local(data: Host, axis: int) -> Host:
        return np.argsort(data, axis=axis, stable=stable).astype(np.int64, copy=False)

    def vector(mesh: Mesh, data: Host, sizes: tuple[int, ...]) -> Host:
        nbytes = sum(sizes) * data.itemsize
        with mesh.preparing(nbytes):
            order = np.argsort(data, stable=stable).astype(np.int64, copy=False)
            data = data[order]
            order += starts(sizes)[mesh.rank]
        merged = merge(mesh, data, sizes)
        come, index = merged.carry(data), merged.carry(order)
        with mesh.preparing(nbytes):
            return index[np.argsort(come, stable=True)]

    return _ordered(_mapped(x, _opposite) if descending else x, along, local, vector)


def _by_radix(data: Host) -> bool:
    """Whether NumPy's stable sort is a radix sort, which costs as much as there are elements."""
    return data.dtype.kind in "biu" and data.itemsize <= 2


def _distinguishable(data: Host) -> bool:
    """Whether there may be equal elements that differ: zeros of both signs. Where there are none, any way of sorting is stable."""
    if data.dtype.kind != "f":
        return data.dtype.kind not in "biu"
    zeros = data[data == 0]
    return bool(np.signbit(zeros).any())


def _opposite(data: Host) -> Host:
    """Numbers in the opposite order, NaN last again. Its own inverse."""
    return ~data if data.dtype.kind in "biu" else -data


def _mapped(x: DistArray, function: Callable[[Host], Host]) -> DistArray:
    with x.mesh.preparing(0 if isinstance(x.layout, Replicated) else x.nbytes):
        return DistArray(x.mesh, x.layout, x.shape, blocks.like(x.local, function(blocks.host(x.local))))


Local = Callable[[Host, int], Host]
Vector = Callable[[Mesh, Host, tuple[int, ...]], Host]


def _ordered(x: DistArray, axis: int, local: Local, vector: Vector) -> DistArray:
    """``local(block, axis)`` where the axis is not divided; ``vector(mesh, block, sizes)``, which gives an even block, of divided lines."""
    mesh, layout, data = x.mesh, x.layout, blocks.host(x.local)
    if mesh.size == 1 or not isinstance(layout, Block):
        return DistArray(mesh, layout, x.shape, blocks.like(x.local, local(data, axis)))
    if layout.axis != axis:
        return DistArray(mesh, layout, x.shape, blocks.like(x.local, local(data, axis))).redistribute(Block(layout.axis))
    lines = math.prod(n for i, n in enumerate(x.shape) if i != axis)
    if lines >= mesh.size:
        return along_whole_lines(x, axis, local)
    sizes = layout.parts(x.shape, mesh.size)
    rows = np.moveaxis(data, axis, 0)
    even = block_sizes(x.shape[axis], mesh.size)[mesh.rank]
    found = [vector(mesh, line, sizes) for line in rows.reshape(len(rows), lines).T]
    dtype = found[0].dtype if found else local(data, axis).dtype
    with mesh.preparing(x.nbytes):
        block = found[0][np.newaxis] if lines == 1 else np.empty((lines, even), dtype)
        if lines > 1:
            np.stack(found, out=block)
    block = np.moveaxis(block.T.reshape(even, *rows.shape[1:]), 0, axis)
    return DistArray(mesh, Block(axis), x.shape, blocks.like(x.local, block))
