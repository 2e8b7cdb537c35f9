"""Where elements are: the largest and smallest, those that are not zero, and where others are or would be in a sorted array."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.agreement import Failure
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Replicated, block_sizes
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.manipulation import reshape
from mpicluster.array.merging import Host, Ints
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist, mesh_of, normal_axis
from mpicluster.array.sorting import sort
from mpicluster.array.statistics import folded, with_block_layout, without_axes

__all__ = ["argmax", "argmin", "isin", "nonzero", "rank_by_rank", "searchsorted"]

#: So many elements may always be asked of one rank at once, even if that is more than its share.
_ASKED_AT_ONCE = 1 << 16


def rank_by_rank(x: DistArray) -> tuple[DistArray, int]:
    """The array such that in C order the elements of each rank follow those of the one before, and how many come before this rank's.

    It is ``x`` itself if all axes before the divided one have one index; else a vector of its elements, which are moved.
    """
    layout = x.layout
    if isinstance(layout, Replicated):
        return x, 0
    assert isinstance(layout, Block)
    if x.mesh.size > 1 and math.prod(x.shape[: layout.axis]) > 1:
        x = reshape(x, (-1,))
        layout = x.layout
        assert isinstance(layout, Block)
    return x, layout.bounds(x.shape, x.mesh.size)[x.mesh.rank] * math.prod(x.shape[layout.axis + 1 :])


# -- extremes --------------------------------------------------------------------------------------------------------------------------


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> DistArray:
    """The index of the first largest element along an axis, of the array in C order for None; of the first NaN, if there is one. int64.

    Along the divided axis, or for None: one fold of the size of the result, of pairs of value and index; replicated, or divided if it is
    large. Else no message, and divided as ``x``.

    Raises
    ------
    ValueError
        there are no elements.
    numpy.exceptions.AxisError
        there is no such axis.
    """
    return _extreme_index(x, axis, keepdims, "argmax")


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> DistArray:
    """The index of the first smallest element along an axis; as `argmax`."""
    return _extreme_index(x, axis, keepdims, "argmin")


def _extreme_index(x: Any, axis: int | None, keepdims: bool, name: str) -> DistArray:
    x = with_block_layout(as_dist(x, mesh_of(x)))
    axes = tuple(range(x.ndim)) if axis is None else (normal_axis(axis, x.ndim),)
    if 0 in (x.shape[a] for a in axes):
        raise ValueError(f"attempt to get {name} of an empty sequence")
    best, data, layout = getattr(np, name), blocks.host(x.local), x.layout
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    if isinstance(layout, Block) and layout.axis in axes:
        present = [n > 0 for n in layout.parts(x.shape, x.mesh.size)]
        pair = np.zeros(shape, [("value", data.dtype), ("index", np.int64)])
        failure = Failure()
        if present[x.mesh.rank]:
            with failure:
                pair["value"], pair["index"] = _extreme(x, data, axis, best)
        pair, layout = folded(x.mesh, pair, lambda a, b: _better(a, b, best), present, failure.error)
        index = np.ascontiguousarray(pair["index"])
    else:
        index = np.asarray(best(data, axis=axis, keepdims=True), np.int64).reshape(layout.local_shape(shape, x.mesh.size, x.mesh.rank))
    result = DistArray(x.mesh, layout, shape, blocks.like(x.local, index))
    return result if keepdims else without_axes(result, axes)


def _extreme(x: DistArray, data: Host, axis: int | None, best: Any) -> tuple[Any, Any]:
    """The best of this rank's block, and their indices in the whole array."""
    assert isinstance(x.layout, Block)
    first = x.layout.bounds(x.shape, x.mesh.size)[x.mesh.rank]
    if axis is not None:
        index = best(data, axis=axis, keepdims=True)
        return np.take_along_axis(data, index, axis), index + first
    at = np.unravel_index(best(data), data.shape)
    return data[at], np.ravel_multi_index([i + first * (a == x.layout.axis) for a, i in enumerate(at)], x.shape)


def _better(a: Host, b: Host, best: Any) -> Host:
    """The better of pairs of value and index; of equal ones that of the lower index."""
    later = b["index"] < a["index"]
    low, high = np.where(later, b, a), np.where(later, a, b)
    return np.where(best(np.stack([low["value"], high["value"]]), axis=0) == 1, high, low)


# -- what is not zero ------------------------------------------------------------------------------------------------------------------


