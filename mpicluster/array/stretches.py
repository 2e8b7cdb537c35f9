"""Where a rank's block lies in the flat order of the whole array, which files and streams of random numbers follow. Pure integers.

In C order, what a rank holds is a sequence of *stretches* of consecutive elements: few and long ones if it holds blocks of the first axes,
many and short ones if of the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from mpicluster.array.layout import Layout, Replicated, Runs, Shape, count, default_layout

__all__ = ["Stretch", "in_stretches", "stretches"]


class Stretch(NamedTuple):
    """``length`` elements, from ``start`` in the flat order of the whole array; ``place`` is where they are in the rank's block."""

    start: int
    length: int
    place: tuple[Any, ...]


def _depth(shape: Shape, runs: tuple[Runs, ...]) -> int:
    """The last axis of which a rank does not hold all: what it holds of that axis, with all of those after it, is in stretches."""
    return max((i for i, (n, r) in enumerate(zip(shape, runs, strict=True)) if r != ((0, n),)), default=0)


def stretches(shape: Shape, layout: Layout, size: int, rank: int) -> Iterator[Stretch]:
    """What ``rank`` holds, in rising order."""
    if not shape:
        yield Stretch(0, 1, (...,))
        return
    runs = layout.runs(shape, size, rank)
    if not all(runs):
        return
    depth = _depth(shape, runs)
    after = math.prod(shape[depth + 1 :])
    leading = [list(enumerate(itertools.chain.from_iterable(range(lo, hi) for lo, hi in axis))) for axis in runs[:depth]]
    for outer in itertools.product(*leading):
        line = 0
        for (_, index), n in zip(outer, shape, strict=False):
            line = line * n + index
        at = 0
        for lo, hi in runs[depth]:
            place = (*(slice(i, i + 1) for i, _ in outer), slice(at, at + hi - lo), ...)
            yield Stretch((line * shape[depth] + lo) * after, (hi - lo) * after, place)
            at += hi - lo


def _mean(shape: Shape, layout: Layout, size: int) -> float:
    """How many elements a stretch has on average, on the rank where these are fewest; infinite where no rank has any."""
    means = []
    for rank in range(size):
        runs = layout.runs(shape, size, rank)
        if shape and all(runs):
            depth = _depth(shape, runs)
            means.append(math.prod(count(r) for r in runs[depth:]) / len(runs[depth]))
    return min(means, default=math.inf)


def in_stretches(shape: Shape, layout: Layout, size: int, length: int) -> Layout:
    """The layout itself, if its stretches are at least ``length`` elements on average; else the default one, whose are as long as can be.

    Of a replicated array, every rank has all: one stretch.
    """
    if isinstance(layout, Replicated) or _mean(shape, layout, size) >= length:
        return layout
    return default_layout(shape, size).settled(shape, size)
