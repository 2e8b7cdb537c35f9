"""Rows of arrays by their numbers, wherever they lie: fetched from the ranks that hold them, and stored there. Collective over the mesh.

A row is what an array has at one index of each of some axes: the whole of the other axes. Its number is the place of these indices in C
order, with the divided axis first, so that each rank holds the rows of consecutive numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated, default_layout
from mpicluster.array.limits import GATHERED_UP_TO, REPLICATED_UP_TO
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import apply
from mpicluster.array.redistribute import Host
from mpicluster.array.shapes import broadcast_to, reshape
from mpicluster.array.statistics import with_block_layout

__all__ = ["fetch", "store", "store_near"]


def _numbers(indices: Sequence[DistArray], lengths: Sequence[int]) -> DistArray:
    """The numbers of rows, from indices that are within bounds; those below zero count from the end."""

    def number(*parts: Host) -> Host:
        result: Any = None
        for part, n in zip(parts, lengths, strict=True):
            index = part.astype(np.int64, copy=False)
            index = np.where(index < 0, index + n, index)
            result = index if result is None else result * n + index
        return np.asarray(result)

    hosted = [DistArray(i.mesh, i.layout, i.shape, blocks.host(i.local)) for i in indices]
    layouts = {i.layout for i in hosted}
    stays = len(layouts) == 1 and Replicated() not in layouts  # else there may be messages within
    with hosted[0].mesh.preparing(sum(i.nbytes for i in hosted) if stays else 0):
        numbers = apply(number, *hosted)
    return with_block_layout(numbers)


def _indices(numbers: Host, lengths: Sequence[int]) -> tuple[Host, ...]:
    """The inverse: an index of each axis."""
    found = []
    for n in lengths[:0:-1]:
        numbers, index = np.divmod(numbers, n) if n else (numbers, numbers)
        found.append(index)
    return (numbers, *reversed(found))


def fetch(x: DistArray, axes: Sequence[int], indices: Sequence[DistArray]) -> DistArray:
    """The rows at these indices, in bounds, of some axes: the array whose first axes are those of the indices, the others those left over.

    Divided as the indices are, or along another axis as the array is. If none of the axes is divided, nothing is sent, but indices that are
    divided are replicated. If one is, ranks ask each other for what they need, 8 bytes for each row that lies elsewhere, and get the rows:
    one Alltoall of counts, and at most 2 (size - 1) messages. For indices that all ranks have, they need not ask. An array smaller than a
    rank's share of the rows is replicated instead, by one Allgatherv.
    """
    mesh = x.mesh
    x = with_block_layout(x)
    if isinstance(x.layout, Block) and x.layout.axis not in axes and sum(i.nbytes for i in indices) > GATHERED_UP_TO:
        x = x.redistribute(Block(axes[0]))
    order = sorted(range(len(axes)), key=lambda i: isinstance(x.layout, Block) and axes[i] != x.layout.axis)
    front = [axes[i] for i in order]
    lengths = [x.shape[axis] for axis in front]
    numbers = _numbers([indices[i] for i in order], lengths)
    others = [axis for axis in range(x.ndim) if axis not in axes]
    shape = (*numbers.shape, *(x.shape[axis] for axis in others))
    x, numbers = _nearer(x, front[0], numbers, math.prod(shape) * x.itemsize)
    rows = np.moveaxis(blocks.host(x.local), front, range(len(front)))
    layout: Layout = numbers.layout
    if not isinstance(x.layout, Block):
        block = rows[_indices(blocks.host(numbers.local), lengths)]
    elif x.layout.axis in others:
        layout = Block(numbers.ndim + others.index(x.layout.axis), x.layout.sizes)
        block = rows[_indices(blocks.host(numbers.replicate().local), lengths)]
    else:
        bounds = np.asarray(x.layout.bounds(x.shape, mesh.size)) * math.prod(lengths[1:])
        if isinstance(layout, Replicated):
            layout = default_layout(numbers.shape, mesh.size)
        block = _answered(rows, lengths, bounds, numbers, layout)
        block = block.reshape(*layout.local_shape(numbers.shape, mesh.size, mesh.rank), *rows.shape[len(axes) :])
    return DistArray(mesh, layout, shape, blocks.like(x.local, block))


def _nearer(x: DistArray, axis: int, numbers: DistArray, nbytes: int) -> tuple[DistArray, DistArray]:
    """The array whole on each rank, if its axis is divided and it is smaller than what goes to each; the numbers, divided if the result is.

    ``nbytes``
        the size of the result.
    """
    mesh = x.mesh
    if isinstance(x.layout, Replicated):
        return x, _divided(numbers) if nbytes > max(x.nbytes, REPLICATED_UP_TO) else numbers
    assert isinstance(x.layout, Block)
    if x.layout.axis != axis:
        return x, numbers
    if mesh.size == 1:
        return DistArray(mesh, Replicated(), x.shape, x.local), _divided(numbers)
    asked = 0 if isinstance(numbers.layout, Replicated) else numbers.nbytes
    small = x.nbytes <= GATHERED_UP_TO and x.nbytes * mesh.size <= asked + nbytes
    return (x.replicate(), _divided(numbers)) if small else (x, numbers)


def _divided(numbers: DistArray) -> DistArray:
    """In blocks; of what is replicated each rank takes its part, without a message."""
    return numbers.redistribute(default_layout(numbers.shape, numbers.mesh.size)) if isinstance(numbers.layout, Replicated) else numbers


class _Route:
    """Numbers of rows, sorted to the ranks that hold these."""

    def __init__(self, mesh: Mesh, numbers: Host, bounds: Host, total: int) -> None:
        """``total``: how many numbers all ranks have."""
        self._mesh = mesh
        self._total = total
        with mesh.preparing(8 * total):
            owner = (np.searchsorted(bounds, numbers, side="right") - 1).astype(np.min_scalar_type(mesh.size))
            #: how many each rank holds, and where those of each begin and all end
            self.counts = np.bincount(owner, minlength=mesh.size)
            self.ends = np.concatenate([[0], np.cumsum(self.counts)])
            self._order = None if (owner[1:] >= owner[:-1]).all() else np.argsort(owner, kind="stable")

    def sorted(self, values: Host) -> Host:
        """Values of the numbers, those of one rank after another."""
        return np.ascontiguousarray(values if self._order is None else values[self._order])

    def unsorted(self, values: Host) -> Host:
        """The inverse."""
        if self._order is None:
            return values
        result = np.empty_like(values)
        result[self._order] = values
        return result

    def sent(self, values: Host, come: Host) -> list[Host]:
        """Values to the ranks that hold the rows; what comes from each rank, which is so many."""
        mesh = self._mesh
        others = [r for r in range(mesh.size) if r != mesh.rank]
        with mesh.preparing(self._total * math.prod(values.shape[1:]) * values.itemsize):  # a rank may be sent much more than others
            out = self.sorted(values)
            into = [np.empty((n, *values.shape[1:]), values.dtype) for n in come]
        into[mesh.rank] = self._of(out, mesh.rank)
        mesh.exchange([(r, self._of(out, r)) for r in others if self.counts[r]], [(r, into[r]) for r in others if come[r]])
        return into

    def _of(self, values: Host, rank: int) -> Host:
        return values[self.ends[rank] : self.ends[rank + 1]]

    def answered(self, answers: Sequence[Host], values: Host) -> Host:
        """Fill ``values``, sorted, with the answers of the ranks that hold the rows; ``answers`` are what each rank gets of this one."""
        mesh = self._mesh
        others = [r for r in range(mesh.size) if r != mesh.rank]
        pending = mesh.post(
            [(r, answers[r]) for r in others if len(answers[r])], [(r, self._of(values, r)) for r in others if self.counts[r]]
        )
        self._of(values, mesh.rank)[...] = answers[mesh.rank]
        mesh.complete(pending)
        return values


def _answered(rows: Host, lengths: Sequence[int], bounds: Host, numbers: DistArray, layout: Layout) -> Host:
    """The rows of this rank's numbers in ``layout``, from all ranks. Numbers that all ranks have are known to those that hold the rows."""
    mesh, whole = numbers.mesh, blocks.host(numbers.local)
    first, last = bounds[mesh.rank], bounds[mesh.rank + 1]
    if isinstance(numbers.layout, Replicated):
        parts = [
            whole[blocks.place([[range(*run) for run in runs] for runs in layout.runs(numbers.shape, mesh.size, r)])]
            for r in range(mesh.size)
        ]
        wanted = parts[mesh.rank].reshape(-1)
        route = _Route(mesh, wanted, bounds, numbers.size)
        due = [part[(part >= first) & (part < last)] for part in parts]
    else:
        wanted = whole.reshape(-1)
        route = _Route(mesh, wanted, bounds, numbers.size)
        due = route.sent(wanted, mesh.alltoall_ints(route.counts))
    row = rows.shape[len(lengths) :]
    with mesh.preparing(numbers.size * math.prod(row) * rows.itemsize):  # a rank may be asked for much more than others
        answers = [np.ascontiguousarray(rows[_indices(part - first, lengths)]) for part in due]
        values = np.empty((wanted.size, *row), rows.dtype)
    values = route.answered(answers, values)
    with mesh.preparing(numbers.size * math.prod(row) * rows.itemsize):
        return route.unsorted(values)


