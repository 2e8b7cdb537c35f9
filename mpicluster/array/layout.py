"""Which rank holds which elements of an array: layouts as values. Pure integers: no arrays, no MPI.

A layout says how an array of any shape is divided over any number of ranks. What a rank holds is always the outer product of one set
of indices for each axis, and each set is a few *runs* of consecutive indices, in rising order. So one piece of arithmetic (`plan`)
moves data from any layout to any other.

=====================  ==========================================================================================================
`Replicated`           every rank has all of it
`Block`                consecutive indices of one axis on each rank; the first ``n % size`` ranks have one more, unless sizes are given
`BlockCyclic`          blocks of ``nb`` indices of one axis, dealt out in turn
`BlockCyclic2D`        blocks of rows and of columns, dealt out over a grid of ranks, as in ScaLAPACK
=====================  ==========================================================================================================
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Block", "BlockCyclic", "BlockCyclic2D", "Layout", "Part", "Plan", "Replicated", "Runs", "block_sizes", "default_layout", "plan"]

Shape = tuple[int, ...]
#: Indices of one axis: (start, stop) of each run, rising and apart.
Runs = tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=1024)
def block_sizes(length: int, size: int) -> tuple[int, ...]:
    """Lengths of ``size`` contiguous parts of ``length`` indices; the first ``length % size`` are one longer."""
    quotient, remainder = divmod(length, size)
    return (quotient + 1,) * remainder + (quotient,) * (size - remainder)


@functools.lru_cache(maxsize=1024)
def starts(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Where each part begins when parts of these sizes lie one after another, and at last where all of them end."""
    return (0, *itertools.accumulate(sizes))


def _whole(length: int) -> Runs:
    return ((0, length),) if length else ()


def _cyclic(length: int, nb: int, size: int, rank: int) -> Runs:
    if size == 1:
        return _whole(length)
    return tuple((lo, min(lo + nb, length)) for lo in range(rank * nb, length, size * nb))


def count(runs: Runs) -> int:
    """How many indices there are in runs."""
    return sum(hi - lo for lo, hi in runs)


class Layout:
    """How an array is divided. Layouts are values: they compare and hash by what they say."""

    __slots__ = ()

    def settled(self, shape: Shape, size: int) -> Layout:
        """The same for an array of this shape on so many ranks, written in one way: axes are not negative.

        Raises
        ------
        ValueError
            an array of this shape cannot be divided so.
        """
        raise NotImplementedError

    def runs(self, shape: Shape, size: int, rank: int) -> tuple[Runs, ...]:
        """The indices that ``rank`` holds, for each axis."""
        raise NotImplementedError

    def local_shape(self, shape: Shape, size: int, rank: int) -> Shape:
        """Shape of the block of ``rank``."""
        return tuple(count(r) for r in self.runs(shape, size, rank))


def _axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return axis % ndim


@dataclass(frozen=True, slots=True)
class Replicated(Layout):
    """Every rank holds the whole array."""

    def settled(self, shape: Shape, size: int) -> Layout:
        """This, for every array."""
        return self

    def runs(self, shape: Shape, size: int, rank: int) -> tuple[Runs, ...]:
        """All indices."""
        return tuple(_whole(n) for n in shape)


@dataclass(frozen=True, slots=True)
class Block(Layout):
    """Consecutive indices of ``axis`` on each rank.

    ``sizes``: how many on each; as even as possible if not given.
    """

    axis: int = 0
    sizes: tuple[int, ...] | None = None

    def settled(self, shape: Shape, size: int) -> Block:
        """With an axis that is not negative, and no sizes when they are as even as possible."""
        axis = _axis(self.axis, len(shape))
        sizes = self.sizes
        if sizes is not None:
            sizes = tuple(sizes)
            if len(sizes) != size or sum(sizes) != shape[axis] or min(sizes) < 0:
                raise ValueError(f"blocks of {sizes} do not divide axis {axis} of shape {shape} among {size} ranks")
            if sizes == block_sizes(shape[axis], size):
                sizes = None
        return self if (axis, sizes) == (self.axis, self.sizes) else Block(axis, sizes)

    def parts(self, shape: Shape, size: int) -> tuple[int, ...]:
        """How many indices each rank has."""
        return self.sizes if self.sizes is not None else block_sizes(shape[self.axis], size)

    def bounds(self, shape: Shape, size: int) -> tuple[int, ...]:
        """Where the block of each rank begins, and at last where all end: ``size + 1`` indices."""
        return starts(self.parts(shape, size))

    def runs(self, shape: Shape, size: int, rank: int) -> tuple[Runs, ...]:
        """One run of ``axis``, all of the others."""
        bounds = self.bounds(shape, size)
        lo, hi = bounds[rank], bounds[rank + 1]
        return tuple((((lo, hi),) if hi > lo else ()) if i == self.axis else _whole(n) for i, n in enumerate(shape))