def nonzero(x: Any, /) -> tuple[DistArray, ...]:
    """The indices of the elements that are not zero, in C order: for each axis an int64 vector, in even blocks; replicated if ``x`` is.

    One Allgather of counts, and one exchange of 8 bytes for each index that is not where even blocks have it. Where the axes before the
    divided one have more than one index, the array is brought to blocks in C order first, each element at most once. Memory: twice the
    vectors.

    Raises
    ------
    ValueError
        the array has no dimensions.
    """
    x = with_block_layout(as_dist(x, mesh_of(x)))
    if not x.ndim:
        raise ValueError("nonzero is not defined for arrays without dimensions: reshape(x, (1,)) has one")
    lines, start = rank_by_rank(x)
    data = blocks.host(lines.local)
    divided = not isinstance(lines.layout, Replicated)
    with x.mesh.preparing(8 * x.size if divided else 0):  # a rank may find much more than others
        found: Any = np.nonzero(data)
        if divided:
            flat = (np.ravel_multi_index(found, data.shape) if data.size else np.empty(0, np.int64)) + start
            found = ()
    if divided:
        sizes = tuple(int(n) for n in x.mesh.gather_ints(flat.size)[:, 0])
        even = wrap(x.mesh, Block(0, sizes), (sum(sizes),), flat).redistribute(Block(0))
        with x.mesh.preparing(even.nbytes):
            found = np.unravel_index(even.local, x.shape) if x.size else (even.local,) * x.ndim
        return tuple(DistArray(x.mesh, even.layout, even.shape, blocks.like(x.local, index)) for index in found)
    return tuple(DistArray(x.mesh, lines.layout, index.shape, blocks.like(x.local, index)) for index in found)


