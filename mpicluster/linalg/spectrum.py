"""Eigenvalues and eigenvectors of a divided Hermitian matrix. Which way they are found depends on its size alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block
from mpicluster.linalg.alone import alone, fits, gathered, scattered, told
from mpicluster.linalg.checks import LinAlgError, real_type
from mpicluster.linalg.cuppen import divided_eigenvectors
from mpicluster.linalg.lapack import eigenpairs, tridiagonal_values
from mpicluster.linalg.panels import Panels, adjoint, rows_of, transposed, working_copy
from mpicluster.linalg.tridiagonal import Tridiagonal

__all__ = ["divided_eigenpairs", "scaled"]

Matrix = NDArray[Any]
#: Rows of a panel, at most: what is done column by column grows with them.
_WIDTH = 32


def scaled(x: DistArray, kind: np.dtype[Any], what: str) -> tuple[DistArray, float]:
    """A matrix in blocks of rows, of a type of BLAS, divided by its largest modulus (if that is not 0), and that modulus.

    One fold of a number, and at most size - 1 messages each way.

    Raises
    ------
    LinAlgError
        there is a NaN or an infinity in it; on all ranks. "``what`` did not converge", as NumPy says.
    """
    rows = x.redistribute(Block(0))
    with x.mesh.preparing(x.nbytes):
        block = blocks.host(rows.local).astype(kind, order="C")
        of_block = np.array([np.abs(block).max(initial=0)], np.float64)
    largest = float(x.mesh.fold(of_block, np.maximum)[0])
    if not np.isfinite(largest):
        raise LinAlgError(f"{what} did not converge")
    if largest:
        block /= block.real.dtype.type(largest)
    return DistArray(x.mesh, rows.layout, x.shape, block), largest


def divided_eigenpairs(x: DistArray, kind: np.dtype[Any], *, vectors: bool) -> tuple[Matrix, DistArray | None]:
    """Eigenvalues, rising, on all ranks, and, if wanted, eigenvectors in blocks of columns, of a matrix of which the lower triangle counts.

    Raises
    ------
    LinAlgError
        it did not converge, or the matrix is not finite; on all ranks.
    """
    return (_at_one_rank if fits(x) else _by_reduction)(x, kind, vectors)


def _at_one_rank(x: DistArray, kind: np.dtype[Any], vectors: bool) -> tuple[Matrix, DistArray | None]:
    """By LAPACK on rank 0. size - 1 messages to it, and as many from it, and a Bcast."""
    mesh, n = x.mesh, x.shape[0]
    matrix, flipped = gathered(x, kind)
    # the lower triangle is the upper one of the transposed, whose eigenvectors are the conjugates
    w = told(mesh, alone(mesh, lambda: eigenpairs(matrix, uplo="U" if flipped else "L", vectors=vectors)), (n,), real_type(kind))  # type: ignore[arg-type]
    if not vectors:
        return w, None
    v = scattered(mesh, None if matrix is None else matrix.T, (n, n), kind)
    if flipped and kind.kind == "c":
        np.conjugate(v.local, out=v.local)
    return w, transposed(v)


def _by_reduction(x: DistArray, kind: np.dtype[Any], vectors: bool) -> tuple[Matrix, DistArray | None]:
    """By a tridiagonal matrix, and Cuppen's method on that: see `tridiagonal` and `cuppen`.

    Memory: 7.5 times that of x / p, and 768 n elements.
    """
    mesh, n, real = x.mesh, x.shape[0], real_type(kind)
    a, size = scaled(x, kind, "Eigenvalues")
    panels = Panels(n, min(_WIDTH, Panels.of(mesh, n).nb), mesh.size, mesh.rank)
    block = working_copy(a, panels, kind)
    for row, other, i in zip(block, rows_of(adjoint(a), panels, kind), panels.indices(), strict=True):
        row[i + 1 :] = other[i + 1 :]
        row[i] = row[i].real
    del a
    reduced = Tridiagonal(mesh, panels, block)
    del block
    if not vectors:
        w = alone(mesh, lambda: tridiagonal_values(reduced.d, reduced.e))
        return told(mesh, w, (n,), real) * real.type(size), None
    values, q = divided_eigenvectors(mesh, reduced.d, reduced.e, real)
    rows = transposed(DistArray(mesh, Block(0), (n, n), q)).redistribute(Block(0))  # of the transposed: columns
    del q
    with mesh.preparing(x.nbytes):
        z = np.array(blocks.host(rows.local), kind, order="C")
    reduced.back(z.T)
    return values.astype(real) * real.type(size), transposed(DistArray(mesh, Block(0), (n, n), z))
