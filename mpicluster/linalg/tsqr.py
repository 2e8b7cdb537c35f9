"""QR of matrices that are tall: rows are reduced on each rank, piece by piece, and what is left of them by a tree over the ranks.

Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU factorizations", SIAM J. Sci. Comput. 34(1),
2012. As stable as Householder's method, whatever the matrix: Q is orthogonal to rounding for every rank and condition number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.layout import block_sizes, starts
from mpicluster.array.mesh import Mesh
from mpicluster.linalg.lapack import geqrt
from mpicluster.linalg.reflectors import Reflectors, phases

__all__ = ["Pieces", "TallQR"]

Matrix = NDArray[Any]
#: Rows that are reduced at once: a few hundred columns of them fit the cache.
_ROWS = 3000
#: But no less than so many times the columns, or the pieces' triangles become too much work.
_TALLER = 5


class Pieces:
    """QR of rows of one rank: each piece of them is reduced, and then the triangles that are left, likewise.

    ``r``: the triangle, min(m, n) by n; the rest is a sequence of reflections, kept if Q will be wanted.
    """

    def __init__(self, a: Matrix, *, keep: bool) -> None:
        """``a`` stays as it is. Memory: a copy of it if it is kept, else of one piece."""
        m, n = a.shape
        self._bounds = starts(block_sizes(m, max(1, m // max(_ROWS, _TALLER * n))))
        self._kept: list[Reflectors] = []
        triangles = []
        for lo, hi in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            piece = Reflectors(hi - lo, min(hi - lo, n), a.dtype)
            v: Matrix = piece.v if hi - lo >= n else np.empty((n, hi - lo), a.dtype).T
            blocks.copy_into(v, a[lo:hi])
            tau = geqrt(v)
            triangles.append(np.triu(v[: len(tau)]))
            if keep:
                if v is not piece.v:
                    piece.v[...] = v[:, : len(tau)]
                piece.finish(tau)
                self._kept.append(piece)
        self._above = Pieces(np.concatenate(triangles), keep=keep) if len(triangles) > 1 else None
        self.r: Matrix = triangles[0] if self._above is None else self._above.r

    def times(self, m: Matrix, out: Matrix) -> None:
        """``out = Q m``, in C order. It can be called once: the reflections are forgotten on the way."""
        inner = m
        if self._above is not None:
            inner = np.empty((sum(len(piece.s) for piece in self._kept), m.shape[1]), m.dtype)
            self._above.times(m, inner)
            self._above = None
        at = len(inner)
        for lo, hi in zip(self._bounds[-2::-1], self._bounds[:0:-1], strict=True):
            piece = self._kept.pop()
            at -= len(piece.s)
            piece.columns(inner[at : at + len(piece.s)], out[lo:hi])


class TallQR:
    """QR of a matrix in blocks of rows, m by n; with k = min(m, n).

    ``r``
        R, k by n, on rank 0; None elsewhere. Its diagonal is real and not negative, and so does not depend on the number of ranks.

    The ranks are a binomial tree. Each sends R once (at most n**2 elements, in one message), and gets one message when Q is multiplied;
    rank 0 gets log2(size) messages, and sends as many. Memory: a copy of the block, and n**2 elements for each level. Ranks may have less
    rows than there are columns, or none.
    """

    def __init__(self, mesh: Mesh, block: Matrix, sizes: tuple[int, ...], *, keep: bool = True) -> None:
        """``sizes``: how many rows each rank has; ``keep``: whether Q will be wanted."""
        self._mesh = mesh
        self._nbytes = sum(sizes) * block.shape[1] * block.itemsize
        with mesh.preparing(self._nbytes):
            self._local = Pieces(block, keep=keep)
        self._shape = block.shape
        self._kind = block.dtype
        n, bounds, rank = block.shape[1], starts(sizes), mesh.rank
        self.k = min(bounds[-1], n)
        #: at each level: which rank's triangle came, how many rows this rank and that one have of the two, and what became of them
        self._levels: list[tuple[int, int, int, Pieces]] = []
        self._parent: int | None = None
        r, step = self._local.r, 1
        while step < mesh.size and self._parent is None:
            if rank % (2 * step) == step:
                self._parent = rank - step
                mesh.complete_patiently(mesh.post([(self._parent, np.ascontiguousarray(r))], []))
            elif rank + step < mesh.size:
                other = rank + step
                come = np.empty((min(n, bounds[min(other + step, mesh.size)] - bounds[other]), n), self._kind)
                if len(come):
                    mesh.complete_patiently(mesh.post([], [(other, come)]))
                    both = Pieces(np.concatenate([r, come]), keep=keep)
                    self._levels.append((other, len(r), len(come), both))
                    r = both.r
            step *= 2
        #: rows of the triangle of this rank and those below it in the tree
        self._height = len(r)
        self.r: Matrix | None = None
        if rank == 0:
            self._phases = phases(np.diagonal(r))
            self.r = np.triu(self._phases.conj()[:, np.newaxis] * r)  # zeros below, not -0 or NaN
            self.r[np.diag_indices(len(r))] = np.diagonal(self.r).real

    def times(self, m: Matrix | None, columns: int) -> Matrix:
        """This rank's rows of ``Q m``, in C order; ``m``, k by columns, is known at rank 0. It can be called once."""
        mesh = self._mesh
        with mesh.preparing(self._nbytes):
            result = np.empty((self._shape[0], columns), self._kind)
        if m is None or mesh.rank:
            part = np.empty((self._height, columns), self._kind)
            if self._height and self._parent is not None:
                mesh.complete_patiently(mesh.post([], [(self._parent, part)]))
        else:
            part = self._phases[:, np.newaxis] * m
        pending = []
        while self._levels:
            other, mine, theirs, pieces = self._levels.pop()
            both = np.empty((mine + theirs, columns), self._kind)
            pieces.times(part, both)
            pending += mesh.post([(other, both[mine:])], [])
            part = both[:mine]
        self._local.times(part, result)
        mesh.complete(pending)
        return result

    def form(self) -> Matrix:
        """This rank's rows of Q."""
        return self.times(np.eye(self.k, dtype=self._kind) if self._mesh.rank == 0 else None, self.k)