# -- elements of others ----------------------------------------------------------------------------------------------------------------


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> DistArray:
    """Where the elements of ``x2`` would be in the sorted vector ``x1``: before (``"left"``) or after (``"right"``) those that are equal.

    int64, of the shape of ``x2`` and divided as it is. ``sorter``: the indices that sort ``x1``; these elements are fetched first.

    With ``x1`` replicated: no message. Up to 64 MiB (`limits.REPLICATED_UP_TO`): one Allgatherv of it. Larger, with ``x2`` replicated: one
    fold of its size. Both divided: each element is asked of the rank that holds its place, and the answer comes back, in two exchanges;
    in more, so that no rank is asked for more than about its share at once. Memory: 4 blocks of ``x2``.

    Raises
    ------
    ValueError
        ``side`` is another; ``x1`` or ``sorter`` is no vector, or they are not of one length.
    TypeError
        ``sorter`` is not of integers.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', not {side!r}")
    mesh = mesh_of(x1, x2, sorter)
    table, wanted = with_block_layout(as_dist(x1, mesh)), with_block_layout(as_dist(x2, mesh))
    if table.ndim != 1:
        raise ValueError(f"x1 must be a vector, not of shape {table.shape}")
    if sorter is not None:
        table = _in_order(table, as_dist(sorter, mesh))
    find: Any = np.searchsorted

    def places(elements: Host, part: Host) -> Ints:
        return np.asarray(find(part, elements, side=side), np.int64)

    moves = not isinstance(table.layout, Replicated)
    if table.nbytes <= REPLICATED_UP_TO or mesh.size == 1:
        table = table.replicate()
    data = blocks.host(wanted.local)
    if isinstance(table.layout, Replicated):
        with mesh.preparing(8 * wanted.size if moves else 0):
            index = places(data, blocks.host(table.local))
    elif isinstance(wanted.layout, Replicated):  # what is before an element in all is what is before it in each block
        with mesh.preparing(table.nbytes):
            index = places(data, blocks.host(table.local))
        index = mesh.fold(index, np.add)
    else:
        even = table.redistribute(Block(0))
        first = block_sizes(even.size, mesh.size)
        part, start = blocks.host(even.local), sum(first[: mesh.rank])
        owner = _owners(even, data.reshape(-1), side)
        index = np.full(owner.shape, table.size, np.int64)
        _ask(mesh, owner, data.reshape(-1), index, lambda elements: places(elements, part) + start)
        index = index.reshape(data.shape)
    return DistArray(mesh, wanted.layout, wanted.shape, blocks.like(wanted.local, index))


def _in_order(x: DistArray, sorter: DistArray) -> DistArray:
    from mpicluster.array.indexing import take

    if np.dtype(sorter.dtype).kind not in "iu":
        raise TypeError("sorter must only contain integers")
    if sorter.shape != x.shape:
        raise ValueError(f"sorter must be of the shape of x1, {x.shape}, not {sorter.shape}")
    return with_block_layout(take(x, sorter, axis=0))


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> DistArray:
    """Whether each element of ``x1`` is among those of ``x2`` (is not, with ``invert``); NaN never is. bool, divided as ``x1``.

    With ``x2`` replicated: no message. Up to 64 MiB (`limits.REPLICATED_UP_TO`): one Allgatherv of it. Larger, with ``x1`` replicated: one
    fold of its size. Both divided: ``x2`` is sorted, and each element is asked of the rank that holds its like, as in `searchsorted`.
    Memory: up to 64 MiB; or 4 blocks of ``x1`` and of ``x2``.
    """
    mesh = mesh_of(x1, x2)
    x, among = as_dist(x1, mesh), as_dist(x2, mesh)
    moves = not isinstance(among.layout, Replicated)
    if among.nbytes <= REPLICATED_UP_TO or mesh.size == 1:
        among = among.replicate()
    data, others = blocks.host(x.local), blocks.host(among.local)
    if isinstance(among.layout, Replicated):
        with mesh.preparing(x.nbytes if moves else 0):
            found = np.asarray(np.isin(data, others))
    elif isinstance(x.layout, Replicated):
        with mesh.preparing(among.nbytes):
            found = np.asarray(np.isin(data, others))
        found = mesh.fold(found, np.logical_or)
    else:
        with mesh.preparing(among.nbytes):
            distinct = np.unique(others)
        sizes = tuple(int(n) for n in mesh.gather_ints(distinct.size)[:, 0])
        even = sort(wrap(mesh, Block(0, sizes), (sum(sizes),), distinct))
        part = blocks.host(even.local)
        found = np.zeros(data.size, bool)
        owner = _owners(even, data.reshape(-1), "left")
        _ask(mesh, owner, data.reshape(-1), found, lambda elements: part[np.searchsorted(part, elements)] == elements)
        found = found.reshape(data.shape)
    return DistArray(mesh, x.layout, x.shape, blocks.like(x.local, ~found if invert else found))


def _owners(x: DistArray, elements: Host, side: Any) -> Ints:
    """The rank in whose block of a sorted vector, in even blocks, each element has its place; size for those after all. One Allgather."""
    held = [min(n, 1) for n in block_sizes(x.size, x.mesh.size)]
    lasts = x.mesh.allgather(blocks.host(x.local)[-1:], held)
    owner = np.searchsorted(lasts, elements, side=side)
    owner[owner == len(lasts)] = x.mesh.size
    return owner


def _ask(mesh: Mesh, owner: Ints, elements: Host, answers: Host, answer: Callable[[Host], Host]) -> None:
    """Set ``answers`` of elements to what the owner of each finds, where there is such a rank.

    One Allgather of size numbers, and an exchange there and one back, of at most size - 1 messages each way; in several rounds if a rank
    would be asked for more than twice its share of the elements. ``answer`` must not fail for elements of others.
    """
    with mesh.together():
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=mesh.size)[: mesh.size]
    asked = mesh.gather_ints(*counts)
    allowed = max(_ASKED_AT_ONCE, 2 * int(asked.sum()) // mesh.size)
    rounds = -(-int(asked.sum(axis=0).max()) // allowed)
    others = [r for r in range(mesh.size) if r != mesh.rank]
    begins = np.cumsum(counts) - counts
    for i in range(rounds):
        lo, hi = asked * i // rounds, asked * (i + 1) // rounds
        mine = [order[b + n : b + m] for b, n, m in zip(begins, lo[mesh.rank], hi[mesh.rank], strict=True)]
        due = (hi - lo)[:, mesh.rank]
        with mesh.preparing(int((hi - lo).sum()) * elements.itemsize):
            come = {r: np.empty(due[r], elements.dtype) for r in others if due[r]}
            back = {r: np.empty(len(mine[r]), answers.dtype) for r in others if len(mine[r])}
            asking = [(r, elements[mine[r]]) for r in others if len(mine[r])]
        mesh.exchange(asking, list(come.items()))
        with mesh.preparing(int((hi - lo).sum()) * elements.itemsize):
            answering = [(r, np.asarray(answer(come[r]), answers.dtype)) for r in come]
            if len(mine[mesh.rank]):
                answers[mine[mesh.rank]] = answer(elements[mine[mesh.rank]])
        mesh.exchange(answering, list(back.items()))
        for r, values in back.items():
            answers[mine[r]] = values
