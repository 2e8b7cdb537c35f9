"""The vectors of an iteration: this rank's blocks as NumPy arrays, and sums over all ranks of which several make one message.

What an iteration decides, it decides by such sums: they have the same bits on every rank, so all go on, or end, together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, block_sizes
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist

__all__ = ["Space", "dot", "from_root", "orthogonalized", "spaces", "square"]

Host = NDArray[Any]


def dot(x: Host, y: Host) -> Any:
    """This rank's part of ``x^H y``, of each column."""
    return np.vecdot(x.T, y.T)


def square(x: Host) -> Any:
    """This rank's part of ``|x|**2``, of each column."""
    return dot(x, x).real


class Space:
    """Vectors of one length, in the same blocks. Several vectors are the columns of a block."""

    def __init__(self, mesh: Mesh, length: int, sizes: tuple[int, ...] | None = None) -> None:
        """``sizes``: how many elements each rank has; evenly, if not given."""
        self.mesh = mesh
        self.length = length
        self.sizes = block_sizes(length, mesh.size) if sizes is None else sizes

    @property
    def local(self) -> int:
        """How many elements this rank has."""
        return self.sizes[self.mesh.rank]

    def block(self, x: Any, kind: np.dtype[Any]) -> Host:
        """This rank's block of an array, in C order and of this type: not to be written to. May communicate."""
        x = as_dist(x, self.mesh)
        values = blocks.host(x.redistribute(Block(0, self.sizes)).local)
        return np.ascontiguousarray(values, kind)

    def array(self, block: Host) -> DistArray:
        """The array of which this rank has this block: a view of it."""
        shape = (self.length, *block.shape[1:])
        return DistArray(self.mesh, Block(0, self.sizes).settled(shape, self.mesh.size), shape, block)

    def result(self, block: Host) -> DistArray:
        """As `array`, in even blocks."""
        return self.array(block).redistribute(Block(0))

    def sums(self, *parts: Any) -> list[Any]:
        """The sums over all ranks of what each has: numbers or arrays of any shapes, of real or complex type. One fold for all."""
        arrays = [np.asarray(p) for p in parts]
        flat = np.concatenate([a.reshape(-1) for a in arrays])
        total = self.mesh.fold(flat, np.add)
        results, at = [], 0
        for a in arrays:
            part = total[at : at + a.size].reshape(a.shape)
            results.append(part if a.dtype.kind == "c" else part.real)
            at += a.size
        return results

    def numbers(self, *parts: Any) -> list[Any]:
        """As `sums`, of numbers, as Python's."""
        return [total.item() for total in self.sums(*parts)]


def orthogonalized(space: Space, basis: Host, w: Host) -> tuple[Host, Host, float, float]:
    """A vector less its part in the span of an orthonormal basis (rows), and not normalised.

    Beside it: its coefficients in the basis, its norm, and the norm that it had. Two folds: classical Gram-Schmidt twice, which is as
    orthogonal as Householder's reflections, unless nothing is left (Giraud, Langou, Rozložník, van den Eshof, Numer. Math. 101, 2005).

    Raises
    ------
    LinAlgError
        the vector is not finite; on all ranks.
    """
    coefficients, before = space.sums((basis @ w.conj()).conj(), square(w))
    if not math.isfinite(before):
        raise np.linalg.LinAlgError("a product with the matrix is not finite: are there infinities or NaNs in the matrix?")
    w = w - coefficients @ basis
    again, after = space.sums((basis @ w.conj()).conj(), square(w))
    w -= again @ basis
    rest = max(0.0, float(after) - float(np.vdot(again, again).real))
    return w, coefficients + again, math.sqrt(rest), math.sqrt(before)


def spaces(mesh: Mesh, shape: Sequence[int], rows: tuple[int, ...] | None) -> tuple[Space, Space]:
    """Of an operator of this shape: that of the vectors which it is applied to, and that of the results."""
    m, n = shape
    results = Space(mesh, m, rows)
    return (results if m == n else Space(mesh, n)), results


def from_root(mesh: Mesh, shape: tuple[int, ...], kind: Any, compute: Callable[[], Host]) -> Host:
    """What rank 0 computes of numbers that all ranks have: so that all have the same, whatever their libraries. One Bcast.

    Raises
    ------
    LinAlgError
        the computation failed so; on all ranks.
    """
    result = np.empty(shape, kind)
    if mesh.rank == 0:
        try:
            result[...] = compute()
        except np.linalg.LinAlgError:
            result[...] = np.nan
    mesh.bcast(result, 0)
    if result.size and np.isnan(result).all():
        raise np.linalg.LinAlgError("a small eigenvalue problem could not be solved: are there infinities or NaNs in the matrix?")
    return result
