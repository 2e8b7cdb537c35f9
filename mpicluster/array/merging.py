"""Sorted blocks of all ranks become one sorted vector: where each is cut, and which piece goes where. Collective over the mesh.

The cuts are exact: every rank gets just the elements of its even block, each of them travels at most once, and no rank ever holds more
than its share, however many are equal. They are found by regular sampling (Shi and Schaeffer, "Parallel sorting by regular sampling",
J. Parallel Distrib. Comput. 14, 1992) that is repeated within what is undecided until nothing is, as in exact multiway selection
(Varman, Scheufler, Iyer and Ricard, "Merging multiple lists on hierarchical-memory multiprocessors", J. Parallel Distrib. Comput. 12,
1991). Of equal elements those on lower ranks come first, so what is made of this is stable. NaN is above all others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.layout import block_sizes, starts
from mpicluster.array.mesh import Mesh

__all__ = ["Merge", "cuts", "merge", "narrowed", "sample"]

Host = NDArray[Any]
Ints = NDArray[np.int64]

#: Elements that a rank shows in one round, of each of its undecided ranges: at most, at least, and of all ranks together.
_MOST, _LEAST, _TOGETHER = 64, 4, 4096


# -- arithmetic: no messages -----------------------------------------------------------------------------------------------------------


def sample(lo: int, hi: int, most: int) -> Ints:
    """Evenly spaced places of a range, not more than so many: all of it where it is short."""
    n = hi - lo
    if n <= most:
        return np.arange(lo, hi)
    return lo + (2 * np.arange(most) + 1) * n // (2 * most)


def narrowed(lo: Ints, hi: Ints, places: Sequence[Ints], values: Host, first: int) -> tuple[Ints, Ints]:
    """Between which places each of sorted runs is cut, so that the ``first`` elements of all runs together come before the cuts.

    ``lo``, ``hi``
        between which they are as far as is known: one for each run. At least one of these ranges becomes smaller, if one is not empty;
    ``places``
        of each run some places from ``lo`` to below ``hi``, rising, at least one where there are any;
    ``values``
        the elements there, of one run after another.
    """
    run = np.repeat(np.arange(len(places)), [len(p) for p in places])
    at = np.concatenate(places)
    heads = np.concatenate([[True], run[1:] != run[:-1]])
    tails = np.concatenate([heads[1:], [True]])
    before = np.where(heads, lo[run] - 1, np.roll(at, 1))
    after = np.where(tails, hi[run], np.roll(at, -1))
    order = np.argsort(values, kind="stable")  # by value, run and place
    run, sorted_at = run[order], at[order]
    # how many elements come before each of these: of every run at least up to its last place below, at most to below the next
    least = lo.sum() - 1 + np.cumsum((at - before)[order])
    beyond = (after - at)[order]
    most = at[heads].sum() + sum(int(h) for h, p in zip(hi, places, strict=True) if not len(p)) + np.cumsum(beyond) - beyond
    lo, hi = lo.copy(), hi.copy()
    under, over = most < first, least >= first
    np.maximum.at(lo, run[under], sorted_at[under] + 1)
    np.minimum.at(hi, run[over], sorted_at[over])
    return lo, hi


def cuts(sizes: Sequence[int], targets: Sequence[int], show: Callable[[Sequence[Sequence[Ints]]], Sequence[Host]]) -> Ints:
    """Where to cut each of sorted runs of these sizes, so that they fall into parts of ``targets`` elements.

    A row for the begin of each part, and for the end of the last; in it, a place in each run.

    ``show``
        the elements of all runs at some places, for some cuts: ``places[i][run]`` gives ``elements[i]``, of one run after another.
    """
    bounds = starts(tuple(targets))
    runs = len(sizes)
    lo = np.zeros((len(bounds), runs), np.int64)
    lo[-1] = sizes
    hi = lo.copy()
    hi[1:-1] = sizes
    most = min(_MOST, max(_LEAST, _TOGETHER // runs))
    while len(open_ := np.flatnonzero((lo < hi).any(axis=1))):
        places = [[sample(int(lo[i, r]), int(hi[i, r]), most) for r in range(runs)] for i in open_]
        for i, where, values in zip(open_, places, show(places), strict=True):
            lo[i], hi[i] = narrowed(lo[i], hi[i], where, values, bounds[i])
    return lo


# -- with messages ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Merge:
    """How sorted blocks fall into the blocks of the whole.

    Attributes
    ----------
    mesh
        the ranks.
    cuts
        a row for the begin of each new block, and for the end of the last: where the old block of each rank is cut there.
    """

    mesh: Mesh
    cuts: Ints

    def carry(self, values: Host) -> Host:
        """Something of each element, in the order of the old block, for the elements of the new: those of each rank after another.

        At most size - 1 messages each way.
        """
        me = self.mesh.rank
        return self._moved(values, self.cuts[:, me], np.concatenate([[0], np.cumsum(self.cuts[me + 1] - self.cuts[me])]))

    def back(self, values: Host) -> Host:
        """The inverse of `carry`."""
        me = self.mesh.rank
        return self._moved(values, np.concatenate([[0], np.cumsum(self.cuts[me + 1] - self.cuts[me])]), self.cuts[:, me])

    def _moved(self, values: Host, out: Ints, into: Ints) -> Host:
        """What is from ``out[r]`` to ``out[r + 1]`` to rank r; what it has for us, from ``into[r]`` to ``into[r + 1]``."""
        mesh, me = self.mesh, self.mesh.rank
        with mesh.preparing(int(self.cuts[-1].sum()) * values.itemsize):
            values = np.ascontiguousarray(values)
            come = np.empty((int(into[-1]), *values.shape[1:]), values.dtype)
        others = [r for r in range(mesh.size) if r != me]
        pending = mesh.post(
            [(r, values[out[r] : out[r + 1]]) for r in others if out[r + 1] > out[r]],
            [(r, come[into[r] : into[r + 1]]) for r in others if into[r + 1] > into[r]],
        )
        come[into[me] : into[me + 1]] = values[out[me] : out[me + 1]]
        mesh.complete(pending)
        return come


def merge(mesh: Mesh, keys: Host, sizes: Sequence[int]) -> Merge:
    """How the sorted ``keys`` of all ranks, ``sizes[r]`` on rank r, fall into even blocks.

    A few Allgathers: about log2(n) / 5 + 1, of at most 64 elements for each cut and rank.
    """

    def show(places: Sequence[Sequence[Ints]]) -> list[Host]:
        mine = np.concatenate([where[mesh.rank] for where in places])
        each = np.array([[len(at) for at in where] for where in places])
        found = mesh.allgather(keys[mine], each.sum(axis=0).tolist())
        begins = np.concatenate([[0], np.cumsum(each.T)])
        runs = [found[a:b] for a, b in itertools.pairwise(begins)]
        return [np.concatenate([runs[r * len(places) + i] for r in range(mesh.size)]) for i in range(len(places))]

    total = sum(sizes)
    return Merge(mesh, cuts(sizes, block_sizes(total, mesh.size), show))
