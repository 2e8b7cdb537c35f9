"""Functions that move elements about. Those that only change shapes are in `shapes`.

Functions along an axis that is not divided are local. Along the divided axis, each element travels at most once to each rank that needs it,
and what stays on its rank does not. Results are in even blocks, and share no memory with the operands but for those of `unstack`; of
replicated operands they are replicated, unless they have become large.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, BlockCyclic, Layout, Replicated, Runs, Shape, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist, mesh_of, normal_axes, normal_axis
from mpicluster.array.redistribute import Host, Share, redistribute, transfer
from mpicluster.array.regions import Listed, Ranges, even, flattened, places, selected, wrapped
from mpicluster.array.selection import choose
from mpicluster.array.shapes import (
    broadcast_arrays,
    broadcast_shapes,
    broadcast_to,
    expand_dims,
    in_few_runs,
    integers,
    matrix_transpose,
    moveaxis,
    permute_dims,
    reshape,
    squeeze,
)
from mpicluster.array.statistics import with_block_layout

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


def _assembled(
    mesh: Mesh, layout: Layout, shape: Shape, parts: Sequence[tuple[Host, Shape, Layout, Ranges, Ranges]], dtype: Any
) -> tuple[Host, Layout]:
    """A new array of parts of others, all moved at once: this rank's block, and its layout.

    Each part is this rank's block of an array, its shape and layout, which of its indices, and where in the result these go.
    """
    layout = layout.settled(shape, mesh.size)
    shares = []
    with mesh.preparing(0 if isinstance(layout, Replicated) else math.prod(shape) * np.dtype(dtype).itemsize):
        result = np.empty(layout.local_shape(shape, mesh.size, mesh.rank), dtype)
        for block, whole, lies, ranges, into in parts:
            values = block[blocks.place(places(lies, whole, mesh.size, mesh.rank, ranges))].astype(dtype, copy=False)
            room = result[blocks.place(places(layout, shape, mesh.size, mesh.rank, into))]
            assert np.may_share_memory(room, result) or not room.size, "in blocks, and in C order, a range of indices is one run"
            there = selected(lies, whole, mesh.size, ranges), selected(layout, shape, mesh.size, into)
            shares.append(Share(tuple(map(len, into)), values, there[0], room, there[1]))
    transfer(mesh, shares)
    return result, layout


def _at(shape: Shape, axis: int, indices: range) -> Ranges:
    """All of each axis but one."""
    return tuple(indices if i == axis else range(n) for i, n in enumerate(shape))


def _grown(shape: Shape, size: int, nbytes: int, layout: Layout, axis: int) -> Layout:
    """The layout of a result that has grown along an axis: even blocks of the axis that was divided. Replicated, unless it is large."""
    if isinstance(layout, Replicated):
        return layout if nbytes <= REPLICATED_UP_TO else default_layout(shape, size)
    return even(shape, size, layout.axis) if isinstance(layout, Block | BlockCyclic) else even(shape, size, axis)


# -- several in one, one in several ----------------------------------------------------------------------------------------------------


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> DistArray:
    """Arrays one after another along an axis; flattened first for None. Types promote.

    Divided along the axis along which the largest operand is that is. No message, where all are divided alike along another axis.
    """
    mesh = mesh_of(*arrays)
    operands = [as_dist(a, mesh) for a in arrays]
    if not operands:
        raise ValueError("need at least one array to concatenate")
    if axis is None:
        return concat([reshape(x, (-1,)) for x in operands], axis=0)
    first = operands[0]
    if any(x.ndim != first.ndim for x in operands):
        raise ValueError("all the input array dimensions must be equal")
    if not first.ndim:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    place = normal_axis(axis, first.ndim)
    if len({x.shape[:place] + x.shape[place + 1 :] for x in operands}) != 1:
        raise ValueError("all the input array dimensions except for the concatenation axis must match exactly")
    dtype = np.result_type(*(blocks.host(x.local).dtype for x in operands))
    ends = list(itertools.accumulate(x.shape[place] for x in operands))
    shape = tuple(ends[-1] if i == place else n for i, n in enumerate(first.shape))
    divided = [x for x in operands if not isinstance(x.layout, Replicated)]
    lead = max(divided, key=lambda x: x.size).layout if divided else first.layout
    layout = _grown(shape, mesh.size, math.prod(shape) * dtype.itemsize, lead, place)
    parts = [
        (
            blocks.host(x.local),
            x.shape,
            x.layout,
            _at(x.shape, place, range(x.shape[place])),
            _at(shape, place, range(end - x.shape[place], end)),
        )
        for x, end in zip(operands, ends, strict=True)
    ]
    block, layout = _assembled(mesh, layout, shape, parts, dtype)
    return DistArray(mesh, layout, shape, blocks.like(first.local, block))


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
    """The parts of the array at each index of an axis, which share memory with it or each other; divided along another axis.

    If that is the divided axis, the array is first brought to blocks of the longest other: each element travels at most once. A vector, and
    what it becomes, is replicated.
    """
    x = as_dist(x, mesh_of(x))
    if not x.ndim:
        raise ValueError("Input array must be at least 1-d.")
    place = normal_axis(axis, x.ndim)
    x = with_block_layout(x)
    if isinstance(x.layout, Block) and x.layout.axis == place:
        others = [i for i in range(x.ndim) if i != place]
        x = x.redistribute(Block(max(others, key=lambda i: x.shape[i])) if others else Replicated())
    return tuple(choose(x, [i if j == place else range(n) for j, n in enumerate(x.shape)]) for i in range(x.shape[place]))


# -- along an axis ---------------------------------------------------------------------------------------------------------------------


def flip(x: Any, /, *, axis: int | Sequence[int] | None = None) -> DistArray:
    """The array in reverse order along axes, all by default. Along the divided axis, each element travels at most once."""
    x = as_dist(x, mesh_of(x))
    axes = normal_axes(axis, x.ndim)
    part = choose(x, [range(n - 1, -1, -1) if i in axes else range(n) for i, n in enumerate(x.shape)])
    return part.copy() if np.may_share_memory(blocks.host(part.local), blocks.host(x.local)) else part


def roll(x: Any, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> DistArray:
    """The array with its elements shifted along axes, from the end to the beginning; as if it were flat for None.

    Each element travels at most once, and only if it changes its rank.
    """
    x = with_block_layout(as_dist(x, mesh_of(x)))
    shifts = integers(shift)
    if axis is None:
        x = in_few_runs(x)
        flat = flattened(x.layout, x.shape, x.mesh.size)
        local = np.ascontiguousarray(blocks.host(x.local)).reshape(-1)
        block = _shifted(x.mesh, local, (x.size,), flat, 0, sum(shifts)).reshape(x.local.shape)
        return DistArray(x.mesh, x.layout, x.shape, blocks.like(x.local, block))
    axes = integers(axis)
    if len(shifts) == 1:
        shifts = shifts * len(axes)
    if len(axes) == 1:
        axes = axes * len(shifts)
    if len(shifts) != len(axes):
        raise ValueError("'shift' and 'axis' should be scalars or of one length")
    total = dict.fromkeys((normal_axis(a, x.ndim) for a in axes), 0)
    for distance, a in zip(shifts, axes, strict=True):
        total[normal_axis(a, x.ndim)] += distance
    divided = x.layout.axis if isinstance(x.layout, Block) else None
    near = {a: distance for a, distance in total.items() if a != divided}
    moves = divided is not None and divided in total
    with x.mesh.preparing(x.nbytes if moves else 0):
        block = np.roll(blocks.host(x.local), tuple(near.values()), axis=tuple(near))
    if divided is not None and moves:
        block = _shifted(x.mesh, block, x.shape, x.layout, divided, total[divided])
    return DistArray(x.mesh, x.layout, x.shape, blocks.like(x.local, block))


def _shifted(mesh: Mesh, block: Host, shape: Shape, layout: Layout, axis: int, distance: int) -> Host:
    """The block of an array that is shifted along an axis, in the same layout."""
    n = shape[axis]
    cut = -distance % n if n else 0
    parts = [(block, shape, layout, _at(shape, axis, range(cut, n)), _at(shape, axis, range(n - cut)))]
    if cut:
        parts.append((block, shape, layout, _at(shape, axis, range(cut)), _at(shape, axis, range(n - cut, n))))
    return _assembled(mesh, layout, shape, parts, block.dtype)[0]


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> DistArray:
    """Each element so many times, one after another, along an axis; of the flat array for None.

    ``repeats``
        a number, or an array of one for each index; along an axis that is not divided, it is replicated.

    Along the divided axis the elements move to the ranks that repeat them, each once to each of these. If repeats are divided: two
    Allgathers of a few numbers.

    Raises
    ------
    TypeError
        repeats are not integers.
    ValueError
        there are not as many as indices, or one is negative; on all ranks.
    """
    mesh = mesh_of(x, repeats)
    x = as_dist(x, mesh)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    place = normal_axis(axis, x.ndim)
    times = _times(as_dist(repeats, mesh), x.shape[place])
    if isinstance(times, int):
        sums = np.array([[times * x.shape[place], times < 0]])
    else:
        given = blocks.host(times.local)
        mine = int(given.sum()), int((given < 0).any())
        sums = mesh.gather_ints(*mine) if isinstance(times.layout, Block) else np.array([mine])
    if sums[:, 1].any():
        raise ValueError("repeats may not contain negative values.")
    shape = tuple(int(sums[:, 0].sum()) if i == place else n for i, n in enumerate(x.shape))
    layout = _grown(shape, mesh.size, math.prod(shape) * x.itemsize, x.layout, place)
    if isinstance(layout, Block) and layout.axis == place:
        block = _repeated(x, times, place, sums[:, 0], layout.bounds(shape, mesh.size))
    else:
        each = times if isinstance(times, int) else blocks.host(times.replicate().local)
        block = np.repeat(blocks.host(x.redistribute(layout).local), each, axis=place)
    return wrap(mesh, layout, shape, blocks.like(x.local, block))


def _times(repeats: DistArray, n: int) -> DistArray | int:
    """Repeats as a vector of one number for each of ``n`` indices, or one number."""
    if blocks.host(repeats.local).dtype.kind not in "iu":
        raise TypeError(f"repeats must be integers, not {repeats.dtype}")
    if repeats.ndim > 1 or repeats.size not in (1, n):
        raise ValueError(f"there are {repeats.size} repeats for {n} indices")
    if repeats.size == 1:
        return int(blocks.host(repeats.replicate().local).reshape(()))
    repeats = with_block_layout(repeats)
    return DistArray(repeats.mesh, repeats.layout, (n,), blocks.host(repeats.local).astype(np.int64, copy=False))


def _repeated(x: DistArray, times: DistArray | int, axis: int, sums: Host, bounds: Sequence[int]) -> Host:
    """This rank's block of the result, which has these bounds. ``sums``: of the repeats of each rank, if they are divided."""
    mesh, size, n = x.mesh, x.mesh.size, x.shape[axis]
    # the first and the last element of each rank: which index it is a repetition of, and which of its repetitions it is
    wanted = np.array([*bounds[:-1], *(hi - 1 for hi in bounds[1:])])
    if isinstance(times, int):
        index, which = np.divmod(wanted, max(times, 1))
    else:
        index, which = _origins(times, n, sums, wanted)
    needed = [((int(index[r]), int(index[size + r]) + 1),) if bounds[r] < bounds[r + 1] else () for r in range(size)]
    block = _held(x, axis, needed)
    first, last = which[mesh.rank], which[size + mesh.rank] + 1
    count = None if isinstance(times, int) else _held(times, 0, needed)
    with mesh.preparing(x.nbytes):
        if isinstance(times, int) and not first and last == times:
            return np.repeat(block, times, axis=axis)
        count = np.full(block.shape[axis], times) if count is None else count.copy()
        if count.size:
            count[-1] = last
            count[0] -= first
        repeated: Host = np.repeat(block, count, axis=axis)
    return repeated


