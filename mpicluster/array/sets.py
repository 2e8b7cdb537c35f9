"""The distinct elements of an array. Of a divided one: sorted with their indices (see `sorting`), each compared with the one before."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Replicated
from mpicluster.array.manipulation import reshape
from mpicluster.array.operands import as_dist, mesh_of
from mpicluster.array.sorting import sorted_pairs
from mpicluster.array.statistics import cumulative_sum, with_block_layout

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
    """The distinct elements, rising; the index of the first of each in the flat array; for each element the place of its like; how many.

    Each NaN is distinct from all others. The results are in even blocks; of a replicated array they are replicated. Cost: that of `sort`,
    an Allgather, and an exchange of the size of the array for the inverse indices.
    """
    x = with_block_layout(as_dist(x, mesh_of(x)))
    mesh = x.mesh
    if isinstance(x.layout, Replicated) or mesh.size == 1:
        found = np.unique(blocks.host(x.local), return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
        values, index, inverse, counts = (np.asarray(part) for part in found)
        parts = [DistArray(mesh, Replicated(), a.shape, a) for a in (values, index.astype(np.int64), counts.astype(np.int64))]
        back = DistArray(mesh, Replicated(), x.shape, inverse.reshape(x.shape).astype(np.int64))
        return UniqueAllResult(parts[0], parts[1], back, parts[2])
    flat = reshape(x, (-1,))
    values_, order_ = sorted_pairs(flat if isinstance(flat.layout, Block) else flat.redistribute(Block(0)))
    values, order = blocks.host(values_.local), blocks.host(order_.local)
    begins = _begins(values_, values)
    # the place of each element's like is how many have begun up to it, less one
    place = cumulative_sum(DistArray(mesh, values_.layout, values_.shape, begins.astype(np.int64)))
    sizes = tuple(int(n) for n in mesh.gather_ints(int(begins.sum()))[:, 0])
    total = sum(sizes)
    layout = Block(0, sizes)
    distinct = wrap(mesh, layout, (total,), values[begins])
    firsts = wrap(mesh, layout, (total,), order[begins])
    bounds = Block(0).bounds(values_.shape, mesh.size)
    starts = wrap(mesh, layout, (total,), np.flatnonzero(begins).astype(np.int64) + bounds[mesh.rank])
    counts_ = _counts(starts, flat.size)
    inverse_ = _inverse(order, blocks.host(place.local) - 1, flat)
    even = Block(0)
    return UniqueAllResult(distinct.redistribute(even), firsts.redistribute(even), reshape(inverse_, x.shape), counts_.redistribute(even))


def _begins(x: DistArray, values: Any) -> Any:
    """Whether each of sorted elements differs from the one before, which may be on another rank."""
    mesh = x.mesh
    last = np.zeros(1, values.dtype)
    if len(values):
        last = values[-1:]
    lasts = mesh.allgather(np.ascontiguousarray(last), [1] * mesh.size)
    sizes = Block(0).parts(x.shape, mesh.size)
    differs = np.ones(len(values), bool)
    differs[1:] = values[1:] != values[:-1]
    before = [r for r in range(mesh.rank) if sizes[r]]
    if len(values) and before:
        differs[0] = bool(values[0] != lasts[before[-1]])
    return differs


def _counts(starts: DistArray, n: int) -> DistArray:
    """From where each run begins, how long it is."""
    from mpicluster.array.manipulation import concat
    from mpicluster.array.statistics import diff

    end = DistArray(starts.mesh, Replicated(), (1,), np.array([n], np.int64))
    return diff(concat([starts, end]))


def _inverse(order: Any, place: Any, flat: DistArray) -> DistArray:
    """``place`` of each sorted element, sent to where the element was."""
    mesh = flat.mesh
    size, me = mesh.size, mesh.rank
    bounds = np.asarray(Block(0).bounds(flat.shape, size))
    owner = np.searchsorted(bounds, order, side="right") - 1
    sequence = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=size).astype(np.int64)
    due = mesh.alltoall_ints(counts)
    pairs = np.ascontiguousarray(np.stack([order, place], axis=1)[sequence])
    out, into = np.concatenate([[0], np.cumsum(counts)]), np.concatenate([[0], np.cumsum(due)])
    come = np.empty((int(due.sum()), 2), np.int64)
    mesh.exchange(
        [(p, pairs[out[p] : out[p + 1]]) for p in range(size) if p != me and counts[p]],
        [(p, come[into[p] : into[p + 1]]) for p in range(size) if p != me and due[p]],
    )
    come[into[me] : into[me + 1]] = pairs[out[me] : out[me + 1]]
    block = np.empty(int(bounds[me + 1] - bounds[me]), np.int64)
    block[come[:, 0] - bounds[me]] = come[:, 1]
    return DistArray(mesh, Block(0), flat.shape, block)


def unique_counts(x: Any, /) -> UniqueCountsResult:
    """The distinct elements, rising, and how many there are of each; as `unique_all`."""
    found = unique_all(x)
    return UniqueCountsResult(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverseResult:
    """The distinct elements, rising, and for each element the place of its like; as `unique_all`."""
    found = unique_all(x)
    return UniqueInverseResult(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> DistArray:
    """The distinct elements, rising; as `unique_all`."""
    return unique_all(x).values
