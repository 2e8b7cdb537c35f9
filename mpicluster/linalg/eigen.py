"""Eigenvalues and eigenvectors: of symmetric or Hermitian matrices, and of any."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.linalg.alone import on_one_rank
from mpicluster.linalg.checks import check_square, common_type, operands
from mpicluster.linalg.panels import divided_axis, is_small
from mpicluster.linalg.stacks import of_whole, stacked

__all__ = ["EigResult", "EighResult", "eig", "eigh", "eigvals", "eigvalsh"]

Matrix = NDArray[Any]


class EighResult(NamedTuple):
    """What `eigh` gives."""

    eigenvalues: DistArray
    eigenvectors: DistArray


class EigResult(NamedTuple):
    """What `eig` gives."""

    eigenvalues: DistArray
    eigenvectors: DistArray


def _by_one(x: Any, function: Any, *, vectors: bool, what: str) -> tuple[DistArray, ...]:
    """A decomposition of a square matrix, or of each of a stack, by LAPACK: values replicated, vectors divided as the matrix is."""
    (x,) = operands(x)
    check_square(x)
    kind = common_type(x)

    def of_block(block: Matrix) -> tuple[Matrix, ...]:
        found = function(block.astype(kind, copy=False))
        return tuple(found) if vectors else (found,)

    if x.ndim > 2:
        return stacked(x, of_block)
    axis = divided_axis(x)
    if isinstance(x.layout, Replicated) or is_small(x) or x.mesh.size == 1:
        values, *rest = of_whole(x, of_block, Replicated())
        return values, *(v if isinstance(x.layout, Replicated) else v.redistribute(Block(axis)) for v in rest)
    return on_one_rank(x, of_block, (None, axis) if vectors else (None,), what)


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues, rising, and orthonormal eigenvectors of a symmetric or Hermitian matrix (n, n), or of each of a stack (..., n, n).

    Only the lower triangle is looked at. Eigenvalues are replicated; column i of the second result, divided as ``x`` is, is the
    eigenvector of value i.

    By one rank, with the threads of all on its host, up to 1 GiB: see `alone`. LAPACK's divide and conquer (syevd, heevd), backward stable:
    each eigenvalue is within c n u ``||x||`` of a true one.

    Raises
    ------
    LinAlgError
        it is not square, or the algorithm does not converge (an element is not a number, say); on all ranks.
    MemoryError
        it is too large for one rank.
    """
    return EighResult(*_by_one(x, np.linalg.eigh, vectors=True, what="eigh"))


def eigvalsh(x: Any, /) -> DistArray:
    """The eigenvalues of a symmetric or Hermitian matrix, rising; as `eigh`."""
    return _by_one(x, np.linalg.eigvalsh, vectors=False, what="eigvalsh")[0]


def _complex(block: Matrix) -> Matrix:
    return block.astype(np.result_type(block.dtype, np.complex64), copy=False)


def eig(x: Any, /) -> EigResult:
    """Eigenvalues and eigenvectors of any square matrix (n, n), or of each of a stack (..., n, n); complex, in no order.

    Column i of the second result is the eigenvector of value i, of length 1. Layouts, cost and errors are those of `eigh`; LAPACK's QR
    algorithm (geev).
    """
    return EigResult(*_by_one(x, lambda block: map(_complex, np.linalg.eig(block)), vectors=True, what="eig"))


def eigvals(x: Any, /) -> DistArray:
    """The eigenvalues of any square matrix; as `eig`."""
    return _by_one(x, lambda block: _complex(np.linalg.eigvals(block)), vectors=False, what="eigvals")[0]