@dataclass(frozen=True, slots=True)
class BlockCyclic(Layout):
    """Blocks of ``nb`` indices of ``axis``, dealt out to the ranks in turn: block i is on rank ``i % size``."""

    axis: int = 0
    nb: int = 128

    def settled(self, shape: Shape, size: int) -> Layout:
        """With an axis that is not negative."""
        if self.nb < 1:
            raise ValueError(f"blocks need at least one index, not {self.nb}")
        axis = _axis(self.axis, len(shape))
        return self if axis == self.axis else BlockCyclic(axis, self.nb)

    def runs(self, shape: Shape, size: int, rank: int) -> tuple[Runs, ...]:
        """Every ``size``-th block of ``axis``, all of the others."""
        return tuple(_cyclic(n, self.nb, size, rank) if i == self.axis else _whole(n) for i, n in enumerate(shape))


@dataclass(frozen=True, slots=True)
class BlockCyclic2D(Layout):
    """Blocks of ``block`` rows and columns, dealt out over a ``grid`` of ranks, rank r being at (r // columns, r % columns).

    For arrays of two dimensions.
    """

    grid: tuple[int, int]
    block: tuple[int, int] = (64, 64)

    def settled(self, shape: Shape, size: int) -> Layout:
        """This, if there are two axes and as many ranks as places in the grid."""
        if len(shape) != 2:
            raise ValueError(f"a 2-D layout needs an array of two dimensions, not of shape {shape}")
        if self.grid[0] * self.grid[1] != size or min(self.grid) < 1:
            raise ValueError(f"a grid of {self.grid[0]} x {self.grid[1]} ranks was asked for, but there are {size}")
        if min(self.block) < 1:
            raise ValueError(f"blocks need at least one row and column, not {self.block}")
        return self

    def runs(self, shape: Shape, size: int, rank: int) -> tuple[Runs, ...]:
        """Every so many-th block of rows, and of columns."""
        place = divmod(rank, self.grid[1])
        return tuple(_cyclic(shape[i], self.block[i], self.grid[i], place[i]) for i in range(2))


def default_layout(shape: Shape, size: int) -> Layout:
    """The layout of a new array: blocks of axis 0, or of the longest axis where axis 0 is too short to go round.

    An array without dimensions is on all ranks.
    """
    if not shape:
        return Replicated()
    axis = 0 if shape[0] >= size else max(range(len(shape)), key=lambda i: shape[i])
    return Block(axis if shape[axis] > shape[0] else 0)


# -- from one layout to another --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What goes to, or comes from, one rank: the outer product of runs of local indices, in C order."""

    peer: int
    runs: tuple[Runs, ...]

    @property
    def shape(self) -> Shape:
        """Shape of the part."""
        return tuple(count(r) for r in self.runs)

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one rank does to change an array's layout: ``kept`` holds its own part, as it lies before and after."""

    kept: tuple[Part, Part] | None
    sends: tuple[Part, ...]
    receives: tuple[Part, ...]


def _common(mine: Runs, theirs: Runs) -> tuple[Runs, Runs]:
    """What is in both: as positions among the indices of the first, and of the second. Adjoining runs are joined."""
    ours: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    i = j = at_i = at_j = 0
    while i < len(mine) and j < len(theirs):
        lo, hi = max(mine[i][0], theirs[j][0]), min(mine[i][1], theirs[j][1])
        if lo < hi:
            a, b, n = at_i + lo - mine[i][0], at_j + lo - theirs[j][0], hi - lo
            if ours and ours[-1][1] == a and others[-1][1] == b:
                ours[-1], others[-1] = (ours[-1][0], a + n), (others[-1][0], b + n)
            else:
                ours.append((a, a + n))
                others.append((b, b + n))
        if mine[i][1] <= theirs[j][1]:
            at_i += mine[i][1] - mine[i][0]
            i += 1
        else:
            at_j += theirs[j][1] - theirs[j][0]
            j += 1
    return tuple(ours), tuple(others)


def _overlap(peer: int, mine: Sequence[Runs], theirs: Sequence[Runs]) -> tuple[Part, Part] | None:
    """The part that both hold, as it lies in the one and in the other; None if there is none."""
    pairs = [_common(a, b) for a, b in zip(mine, theirs, strict=True)]
    if not all(a for a, _ in pairs):
        return None
    return Part(peer, tuple(a for a, _ in pairs)), Part(peer, tuple(b for _, b in pairs))


@functools.lru_cache(maxsize=512)
def plan(shape: Shape, size: int, source: Layout, target: Layout, rank: int) -> Plan:
    """What ``rank`` sends and receives so that an array of ``shape`` goes from one (settled) layout to another.

    Of what several ranks hold, each takes its own where it has it, else that of the rank itself: a replicated array needs no message.
    """
    have, want = source.runs(shape, size, rank), target.runs(shape, size, rank)
    kept = _overlap(rank, have, want)
    if isinstance(source, Replicated) or size == 1:
        return Plan(kept, (), ())
    sends, receives = [], []
    for peer in range(size):
        if peer == rank:
            continue
        out = _overlap(peer, have, target.runs(shape, size, peer))
        if out is not None:
            sends.append(out[0])
        come = _overlap(peer, want, source.runs(shape, size, peer))
        if come is not None:
            receives.append(come[0])
    return Plan(kept, tuple(sends), tuple(receives))