def _origins(times: DistArray, n: int, sums: Host, wanted: Host) -> tuple[Host, Host]:
    """Of elements of the result: which index each is a repetition of, and which of its repetitions; -1 where there is no such element."""
    mesh = times.mesh
    given, first, start = blocks.host(times.local), 0, 0
    if isinstance(times.layout, Block):
        first, start = times.layout.bounds((n,), mesh.size)[mesh.rank], int(sums[: mesh.rank].sum())
    ends = start + np.cumsum(given)
    here = (wanted >= start) & (wanted < (ends[-1] if ends.size else start))
    at = np.searchsorted(ends, wanted[here], side="right")
    index, which = np.full(len(wanted), -1), np.zeros(len(wanted), np.int64)
    index[here], which[here] = at + first, wanted[here] - (ends - given)[at]
    if isinstance(times.layout, Block):
        index, which = mesh.gather_ints(*index, *which).max(axis=0).reshape(2, -1)
    return index, which


def _held(x: DistArray, axis: int, needed: Sequence[Runs]) -> Host:
    """What this rank needs of an axis, if each rank needs these runs."""
    whole = [((0, n),) if n else () for n in x.shape]
    target = Listed(tuple(tuple(runs if i == axis else w for i, w in enumerate(whole)) for runs in needed))
    return blocks.host(redistribute(x.mesh, blocks.host(x.local), x.shape, x.layout, target))


