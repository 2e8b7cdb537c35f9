"""Gaussian elimination with partial pivoting, of a matrix whose columns lie on the ranks by panels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.mesh import Mesh
from mpicluster.linalg.kernels import gemm, getrf, laswp, trsm
from mpicluster.linalg.panels import Panels, fan_out

__all__ = ["Elimination", "eliminate"]

Matrix = NDArray[Any]


class Elimination:
    """What all ranks know of an LU factorisation when it is done.

    ``pivots``
        row i was swapped with row ``pivots[i]``, in this order;
    ``diagonal``
        of U;
    ``singular``
        whether a pivot was exactly zero.
    """

    def __init__(self, rows: int, steps: int, kind: np.dtype[Any]) -> None:
        self.rows = rows
        self.pivots = np.arange(steps)
        self.diagonal = np.empty(steps, kind)
        self.singular = False

    def note(self, start: int, panel: Matrix, pivots: NDArray[np.intc], info: int) -> None:
        """Note one panel, from row ``start`` on."""
        stop = start + len(pivots)
        self.pivots[start:stop] = pivots.astype(np.intp) + (start - 1)
        self.diagonal[start:stop] = np.diagonal(panel)
        self.singular = self.singular or info > 0

    def swaps_after(self, start: int) -> NDArray[np.intc]:
        """The pivots from row ``start`` on, as `laswp` counts them, for a matrix that begins there."""
        return (self.pivots[start:] + (1 - start)).astype(np.intc)

    @property
    def permutation(self) -> NDArray[np.intp]:
        """``permutation[i]`` is the row that came to be row i: ``A[permutation] = L U``."""
        order = np.arange(self.rows, dtype=np.float64).reshape(self.rows, 1)
        laswp(order, self.swaps_after(0))
        return order[:, 0].astype(np.intp)

    @property
    def odd(self) -> bool:
        """Whether the number of swaps is odd."""
        return bool(np.count_nonzero(self.pivots != np.arange(len(self.pivots))) % 2)


def eliminate(mesh: Mesh, panels: Panels, x: Matrix) -> Elimination:
    """L and U in place of a matrix, of which this rank has the columns of ``panels``, with partial pivoting over whole columns.

    ``x``: the columns of this rank, a column-major view. What is below the diagonal becomes L, whose diagonal of ones is not stored.

    Right-looking (Golub and Van Loan, Matrix Computations, 4th edition, section 3.4), by panels of columns, each whole on one rank, so
    that pivots are found without a message. One Ibcast for each panel, of what is below and in its diagonal block, and of its pivots: half
    the matrix passes every rank.
    """
    rows = x.shape[0]
    steps = min(rows, panels.length)
    result = Elimination(rows, steps, x.dtype)
    block = x.T
    if mesh.size == 1:
        pivots, info = getrf(x)
        result.note(0, x, pivots, info)
        return result

    def split(k: int, message: Matrix) -> tuple[Matrix, NDArray[np.intc]]:
        """The panel, and its pivots and then the number of one that is zero, of a message."""
        place = panels.rows(k)
        width = place.stop - place.start
        nbytes = width * (rows - place.start) * x.itemsize
        return message[:nbytes].view(x.dtype).reshape(width, rows - place.start).T, message[nbytes:].view(np.intc)

    def length(width: int, height: int) -> int:
        return width * height * x.itemsize + (width + 1) * np.dtype(np.intc).itemsize

    def room(k: int, memory: Matrix) -> Matrix:
        place = panels.rows(k)
        return memory[: length(place.stop - place.start, rows - place.start)]

    def ready(k: int, message: Matrix | None) -> Matrix:
        assert message is not None
        own, start = panels.mine(k), panels.rows(k).start
        pivots, info = getrf(x[start:, own])
        panel, numbers = split(k, message)
        panel.T[...] = block[own, start:]
        numbers[: len(pivots)] = pivots
        numbers[-1] = info
        return message

    def use(k: int, message: Matrix, part: slice) -> None:
        panel, numbers = split(k, message)
        start, n = panels.rows(k).start, min(panel.shape)
        below = x[start:, part]
        laswp(below, numbers[:n])
        trsm("L", "L", "N", "U", 1, panel[:n, :n], below[:n])
        gemm("N", "N", -1, panel[n:, :n], below[:n], 1, below[n:])

    order, nbytes = range(-(-steps // panels.nb)), length(panels.nb, rows)
    for k, message in fan_out(mesh, panels, order, nbytes=nbytes, room=room, ready=ready, use=use):
        panel, numbers = split(k, message)
        result.note(panels.rows(k).start, panel, numbers[: min(panel.shape)], int(numbers[-1]))
    for k in panels.within(slice(0, panels.local)):  # columns of L have not had the later swaps
        stop = panels.rows(k).stop
        if stop < steps:
            laswp(x[stop:, panels.mine(k)], result.swaps_after(stop))
    return result
