"""QR by blocks of Householder's reflections, of a matrix whose columns lie on the ranks by panels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.array.mesh import Mesh
from mpicluster.linalg.lapack import geqrt
from mpicluster.linalg.panels import Panels, fan_out, transposed, working_copy
from mpicluster.linalg.reflectors import Reflectors, from_each, message_of, phases

__all__ = ["HouseholderQR", "by_householder", "panels_of_columns"]

Matrix = NDArray[Any]
#: Columns of a panel where there is one rank only.
_WIDTH = 128


class HouseholderQR:
    """A factored matrix, of ``rows`` rows.

    Right-looking, by panels of columns (Golub and Van Loan, Matrix Computations, 4th edition, section 5.2.3), each whole on one rank, so
    that columns are reduced without a message. One Ibcast for each panel, with a lookahead of one panel, and again where Q is formed: each
    time, half of the matrix passes every rank.
    """

    def __init__(self, mesh: Mesh, panels: Panels, block: Matrix) -> None:
        """``block``: this rank's columns of the matrix, as rows in C order. They are lost."""
        self._mesh = mesh
        self._panels = panels
        self._block = block
        self.rows = block.shape[1]
        self.steps = min(self.rows, panels.length)
        #: scalar factors of the reflections of this rank's panels
        self._tau: dict[int, NDArray[Any]] = {}
        x = block.T

        def ready(k: int, message: Matrix | None) -> Matrix:
            self._tau[k] = geqrt(x[panels.rows(k).start :, panels.mine(k)])
            return self._of_panel(k, message).message

        def room(k: int, memory: Matrix) -> Matrix:
            return message_of(memory, *self._size(k), block.dtype)

        def use(k: int, message: Matrix, part: slice) -> None:
            self._from_message(k, message).apply(x[panels.rows(k).start :, part], inverse=True)

        #: bytes of the longest message
        self._longest = (self.rows + panels.nb) * panels.nb * block.itemsize
        for _ in fan_out(mesh, panels, range(-(-self.steps // panels.nb)), nbytes=self._longest, room=room, ready=ready, use=use):
            pass
        diagonal = np.zeros(self.steps, block.dtype)
        for k, tau in self._tau.items():
            start = panels.rows(k).start
            diagonal[start : start + len(tau)] = np.diagonal(x[start:, panels.mine(k)])[: len(tau)]
        #: by which rows of R are divided, and columns of Q multiplied, so that the diagonal of R is not negative
        self._phases = phases(mesh.fold(diagonal, np.add))

    def _size(self, k: int) -> tuple[int, int]:
        """How many rows the reflections of a panel have, and how many there are."""
        place = self._panels.rows(k)
        return self.rows - place.start, min(self.rows, place.stop) - place.start

    def _from_message(self, k: int, message: Matrix) -> Reflectors:
        return Reflectors(*self._size(k), self._block.dtype, message)

    def _of_panel(self, k: int, message: Matrix | None = None) -> Reflectors:
        return Reflectors.of(self._block.T[self._panels.rows(k).start :, self._panels.mine(k)], self._tau[k], message)

    def upper(self, rows: int) -> DistArray:
        """The first rows of R, and zeros below, if there are more. No message."""
        k = min(rows, self.steps)
        with self._mesh.preparing(self._panels.length * rows * self._block.itemsize):
            block = np.zeros((len(self._block), rows), self._block.dtype)
        for row, values, i in zip(block, self._block, self._panels.indices(), strict=True):
            n = min(i + 1, k)
            np.multiply(values[:n], self._phases[:n].conj(), out=row[:n])
        return transposed(DistArray(self._mesh, self._panels.layout, (self._panels.length, rows), block))

    def form(self, columns: int) -> DistArray:
        """The first columns of Q. It can be called once, and after `upper`: it takes the memory of the factors, if it has as many columns.

        One Ibcast for each panel of reflections. Memory: two panels, and Q if it has not as many columns as the matrix.
        """
        mesh, panels = self._mesh, Panels(columns, self._panels.nb, self._panels.size, self._panels.rank)
        indices = panels.indices()
        in_place = columns == self._panels.length
        with mesh.preparing(0 if in_place else columns * self.rows * self._block.itemsize):
            block = self._block if in_place else np.zeros((panels.local, self.rows), self._block.dtype)
        if not in_place:
            block[np.arange(len(indices)), indices] = 1
        x = block.T
        order = range(-(-self.steps // panels.nb) - 1, -1, -1)

        def make(k: int, memory: NDArray[np.uint8]) -> Reflectors:
            message = message_of(memory, *self._size(k), block.dtype)
            return self._of_panel(k, message) if panels.owner(k) == panels.rank else self._from_message(k, message)

        for k, reflectors, pending in from_each(mesh, order, nbytes=self._longest, owner=panels.owner, make=make):
            if in_place and panels.owner(k) == panels.rank:  # it is in the message now
                own = panels.mine(k)
                block[own] = 0
                block[np.arange(own.start, own.stop), indices[own]] = 1
            reflectors.apply_in_pieces(x[panels.rows(k).start :, panels.before(k).stop :], mesh, pending)
        for row, i in zip(block, indices, strict=True):
            if i < self.steps and self._phases[i] != 1:
                row *= self._phases[i]
        return transposed(DistArray(mesh, panels.layout, (columns, self.rows), block))


def panels_of_columns(mesh: Mesh, m: int, n: int) -> Panels:
    """Panels that are good for the columns of a matrix of m by n."""
    return Panels(n, _WIDTH, 1, 0) if mesh.size == 1 else Panels.of(mesh, n, min(m, n))


def by_householder(x: DistArray, kind: np.dtype[Any], mode: str = "reduced") -> tuple[DistArray, ...]:
    """Q and R of a matrix, which stays as it is, in panels of columns. At most size - 1 messages each way before that.

    ``mode``: ``"reduced"``, ``"complete"``, or ``"r"`` for R alone.
    """
    mesh, (m, n) = x.mesh, x.shape
    columns = m if mode == "complete" else min(m, n)
    panels = panels_of_columns(mesh, m, n)
    factored = HouseholderQR(mesh, panels, working_copy(transposed(x), panels, kind))
    r = factored.upper(columns)
    return (r,) if mode == "r" else (factored.form(columns), r)