def tile(x: Any, repetitions: int | Sequence[int], /) -> DistArray:
    """The array so many times along each axis; the last number is for the last axis.

    Along the divided axis, the elements move to the ranks that have them in the result, each once to each of these.
    """
    x, times = as_dist(x, mesh_of(x)), integers(repetitions)
    if min(times, default=0) < 0:
        raise ValueError("repetitions must not be negative")
    x = expand_dims(x, tuple(range(len(times) - x.ndim)))
    times = (1,) * (x.ndim - len(times)) + times
    mesh, size = x.mesh, x.mesh.size
    shape = tuple(n * count for n, count in zip(x.shape, times, strict=True))
    layout = _grown(shape, size, math.prod(shape) * x.itemsize, x.layout, 0)
    if not isinstance(layout, Block):
        block = np.tile(blocks.host(x.local), times)
    else:
        axis, n = layout.axis, x.shape[layout.axis]
        bounds = layout.bounds(shape, size)
        needed = [wrapped(lo, hi, n) for lo, hi in itertools.pairwise(bounds)]
        held = _held(x, axis, needed)
        with mesh.preparing(x.nbytes):
            block = _cycled(held, axis, _below(needed[mesh.rank], bounds[mesh.rank], n), layout.parts(shape, size)[mesh.rank])
            block = np.tile(block, [1 if i == axis else count for i, count in enumerate(times)])
    return wrap(mesh, layout, shape, blocks.like(x.local, block))


def _below(runs: Runs, lo: int, n: int) -> int:
    """How many of the indices in runs come before that from which on they are needed."""
    return sum(min(stop, lo % n) - min(start, lo % n) for start, stop in runs) if n else 0


def _cycled(held: Host, axis: int, first: int, length: int) -> Host:
    """So many indices of an axis, from the first on, beginning again at 0 after the last; a copy."""
    rows = np.moveaxis(held, axis, 0)
    cycles, rest = divmod(length, max(len(rows), 1))
    pieces = [rows[first:], rows[:first]] * cycles + [rows[first : first + rest], rows[: max(first + rest - len(rows), 0)]]
    return np.moveaxis(np.concatenate(pieces), 0, axis)
