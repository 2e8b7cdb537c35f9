"""Eigenvectors of a tridiagonal matrix that are too many for one rank, by Cuppen's method: divide and conquer.

Each rank starts with the diagonal block of its rows, and neighbours are merged, up to the whole (Cuppen, Numer. Math. 36, 1981; Gu and
Eisenstat, "A divide-and-conquer algorithm for the symmetric tridiagonal eigenproblem", SIAM J. Matrix Anal. Appl. 16(1), 1995; as LAPACK's
laed1 to laed4). Every rank keeps its rows of the eigenvectors. What they are multiplied with, the eigenvectors of a diagonal matrix plus
one of rank 1, is known by two vectors, and is written down where it is used, some columns at a time: no matrix ever travels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.layout import block_sizes, starts
from mpicluster.array.mesh import Mesh
from mpicluster.linalg.lapack import secular_root, tridiagonal_pairs

__all__ = ["Merge", "divided_eigenvectors"]

Matrix = NDArray[Any]
Vector = NDArray[Any]
#: So many columns of a matrix of vectors are written down at a time.
_WIDTH = 256


class Merge:
    """The eigenproblem of ``diag(d) + rho z z^T``, and how it comes from those of two halves.

    What is negligible is deflated: a small element of z as it is; one of two elements whose poles are close, by a rotation that makes it
    zero. ``kept`` are the columns that are left, their poles rising, ``deflated`` the others; ``rotations`` have to be done before.
    """

    def __init__(self, d: Vector, z: Vector, beside: float, split: int, eps: float) -> None:
        """``d``: eigenvalues of the halves, of which the first has ``split``; ``z``: the last row of the eigenvectors of the first half,
        and the first row of those of the second; ``beside``: the element of the matrix that was between them.
        """  # fmt: skip
        self.split = split
        poles = d.tolist()
        weights = np.concatenate([z[:split], math.copysign(1, beside) * z[split:]]) / math.sqrt(2)
        rho, u = abs(2 * beside), weights.tolist()
        negligible = 4 * eps * max(np.abs(d).max(initial=0), np.abs(weights).max(initial=0))
        self.kept: list[int] = []
        self.deflated: list[int] = []
        self.rotations: list[tuple[int, int, float, float]] = []
        before: int | None = None
        for j in np.argsort(d, kind="stable").tolist():
            if rho * abs(u[j]) <= negligible:
                self.deflated.append(j)
                continue
            if before is not None:
                length = math.hypot(u[j], u[before])
                c, s = u[j] / length, -u[before] / length
                if abs((poles[j] - poles[before]) * c * s) <= negligible:
                    u[j], u[before] = length, 0.0
                    low, high = poles[before], poles[j]
                    poles[before], poles[j] = low * c * c + high * s * s, low * s * s + high * c * c
                    self.rotations.append((before, j, c, s))
                    self.deflated.append(before)
                else:
                    self.kept.append(before)
            before = j
        if before is not None:
            self.kept.append(before)
        self._all = np.array(poles)
        self.poles = self._all[self.kept]
        z = np.array(u)[self.kept]
        length = float(np.linalg.norm(z))
        self._z = z / length if len(z) else z
        self._rho = rho * length * length
        #: of each root: its nearest pole, and the distance from that
        self._nearest = np.zeros(0, np.intp)
        self._distance = np.zeros(0)

    @property
    def size(self) -> int:
        """How many columns there are."""
        return len(self._all)

    def roots(self, lo: int, hi: int) -> Matrix:
        """Some of the eigenvalues of what is kept: of each the index of the nearest pole, and the distance from it."""
        return np.array([secular_root(i, self.poles, self._z, self._rho) for i in range(lo, hi)]).reshape(hi - lo, 2)

    def know(self, roots: Matrix) -> None:
        """All of them."""
        self._nearest, self._distance = roots[:, 0].astype(np.intp), roots[:, 1].copy()

    def _differences(self, poles: slice, roots: slice) -> Matrix:
        """Poles less eigenvalues, relatively accurate."""
        return (self.poles[poles, np.newaxis] - self.poles[self._nearest[roots]]) - self._distance[roots]

    def weights(self, lo: int, hi: int) -> Vector:
        """Some elements of the z of which the roots are the exact eigenvalues: with it, the eigenvectors are orthogonal to rounding.

        Gu and Eisenstat, section 3.
        """
        result = np.empty(hi - lo)
        for at in range(lo, hi, _WIDTH):
            rows = slice(at, min(at + _WIDTH, hi))
            gaps = self.poles[rows, np.newaxis] - self.poles
            gaps[np.arange(rows.stop - at), np.arange(at, rows.stop)] = 1
            products = np.prod(self._differences(rows, slice(None)) / gaps, axis=1)
            result[at - lo : rows.stop - lo] = np.copysign(np.sqrt(np.abs(products)), self._z[rows])
        return result

    def values(self) -> tuple[Vector, NDArray[np.intp]]:
        """All eigenvalues, rising, and which place each of the kept and then of the deflated columns gets."""
        values = np.concatenate([self.poles[self._nearest] + self._distance, self._all[self.deflated]])
        order = np.argsort(values, kind="stable")
        places = np.empty(len(order), np.intp)
        places[order] = np.arange(len(order))
        return values[order], places

    def apply(self, q: Matrix, weights: Vector, places: NDArray[np.intp], *, second: bool) -> Matrix:
        """Rows of the eigenvectors of the whole, from those of one half: the ``second``, or the first. Both column-major."""
        rows = q.shape[0]
        wide = np.zeros((self.size, rows), q.dtype).T
        held = np.zeros(self.size, bool)
        own = slice(self.split, None) if second else slice(0, self.split)
        wide[:, own] = q
        held[own] = True
        for i, j, c, s in self.rotations:
            if held[i] or held[j]:
                x, y = wide[:, i].copy(), wide[:, j]
                wide[:, i] = c * x + s * y
                wide[:, j] = c * y - s * x
                held[i] = held[j] = True
        kept = np.array(self.kept, np.intp)
        there = np.flatnonzero(held[kept])
        factor = np.take(wide.T, kept[there], axis=0).T
        result = np.empty((self.size, rows), q.dtype).T
        for at in range(0, len(kept), _WIDTH):
            roots = slice(at, min(at + _WIDTH, len(kept)))
            vectors = weights[:, np.newaxis] / self._differences(slice(None), roots)
            vectors /= np.linalg.norm(vectors, axis=0)
            result.T[places[roots]] = np.matmul(factor, vectors[there].astype(q.dtype, copy=False)).T
        result.T[places[len(kept) :]] = wide.T[self.deflated]
        return result


@dataclass(frozen=True)
class _Group:
    """Neighbouring ranks that have eigenvectors of one diagonal block: rows ``lo`` to ``hi`` of the matrix."""

    ranks: range
    lo: int
    hi: int


def divided_eigenvectors(mesh: Mesh, d: Vector, e: Vector, kind: np.dtype[Any]) -> tuple[Vector, Matrix]:
    """Eigenvalues, rising, on all ranks, and this rank's block of rows of the eigenvectors, column-major, of a real type ``kind``.

    ``d``, ``e``: the diagonal of a symmetric tridiagonal matrix, and what is beside it; the same on all ranks.

    log2(size) rounds of three Allgathervs of at most 2 n numbers. Memory: three times the result / p, and 768 n numbers.

    Raises
    ------
    LinAlgError
        it did not converge; on all ranks.
    """
    n, eps = len(d), float(np.finfo(kind).eps)
    bounds = starts(block_sizes(n, mesh.size))
    d, e = d.astype(np.float64), e.astype(np.float64)
    for cut in bounds[1:-1]:
        if 0 < cut < n:
            d[cut - 1] -= abs(e[cut - 1])
            d[cut] -= abs(e[cut - 1])
    lo, hi = bounds[mesh.rank], bounds[mesh.rank + 1]
    with mesh.together():
        own, vectors = tridiagonal_pairs(d[lo:hi], e[lo : max(lo, hi - 1)])
        q = vectors.astype(kind, order="F", copy=False)
    values = mesh.allgather(own, block_sizes(n, mesh.size))
    groups = [_Group(range(r, r + 1), bounds[r], bounds[r + 1]) for r in range(mesh.size) if bounds[r] < bounds[r + 1]]
    while len(groups) > 1:
        pairs = list(zip(groups[::2], groups[1::2], strict=False))
        values, q = _round(mesh, pairs, values, e, q, eps)
        alone = groups[2 * len(pairs) :]
        groups = [_Group(range(a.ranks.start, b.ranks.stop), a.lo, b.hi) for a, b in pairs] + alone
    return values, q


def _round(mesh: Mesh, pairs: list[tuple[_Group, _Group]], values: Vector, e: Vector, q: Matrix, eps: float) -> tuple[Vector, Matrix]:
    """Merge pairs of groups, all at once. The new eigenvalues, and this rank's rows of the new eigenvectors."""
    ends = {a.ranks[-1]: (a, -1) for a, _ in pairs} | {b.ranks[0]: (b, 0) for _, b in pairs}
    said = [ends[r][0].hi - ends[r][0].lo if r in ends else 0 for r in range(mesh.size)]
    z = mesh.allgather(np.array(q[ends[mesh.rank][1]], np.float64) if mesh.rank in ends else np.empty(0), said)
    merges, at = [], 0
    for a, b in pairs:
        n = b.hi - a.lo
        merges.append(Merge(values[a.lo : b.hi], z[at : at + n], float(e[a.hi - 1]), a.hi - a.lo, eps))
        at += n
    #: which of the kept columns of its merge each rank does
    shares = [(0, 0, 0)] * mesh.size
    for i, ((a, b), merge) in enumerate(zip(pairs, merges, strict=True)):
        parts = starts(block_sizes(len(merge.kept), b.ranks.stop - a.ranks.start))
        for place, r in enumerate(range(a.ranks.start, b.ranks.stop)):
            shares[r] = (i, parts[place], parts[place + 1])
    sizes = [hi - lo for _, lo, hi in shares]
    i, lo, hi = shares[mesh.rank]
    with mesh.together():
        roots = merges[i].roots(lo, hi)
    roots = mesh.allgather(roots, sizes)
    kept = starts(tuple(len(m.kept) for m in merges))
    for merge, first, last in zip(merges, kept[:-1], kept[1:], strict=True):
        merge.know(roots[first:last])
    with mesh.together():
        weights = merges[i].weights(lo, hi)
    weights = mesh.allgather(weights, sizes)
    values = values.copy()
    with mesh.together():
        for (a, b), merge, first, last in zip(pairs, merges, kept[:-1], kept[1:], strict=True):
            values[a.lo : b.hi], places = merge.values()
            if mesh.rank in range(a.ranks.start, b.ranks.stop):
                q = merge.apply(q, weights[first:last], places, second=mesh.rank in b.ranks)
    return values, q
