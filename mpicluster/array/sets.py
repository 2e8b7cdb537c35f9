"""The distinct elements of an array.

Each rank finds those of its block, and only these are merged (see `merging`), and compared with their neighbours. Of a replicated array,
what is found is replicated.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Layout, Replicated, block_sizes
from mpicluster.array.manipulation import reshape
from mpicluster.array.merging import Host, Ints, merge
from mpicluster.array.operands import as_dist, mesh_of
from mpicluster.array.searching import rank_by_rank
from mpicluster.array.statistics import with_block_layout

__all__ = ["unique_all", "unique_counts", "unique_inverse", "unique_values"]


class UniqueAllResult(NamedTuple):
    """What `unique_all` gives."""

    values: DistArray
    indices: DistArray
    inverse_indices: DistArray
    counts: DistArray


class UniqueCountsResult(NamedTuple):
    """What `unique_counts` gives."""

    values: DistArray
    counts: DistArray


class UniqueInverseResult(NamedTuple):
    """What `unique_inverse` gives."""

    values: DistArray
    inverse_indices: DistArray


def unique_all(x: Any, /) -> UniqueAllResult:
    """The distinct elements; the index of the first of each in the array in C order; for each element the place of its like; how many.

    values
        a vector in even blocks, rising; 0.0 and -0.0 are alike, each NaN is distinct from all others;
    indices, counts
        likewise, int64;
    inverse_indices
        int64, of the shape of ``x``, and divided as it is.

    A few small Allgathers (see `merging`). Of what is distinct on each rank, value, index and count travel at most twice (to where
    they belong in order, and to make blocks even), and the place comes back. Where the axes before the divided one have more than one
    index, the whole array is brought to blocks in C order, and its inverse indices back. Memory: what is returned, and 10 times what is
    distinct on a rank.
    """
    x = with_block_layout(as_dist(x, mesh_of(x)))
    lines, start = rank_by_rank(x)
    with _preparing(x):
        values, first, inverse, counts = np.unique(
            blocks.host(lines.local), return_index=True, return_inverse=True, return_counts=True, equal_nan=False
        )
        first += start
    found = _Distinct(lines, values)
    back = DistArray(x.mesh, lines.layout, lines.shape, found.inverse(inverse).reshape(lines.local.shape))
    if lines is not x:
        back = reshape(back, x.shape).redistribute(x.layout)
    return UniqueAllResult(found.values(), found.firsts(first), back, found.counts(counts))


def unique_counts(x: Any, /) -> UniqueCountsResult:
    """The distinct elements, and how many there are of each; as `unique_all`, but the array is not brought to other blocks."""
    x = as_dist(x, mesh_of(x))
    with _preparing(x):
        values, counts = np.unique(blocks.host(x.local), return_counts=True, equal_nan=False)
    found = _Distinct(x, values)
    return UniqueCountsResult(found.values(), found.counts(counts))


def unique_inverse(x: Any, /) -> UniqueInverseResult:
    """The distinct elements, and for each element the place of its like; as `unique_all`, but the array is not brought to other blocks."""
    x = with_block_layout(as_dist(x, mesh_of(x)))
    with _preparing(x):
        values, inverse = np.unique(blocks.host(x.local), return_inverse=True, equal_nan=False)
    found = _Distinct(x, values)
    return UniqueInverseResult(found.values(), DistArray(x.mesh, x.layout, x.shape, found.inverse(inverse).reshape(x.local.shape)))


def unique_values(x: Any, /) -> DistArray:
    """The distinct elements; as `unique_all`, but the array is not brought to other blocks."""
    x = as_dist(x, mesh_of(x))
    with _preparing(x):
        values = np.unique(blocks.host(x.local), equal_nan=False)
    return _Distinct(x, values).values()


def _preparing(x: DistArray) -> AbstractContextManager[None]:
    """For what a rank finds in its block, which may be more than others do: all raise if one has too little memory."""
    return x.mesh.preparing(0 if isinstance(x.layout, Replicated) else x.nbytes)


class _Distinct:
    """The distinct elements of an array, from those of each rank, which are in order. A few small Allgathers, and one exchange."""

    def __init__(self, x: DistArray, values: Host) -> None:
        self._of = x
        self._replicated = isinstance(x.layout, Replicated)
        if self._replicated:
            self._values = values
            return
        mesh = x.mesh
        sizes = [int(n) for n in mesh.gather_ints(len(values))[:, 0]]
        self._merge = merge(mesh, values, sizes)
        come = self._merge.carry(values)
        with mesh.preparing(sum(sizes) * values.itemsize):
            self._order = np.argsort(come, stable=True)
            merged = come[self._order]
        #: whether each of the merged elements is the first of its like
        self._begins = self._differs_from_the_one_before(merged, block_sizes(sum(sizes), mesh.size))
        #: how many there are, on each rank
        self._sizes = tuple(int(n) for n in mesh.gather_ints(int(self._begins.sum()))[:, 0])
        with mesh.preparing(sum(sizes) * values.itemsize):
            self._values = merged[self._begins]

    def _differs_from_the_one_before(self, merged: Host, sizes: tuple[int, ...]) -> Host:
        """One message to the next rank."""
        mesh, me = self._of.mesh, self._of.mesh.rank
        before = np.empty(1, merged.dtype)
        with mesh.preparing(sum(sizes) * merged.itemsize):
            differs = np.ones(len(merged), bool)
            np.not_equal(merged[1:], merged[:-1], out=differs[1:])
        preceded = me > 0 and sizes[me] > 0
        followed = me + 1 < mesh.size and sizes[me + 1] > 0
        mesh.exchange([(me + 1, merged[-1:])] if followed else [], [(me - 1, before)] if preceded else [])
        if preceded:
            differs[0] = merged[0] != before[0]
        return differs

    def _vector(self, part: Host) -> DistArray:
        """What each rank has of its distinct elements, in even blocks."""
        mesh, block = self._of.mesh, blocks.like(self._of.local, part)
        if self._replicated:
            return DistArray(mesh, Replicated(), part.shape, block)
        layout: Layout = Block(0, self._sizes)
        return wrap(mesh, layout, (sum(self._sizes),), block).redistribute(Block(0))

    def values(self) -> DistArray:
        """The elements, rising."""
        return self._vector(self._values)

    def _in_order(self, numbers: Ints) -> Ints:
        """Numbers of the elements of this rank's block, for those that were merged."""
        come = self._merge.carry(numbers)
        with self._preparing():
            return come[self._order]

    def _preparing(self) -> AbstractContextManager[None]:
        """For numbers of what is merged."""
        return self._of.mesh.preparing(8 * int(self._merge.cuts[-1].sum()))

    def firsts(self, index: Ints) -> DistArray:
        """The index of the first of each element, from that on each rank; the indices on lower ranks are lower."""
        if self._replicated:
            return self._vector(index)
        merged = self._in_order(index)
        with self._preparing():
            index = merged[self._begins]
        return self._vector(index)

    def counts(self, numbers: Ints) -> DistArray:
        """How many there are of each element, from how many there are on each rank."""
        if self._replicated:
            return self._vector(numbers)
        # what is alike may go on on the next ranks: until the first that is not
        mesh = self._of.mesh
        merged = self._in_order(numbers)
        with self._preparing():
            begins = (np.cumsum(merged) - merged)[self._begins]
        said = mesh.gather_ints(int(merged.sum()), int(begins[0]) if len(begins) else -1)
        ends = np.cumsum(said[:, 0])
        later = [int(ends[r] - said[r, 0] + said[r, 1]) for r in range(mesh.rank + 1, mesh.size) if said[r, 1] >= 0]
        start = int(ends[mesh.rank] - said[mesh.rank, 0])
        with self._preparing():
            counts = np.diff(begins + start, append=later[0] if later else int(ends[-1]))
        return self._vector(counts)

    def inverse(self, index: Ints) -> Ints:
        """For elements of this rank's block, each given by its place among the distinct ones of this rank, its place among those of all."""
        places = self._places()
        with _preparing(self._of):
            return places[index]

    def _places(self) -> Ints:
        """For each of the distinct elements of this rank's block, its place among those of all."""
        if self._replicated:
            return np.arange(len(self._values))
        with self._preparing():
            place = np.empty(len(self._order), np.int64)
            place[self._order] = np.cumsum(self._begins) + (sum(self._sizes[: self._of.mesh.rank]) - 1)
        return self._merge.back(place)
