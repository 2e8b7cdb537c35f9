"""Hermitian matrices that are too large for one rank become tridiagonal, and eigenvectors of what they became are turned back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.layout import starts
from mpicluster.array.mesh import Mesh
from mpicluster.linalg.kernels import gemm
from mpicluster.linalg.lapack import householder_vector
from mpicluster.linalg.panels import Panels
from mpicluster.linalg.reflectors import Reflectors, from_each, message_of

__all__ = ["Tridiagonal"]

Matrix = NDArray[Any]
Vector = NDArray[Any]


class Tridiagonal:
    """A real symmetric tridiagonal matrix T and a unitary Q with ``A = Q T Q^H``.

    ``d``, ``e``
        the diagonal of T, and what is beside it; the same on all ranks.

    By panels of rows, of which each is on one rank: a panel is sent to all, who reduce its columns one by one (Dongarra, Sorensen,
    Hammarling, "Block reduction of matrices to condensed forms for eigenvalue computations", J. Comput. Appl. Math. 27, 1989); for each,
    every rank multiplies its rows of A with a vector. One Bcast of each panel, n**2 / 2 elements in all, and an Allgatherv for each
    column, as many. Memory: half of A / p, for Q, and seven panels.
    """

    def __init__(self, mesh: Mesh, panels: Panels, block: Matrix) -> None:
        """``block``: this rank's rows of a Hermitian matrix of which both triangles are there, in C order. They are lost."""
        n = panels.length
        self._mesh = mesh
        self._panels = panels
        self._kind = block.dtype
        #: reflections of the panels that this rank keeps
        self._kept: dict[int, Reflectors] = {}
        real = block.real.dtype
        self.d, self.e = np.zeros(n, real), np.zeros(max(0, n - 1), real)
        #: the rows of each rank
        self._rows = [Panels(n, panels.nb, panels.size, r).indices() for r in range(mesh.size)]
        with mesh.preparing(n * n * block.itemsize):
            room = np.empty(7 * panels.nb * n, self._kind)
            for k in self._order:
                if panels.owner(k) == mesh.rank:
                    first, width = self._reflected(k)
                    self._kept[k] = Reflectors(n - first, width, self._kind)
        for k in self._order:
            self._reduce(k, block, room)
        if n:
            last = panels.count - 1
            corner = np.empty(1, real)
            if panels.owner(last) == mesh.rank:
                corner[0] = block[-1, n - 1].real
            self.d[n - 1] = mesh.bcast(corner, panels.owner(last))[0]
        mesh.bcast(self.d, 0)  # what follows is decided by these
        mesh.bcast(self.e, 0)

    @property
    def _order(self) -> range:
        """The panels that have columns to be reduced: all columns but the last."""
        return range(-(-max(0, self._panels.length - 1) // self._panels.nb))

    def _reflected(self, k: int) -> tuple[int, int]:
        """From which row on the reflections of a panel reach, and how many there are."""
        first = self._panels.rows(k).start
        return first + 1, min(self._panels.rows(k).stop, self._panels.length - 1) - first

    def _reduce(self, k: int, block: Matrix, room: Vector) -> None:
        """One panel: with V of its reflections and W, ``A - V W^H - W V^H`` is what remains, of which only this panel's part is computed.

        Row i of V and W here is row ``first + i`` of the matrix.
        """
        mesh, panels, n = self._mesh, self._panels, self._panels.length
        first, width = self._reflected(k)
        first -= 1
        mine = self._rows[mesh.rank]
        after = int(np.searchsorted(mine, first + width))
        lengths = (*(width * (n - first),) * 3, 2 * width * (n - first - width), 2 * width * (len(mine) - after))
        parts = np.split(room, np.cumsum(lengths))
        rows, vectors, others = (part.reshape(width, n - first) for part in parts[:3])
        left, right = (part.reshape(2 * width, -1) for part in parts[3:5])
        vectors[...], others[...] = 0, 0
        v, w = vectors.T, others.T
        if panels.owner(k) == mesh.rank:
            rows[...] = block[panels.mine(k), first:][:width]
        mesh.bcast(rows, panels.owner(k))
        tau = np.empty(width, self._kind)
        for j in range(width):
            column = rows[j, j:].conj()
            column -= v[j:, :j] @ w[j, :j].conj()
            column -= w[j:, :j] @ v[j, :j].conj()
            self.d[first + j] = column[0].real
            x = column[1:]
            self.e[first + j], tau[j] = householder_vector(x)
            v[j + 1 :, j] = x
            y = self._times(block[np.searchsorted(mine, first + j + 1) :, first + j + 1 :] @ x, first + j + 1)
            turned = x.conj()  # and not V and W, which are much larger
            y -= v[j + 1 :, :j] @ (w[j + 1 :, :j].T @ turned).conj()
            y -= w[j + 1 :, :j] @ (v[j + 1 :, :j].T @ turned).conj()
            y *= tau[j]
            y -= (tau[j] / 2 * np.vdot(y, x)) * x
            w[j + 1 :, j] = y
        np.conjugate(others[:, width:], out=left[:width])
        np.conjugate(vectors[:, width:], out=left[width:])
        for values, into in ((vectors, right[:width]), (others, right[width:])):
            np.take(values, mine[after:] - first, axis=1, out=into, mode="clip")
        gemm("N", "T", -1, left.T, right.T, 1, block[after:, first + width :].T)
        if panels.owner(k) == mesh.rank:
            self._kept[k].v[...] = v[1:]
            self._kept[k].finish(tau)

    def _times(self, part: Vector, first: int) -> Vector:
        """A product of which each rank has its rows from ``first`` on, whole. One Allgatherv."""
        begins = [int(np.searchsorted(rows, first)) for rows in self._rows]
        sizes = [len(rows) - at for rows, at in zip(self._rows, begins, strict=True)]
        come = self._mesh.allgather(part, sizes)
        result = np.empty(self._panels.length - first, self._kind)
        bounds = starts(tuple(sizes))
        for rows, at, lo, hi in zip(self._rows, begins, bounds[:-1], bounds[1:], strict=True):
            result[rows[at:] - first] = come[lo:hi]
        return result

    def back(self, z: Matrix) -> None:
        """``z = Q z``, in place of this rank's columns, column-major. One Ibcast for each panel, n**2 / 2 elements in all."""
        panels = self._panels

        def make(k: int, memory: NDArray[np.uint8]) -> Reflectors:
            first, width = self._reflected(k)
            rows = panels.length - first
            return self._kept[k] if k in self._kept else Reflectors(rows, width, self._kind, message_of(memory, rows, width, self._kind))

        nbytes = (panels.length + panels.nb) * panels.nb * self._kind.itemsize
        for k, reflectors, pending in from_each(self._mesh, self._order[::-1], nbytes=nbytes, owner=panels.owner, make=make):
            reflectors.apply_in_pieces(z[self._reflected(k)[0] :], self._mesh, pending)
