"""Where the elements lie that are a part of an array, or are seen in another order: as layouts. Pure integers: no arrays, no MPI.

What ranges of indices choose, where a mask is true, and an array as a vector in C order: in each of these every rank holds an outer product
of runs of indices again, as in any layout. So `plan` says who sends what to whom for them, too, and each element travels at most once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpicluster.array.layout import Block, BlockCyclic, Layout, Replicated, Runs, Shape, count, default_layout

__all__ = ["Listed", "along", "even", "flattened", "interleaved", "met", "places", "runs_when_flat", "selected", "wrapped"]

Ranges = Sequence[range]


@dataclass(frozen=True, slots=True)
class Listed(Layout):
    """What each rank holds, said one by one: ``held[rank]`` are the runs of each axis."""

    held: tuple[tuple[Runs, ...], ...]

    def settled(self, shape: Shape, size: int) -> Layout:
        """This: it is for one shape and number of ranks."""
        return self

    def runs(self, shape: Shape, size: int, rank: int) -> tuple[Runs, ...]:
        """As said."""
        return self.held[rank]


def along(layout: Layout, axis: int) -> Layout:
    """The same division along another axis. For layouts of one axis."""
    if isinstance(layout, Block):
        return Block(axis, layout.sizes)
    if isinstance(layout, BlockCyclic):
        return BlockCyclic(axis, layout.nb)
    return layout


def even(shape: Shape, size: int, axis: int) -> Layout:
    """Even blocks of an axis; of another, where that is too short to go round."""
    return Block(axis) if shape[axis] >= size else default_layout(shape, size)


# -- what ranges choose ----------------------------------------------------------------------------------------------------------------


def _between(indices: range, lo: int, hi: int) -> tuple[int, int]:
    """Which places of a range have indices from ``lo`` to below ``hi``: they are consecutive, from the first to below the last."""
    start, step, n = indices.start, indices.step, len(indices)
    if step > 0:
        first, last = -((start - lo) // step), -((start - hi) // step)
    else:
        first, last = -((hi - 1 - start) // -step), -((lo - 1 - start) // -step)
    return min(max(first, 0), n), min(max(last, 0), n)


def met(runs: Runs, indices: range) -> tuple[Runs, tuple[range, ...]]:
    """Of the indices of a range those that lie in runs: their places in the range, and among what the runs hold. In the range's order."""
    places: list[tuple[int, int]] = []
    local: list[range] = []
    at = 0
    pairs = []
    for lo, hi in runs:
        first, last = _between(indices, lo, hi)
        if first < last:
            part = indices[first:last]
            pairs.append(((first, last), range(part.start - lo + at, part.stop - lo + at, part.step)))
        at += hi - lo
    for (first, last), part in pairs if indices.step > 0 else reversed(pairs):
        if places and places[-1][1] == first:
            places[-1] = (places[-1][0], last)
        else:
            places.append((first, last))
        if local and local[-1].start + len(local[-1]) * indices.step == part.start:
            local[-1] = range(local[-1].start, part.stop, indices.step)
        else:
            local.append(part)
    return tuple(places), tuple(local)


def places(layout: Layout, shape: Shape, size: int, rank: int, ranges: Ranges) -> tuple[tuple[range, ...], ...]:
    """Where in the block of ``rank`` the elements are that ranges choose, one for each axis: local indices, in the order of the ranges."""
    return tuple(met(runs, indices)[1] for runs, indices in zip(layout.runs(shape, size, rank), ranges, strict=True))


def selected(layout: Layout, shape: Shape, size: int, ranges: Ranges, lengths: Shape | None = None) -> Layout:
    """How that lies which ranges choose of an array, one for each axis, if all elements stay on their rank.

    ``lengths``
        the shape of a value that is to be put there, 1 along axes where it broadcasts: then how it must lie so that each rank has what it
        puts. Along an axis where it broadcasts, all that have a place for it have it.
    """
    if isinstance(layout, Replicated):
        return layout
    lengths = tuple(map(len, ranges)) if lengths is None else lengths
    spread = [n != len(r) for n, r in zip(lengths, ranges, strict=True)]
    held = []
    for rank in range(size):
        mine = [met(runs, indices)[0] for runs, indices in zip(layout.runs(shape, size, rank), ranges, strict=True)]
        held.append(tuple((((0, 1),) if m else ()) if s else m for m, s in zip(mine, spread, strict=True)))
    if isinstance(layout, Block) and not spread[layout.axis] and (ranges[layout.axis].step > 0 or size == 1):
        return Block(layout.axis, tuple(count(runs[layout.axis]) for runs in held)).settled(lengths, size)
    return Listed(tuple(held))


# -- in C order ------------------------------------------------------------------------------------------------------------------------


def _split(layout: Layout, shape: Shape) -> tuple[int, int, int]:
    """The divided axis, and how many indices there are before and after it."""
    axis = layout.axis if isinstance(layout, Block | BlockCyclic) else 0
    return axis, math.prod(shape[:axis]), math.prod(shape[axis + 1 :])


def runs_when_flat(layout: Layout, shape: Shape, size: int) -> int:
    """How many runs of the flat array one rank holds at most. For layouts of one axis."""
    axis, before, _ = _split(layout, shape)
    if isinstance(layout, BlockCyclic) and size > 1:
        return before * -(-shape[axis] // (layout.nb * size))
    return before


def flattened(layout: Layout, shape: Shape, size: int) -> Layout:
    """How the array lies as a vector, in C order, if all elements stay on their rank. For layouts of one axis, or replicated."""
    if isinstance(layout, Replicated):
        return layout
    axis, before, after = _split(layout, shape)
    if isinstance(layout, Block) and before == 1:
        return Block(0, tuple(n * after for n in layout.parts(shape, size))).settled((math.prod(shape),), size)
    row = shape[axis] * after
    held = []
    for rank in range(size):
        runs = layout.runs(shape, size, rank)[axis] if after else ()
        held.append((tuple((i * row + lo * after, i * row + hi * after) for i in range(before) for lo, hi in runs),))
    return Listed(tuple(held))


def interleaved(counts: Sequence[Sequence[int]], shape: Shape, axis: int) -> Layout:
    """How that lies which a mask chooses: ``axis`` has, in turn, what each rank has of a first part, of a second, and so on.

    ``counts[rank]``
        how many indices of ``axis`` a rank has of each part. There are parts where the mask has axes before the divided one.
    """
    size = len(counts)
    if len(counts[0]) == 1:
        return Block(axis, tuple(n for (n,) in counts)).settled(shape, size)
    ends = itertools.accumulate(n for part in zip(*counts, strict=True) for n in part)
    runs: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    for end, (part, rank) in zip(ends, itertools.product(range(len(counts[0])), range(size)), strict=True):
        if counts[rank][part]:
            runs[rank].append((end - counts[rank][part], end))
    whole = [((0, n),) if n else () for n in shape]
    return Listed(tuple(tuple(tuple(mine) if i == axis else w for i, w in enumerate(whole)) for mine in runs))


def wrapped(lo: int, hi: int, n: int) -> Runs:
    """The indices below ``n`` that come up from ``lo`` to below ``hi``, if they begin at 0 again after every ``n``."""
    if hi - lo >= n:
        return ((0, n),) if n else ()
    first, last = lo % n, lo % n + hi - lo
    if last <= n:
        return ((first, last),) if last > first else ()
    return ((0, last - n), (first, n))
