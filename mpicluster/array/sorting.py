"""Sorted arrays. Along an axis that is not divided: each block by itself. Along the divided one of several, the array is brought to
blocks of another and back. A vector: parallel sorting by regular sampling.

In that, each rank sorts its part and takes a regular sample; from all samples, splitters are chosen that divide the elements among the
ranks; these exchange, and merge (Shi and Schaeffer, "Parallel sorting by regular sampling", J. Parallel Distrib. Comput. 14, 1992).
Elements are compared with their index, so that no two are equal: the result is stable, and no rank gets more than twice its share.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block
from mpicluster.array.operands import as_dist, mesh_of, normal_axis
from mpicluster.array.statistics import with_block_layout

__all__ = ["argsort", "sort", "sorted_pairs"]

Host = np.ndarray[Any, Any]


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DistArray:
    """The elements in rising (or falling) order along an axis, NaN last; divided as before.

    A vector of n elements: one Allgather of samples, and two exchanges of size - 1 messages, of n/p elements with their indices each.
    Memory: 6 n/p elements.
    """
    return _sorted(x, axis, descending=descending, stable=stable, indices=False)


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> DistArray:
    """The indices that put the elements in order along an axis; as `sort`. int64."""
    return _sorted(x, axis, descending=descending, stable=stable, indices=True)


def _sorted(x: Any, axis: int, *, descending: bool, stable: bool, indices: bool) -> DistArray:
    x = with_block_layout(as_dist(x, mesh_of(x)))
    if not x.ndim:
        raise ValueError("an array without dimensions has no axis to sort along")
    along = normal_axis(axis, x.ndim)
    if x.mesh.size > 1 and isinstance(x.layout, Block) and x.layout.axis == along:
        if x.ndim > 1:
            other = max((i for i in range(x.ndim) if i != along), key=lambda i: x.shape[i])
            moved = _sorted(x.redistribute(Block(other)), along, descending=descending, stable=stable, indices=indices)
            return moved.redistribute(Block(along))
        values, order = sorted_pairs(x, descending=descending)
        return order if indices else values
    data = blocks.host(x.local)
    if indices or descending:
        result = _argsort(data, along, descending=descending, stable=stable)
        if not indices:
            result = np.take_along_axis(data, result, along)
    else:
        result = np.sort(data, axis=along, stable=stable)
    return DistArray(x.mesh, x.layout, x.shape, blocks.like(x.local, np.asarray(result)))


def _argsort(data: Host, axis: int, *, descending: bool, stable: bool = True) -> Host:
    if not descending:
        return np.argsort(data, axis=axis, stable=stable)
    # a stable order of the reversed elements, reversed, is falling with equal ones as they were
    backward = np.flip(np.argsort(np.flip(data, axis=axis), axis=axis, stable=True), axis=axis)
    order = data.shape[axis] - 1 - backward
    if data.dtype.kind not in "fc" or not np.isnan(data).any():
        return order
    # NaN is last in either direction
    missing = np.isnan(np.take_along_axis(data, order, axis))
    return np.take_along_axis(order, np.argsort(missing, axis=axis, stable=True), axis)


def _key(values: Host, descending: bool) -> Host:
    """Numbers that compare as the values do (in falling order, as their opposites do), NaN above all."""
    if values.dtype.kind == "c":
        return values
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if not descending:
        return values
    return -values if values.dtype.kind == "f" else ~values


def _ordered(key: Host, index: Host) -> Host:
    """The order of pairs. Indices rise where the key is of a sorted part, so stability alone is enough there."""
    return np.lexsort((index, key)) if key.dtype.kind != "c" else np.lexsort((index, key.imag, key.real))


def _below(key: Host, index: Host, at: tuple[Any, int]) -> int:
    """How many of sorted pairs are below one."""
    lo = int(np.searchsorted(key, at[0], side="left"))
    hi = int(np.searchsorted(key, at[0], side="right"))
    return lo + int(np.searchsorted(index[lo:hi], at[1], side="left"))


def sorted_pairs(x: DistArray, *, descending: bool = False) -> tuple[DistArray, DistArray]:
    """A divided vector sorted, and the index that each element had; both in even blocks."""
    mesh = x.mesh
    assert isinstance(x.layout, Block)
    size, me = mesh.size, mesh.rank
    first = x.layout.bounds(x.shape, size)[me]
    values = blocks.host(x.local)
    order = _argsort(values, 0, descending=descending)
    values, index = values[order], order.astype(np.int64) + first
    key = _key(values, descending)
    places = np.linspace(0, max(len(values) - 1, 0), size).astype(np.int64) if len(values) else np.empty(0, np.int64)
    sample_key, sample_index = _gathered(mesh, key[places]), _gathered(mesh, index[places])
    sample = _ordered(sample_key, sample_index)
    cuts = [0]
    for i in range(1, size):
        at = min(i * len(sample) // size, len(sample) - 1)
        cuts.append(_below(key, index, (sample_key[sample[at]], int(sample_index[sample[at]]))) if len(sample) else 0)
    cuts.append(len(values))
    counts = np.diff(cuts).astype(np.int64)
    due = mesh.alltoall_ints(counts)
    values, index = _exchanged(mesh, values, cuts, due), _exchanged(mesh, index, cuts, due)
    merged = _ordered(_key(values, descending), index)
    sizes = tuple(int(n) for n in mesh.gather_ints(len(merged))[:, 0])
    layout = Block(0, sizes)
    return (
        wrap(mesh, layout, x.shape, blocks.like(x.local, values[merged])).redistribute(Block(0)),
        wrap(mesh, layout, x.shape, index[merged]).redistribute(Block(0)),
    )


def _gathered(mesh: Any, part: Host) -> Host:
    gathered: Host = mesh.allgather(part, [int(n) for n in mesh.gather_ints(len(part))[:, 0]])
    return gathered


def _exchanged(mesh: Any, part: Host, cuts: list[int], due: Host) -> Host:
    """Each rank's range of a vector to it; what comes, one after another in rank order."""
    size, me = mesh.size, mesh.rank
    come = np.empty(int(due.sum()), part.dtype)
    at = np.concatenate([[0], np.cumsum(due)])
    part = np.ascontiguousarray(part)
    mesh.exchange(
        [(p, part[cuts[p] : cuts[p + 1]]) for p in range(size) if p != me and cuts[p + 1] > cuts[p]],
        [(p, come[at[p] : at[p + 1]]) for p in range(size) if p != me and due[p]],
    )
    come[at[me] : at[me + 1]] = part[cuts[me] : cuts[me + 1]]
    return come