def store(rows: Host, bounds: Sequence[int], lengths: Sequence[int], indices: Sequence[DistArray], value: DistArray) -> None:
    """Set rows of blocks. Of values for one row, the last in C order of the indices counts.

    ``rows``
        this rank's block, with the axes of the indices in front, the divided one first; it is written to;
    ``bounds``, ``lengths``
        where the blocks begin and end along the divided axis, and how long the axes in front are;
    ``value``
        its first axes are those of the indices, its others those of a row, or of length 1.

    Nothing is sent if all ranks have the indices and the value. Else the owner of each row is sent its number, and a value that is not the
    same for all rows.
    """
    mesh, numbers = value.mesh, _numbers(indices, lengths)
    ends = np.asarray(bounds) * math.prod(lengths[1:])
    first, last = ends[mesh.rank], ends[mesh.rank + 1]
    shape = numbers.shape
    row = value.shape[len(shape) :]
    same = all(n == 1 for n in value.shape[: len(shape)])
    if same:
        value = value.replicate()
    if isinstance(numbers.layout, Replicated) and isinstance(value.layout, Replicated):
        whole = blocks.host(numbers.local)
        here = (whole >= first) & (whole < last)
        given = blocks.host(value.local)
        rows[_indices(whole[here] - first, lengths)] = given.reshape(row) if same else np.broadcast_to(given, (*shape, *row))[here]
        return
    vector = blocks.host(reshape(numbers, (-1,)).redistribute(Block(0)).local)
    route = _Route(mesh, vector, ends, numbers.size)
    come = mesh.alltoall_ints(route.counts)
    parts = route.sent(vector, come)
    if same:
        values = [blocks.host(value.local).reshape(row)] * mesh.size
    else:
        spread = reshape(broadcast_to(value, (*shape, *row)), (math.prod(shape), *row)).redistribute(Block(0))
        values = route.sent(blocks.host(spread.local), come)
    for part, given in zip(parts, values, strict=True):
        rows[_indices(part - first, lengths)] = given


def store_near(rows: Host, lengths: Sequence[int], indices: Sequence[DistArray], values: Host) -> None:
    """As `store`, where none of the axes is divided: each rank has its part of the values. Indices that are divided are replicated."""
    numbers = blocks.host(_numbers(indices, lengths).replicate().local)
    front, row = values.shape[: numbers.ndim], values.shape[numbers.ndim :]
    same = all(n == 1 for n in front)
    # as vectors: where indices do not lie in C order, NumPy would not write the last in this order at last
    whole = values if same else np.broadcast_to(values, (*numbers.shape, *row))
    rows[_indices(numbers.reshape(-1), lengths)] = whole.reshape(row if same else (numbers.size, *row))
