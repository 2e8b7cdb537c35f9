"""Products of Householder's reflections, as matrices that are applied by matrix products and sent from rank to rank.

A product ``Q = H_1 ... H_k`` of reflections ``I - tau_j v_j v_j^H`` is ``I - V S^-1 V^H``, where column j of V is v_j, and S is upper
triangular: above the diagonal it is that of ``V^H V``, on it are 1 / tau_j (Joffrain, Low, Quintana-Orti, van de Geijn, Van Zee,
"Accumulating Householder transformations, revisited", ACM TOMS 32(2), 2006). So all work is done by gemm and trsm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster import buffers
from mpicluster.array.mesh import MPI, Mesh
from mpicluster.linalg.kernels import gemm, herk, trsm
from mpicluster.linalg.panels import first_of

__all__ = ["Reflectors", "from_each", "message_of", "phases"]

Matrix = NDArray[Any]
#: While a message is on its way, reflections are applied to pieces of so many columns, so that MPI can pass it on in between.
_PIECE = 512


class Reflectors:
    """A product of ``k`` reflections of vectors of ``rows`` elements.

    ``message``
        V and S in one piece, to be sent to other ranks;
    ``v``
        rows by k, column-major: ones on the diagonal, zeros above;
    ``s``
        k by k, column-major, of which the upper triangle counts.
    """

    def __init__(self, rows: int, k: int, kind: np.dtype[Any], message: NDArray[Any] | None = None) -> None:
        """What was sent, or room for it."""
        self.message = buffers.array(((rows + k) * k,), kind) if message is None else message
        self.v: Matrix = self.message[: rows * k].reshape(k, rows).T
        self.s: Matrix = self.message[rows * k :].reshape(k, k).T

    @classmethod
    def of(cls, v: Matrix, tau: NDArray[Any], message: NDArray[Any] | None = None) -> Reflectors:
        """Those of which `geqrt` left the vectors below the diagonal of a matrix. A copy, in ``message`` if that is given."""
        result = cls(v.shape[0], len(tau), v.dtype, message)
        result.v[...] = v[:, : len(tau)]
        result.finish(tau)
        return result

    def finish(self, tau: NDArray[Any]) -> None:
        """Make them of what `geqrt` left in ``v``.

        What has tau 0 is no reflection: 1 / tau is infinite, and S^-1 has a row and a column of zeros.
        """
        k = len(tau)
        for j in range(k):
            self.v[:j, j] = 0
            self.v[j, j] = 1
        self.s[...] = 0
        herk("U", "C", 1, self.v, 0, self.s)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.s[np.arange(k), np.arange(k)] = np.where(tau == 0, np.inf, 1 / tau)

    def apply(self, c: Matrix, *, inverse: bool = False) -> None:
        """``c = Q c``, or ``c = Q^H c``, in place; ``c`` is a column-major view."""
        w = np.empty((c.shape[1], len(self.s)), c.dtype).T
        gemm("C", "N", 1, self.v, c, 0, w)
        trsm("L", "U", "C" if inverse else "N", "N", 1, self.s, w)
        gemm("N", "N", -1, self.v, w, 1, c)

    def apply_in_pieces(self, c: Matrix, mesh: Mesh, pending: Sequence[MPI.Request]) -> None:
        """``c = Q c``, while messages go on."""
        for at in range(0, c.shape[1], _PIECE):
            self.apply(c[:, at : at + _PIECE])
            if pending:
                mesh.progress(pending)

    def columns(self, m: Matrix, out: Matrix) -> None:
        """``out = Q m``, where ``m`` has k rows and stands for zeros below. Both in C order."""
        k = len(self.s)
        w = np.matmul(self.v[:k].conj().T, m)
        trsm("R", "U", "T", "N", 1, self.s, w.T)
        np.negative(w, out=w)
        np.matmul(self.v, w, out=out)
        out[:k] += m


def phases(diagonal: NDArray[Any]) -> NDArray[Any]:
    """Numbers of modulus 1 by which to divide a diagonal so that it is real and not negative; 1 for zeros and what is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(diagonal)
        return np.where((size > 0) & np.isfinite(size), diagonal / np.where(size > 0, size, 1), 1).astype(diagonal.dtype)


def from_each(
    mesh: Mesh,
    order: range,
    *,
    nbytes: int,
    owner: Callable[[int], int],
    make: Callable[[int, NDArray[np.uint8]], Reflectors],
) -> Iterator[tuple[int, Reflectors, Sequence[MPI.Request]]]:
    """The reflectors of many owners, on all ranks, one after another.

    ``nbytes``
        of the longest message;
    ``make(k, memory)``
        is those of number k at their owner, and room for them elsewhere, with a message at the beginning of so many bytes.

    One Ibcast for each; the next is on its way while the caller uses one, and is given too, that the caller may let it go on. Memory: two
    messages, which all ranks have before the first, or raise.
    """
    with mesh.preparing(nbytes):
        memory = [np.empty(nbytes, np.uint8) for _ in order[:2]]

    def begin(place: int) -> tuple[Reflectors, Sequence[MPI.Request]]:
        reflectors = make(order[place], memory[place % 2])
        return reflectors, mesh.ibcast(reflectors.message, owner(order[place]))

    pending = begin(0) if order else None
    for place, k in enumerate(order, 1):
        assert pending is not None
        reflectors, requests = pending
        mesh.complete(requests)
        pending = begin(place) if place < len(order) else None
        yield k, reflectors, pending[1] if pending is not None else []


def message_of(memory: NDArray[np.uint8], rows: int, k: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """The message of k reflections of so many rows, at the beginning of bytes."""
    return first_of(memory, ((rows + k) * k,), kind)
