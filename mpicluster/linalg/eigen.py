"""Eigenvalues and eigenvectors: of symmetric or Hermitian matrices, and of any."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.array.operands import replicated
from mpicluster.linalg.alone import on_one_rank
from mpicluster.linalg.checks import LinAlgError, check_square, common_type, operands
from mpicluster.linalg.multiplication import as_kind
from mpicluster.linalg.panels import divided_axis, is_small
from mpicluster.linalg.spectrum import divided_eigenpairs
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


def _eigen(x: Any, function: Any, divided: Any, *, vectors: bool) -> tuple[DistArray, ...]:
    """A decomposition of a square matrix, or of each of a stack: values replicated, vectors divided as the matrix is."""
    (x,) = operands(x)
    check_square(x)
    kind = common_type(x)

    def of_block(block: Matrix) -> tuple[Matrix, ...]:
        found = function(block.astype(kind, copy=False))
        return tuple(found) if vectors else (found,)

    if x.ndim > 2:
        return stacked(x, of_block)
    if isinstance(x.layout, Replicated) or is_small(x):
        values, *rest = of_whole(x, of_block, Replicated())
        return values, *(v if isinstance(x.layout, Replicated) else v.redistribute(Block(divided_axis(x))) for v in rest)
    return tuple(as_kind(x, part) for part in divided(x, kind, of_block))


def _hermitian(x: DistArray, kind: np.dtype[Any], *, vectors: bool) -> tuple[DistArray, ...]:
    values, found = divided_eigenpairs(x, kind, vectors=vectors)
    w = replicated(x.mesh, values)
    return (w,) if found is None else (w, found.redistribute(Block(divided_axis(x))))


def _eigh(block: Matrix) -> tuple[Matrix, Matrix]:
    """NumPy's, which with some builds of LAPACK gives NaNs for NaNs."""
    values, vectors = np.linalg.eigh(block)
    if np.isnan(values).any():
        raise LinAlgError("Eigenvalues did not converge")
    return values, vectors


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues, rising, and orthonormal eigenvectors of a symmetric or Hermitian matrix (n, n), or of each of a stack (..., n, n).

    Only the lower triangle is looked at. Eigenvalues are replicated; column i of the second result, divided as ``x`` is, is the
    eigenvector of value i.

    A matrix of up to 1 GiB (``limits``): on one rank by LAPACK's divide and conquer (syevd, heevd), with the threads of all on its host; at
    most 2 (p - 1) messages. Memory: three times ``x`` on that rank.

    Larger ones: a tridiagonal matrix by panels of at most 32 rows, of each of them a Bcast, and of each row an Allgatherv, n**2 / 2
    elements in either; its eigenvectors by Cuppen's divide and conquer, log2(p) rounds of three Allgathervs of at most 2 n numbers; and an
    Ibcast of each panel to turn them back. See ``mpicluster.linalg.tridiagonal`` and ``cuppen`` for the sources. Memory: 7.5 times
    ``x`` / p, and 768 n elements.

    Backward stable: each eigenvalue is within c n u ``||x||`` of a true one.

    Raises
    ------
    LinAlgError
        it is not square, or the algorithm does not converge (an element is not a number, say); on all ranks.
    """
    found = _eigen(x, _eigh, lambda x, kind, _: _hermitian(x, kind, vectors=True), vectors=True)
    return EighResult(*found)


def eigvalsh(x: Any, /) -> DistArray:
    """The eigenvalues of a symmetric or Hermitian matrix, rising; as `eigh`, without what is for vectors."""
    return _eigen(x, np.linalg.eigvalsh, lambda x, kind, _: _hermitian(x, kind, vectors=False), vectors=False)[0]


def _complex(block: Matrix) -> Matrix:
    return block.astype(np.result_type(block.dtype, np.complex64), copy=False)


def eig(x: Any, /) -> EigResult:
    """Eigenvalues and eigenvectors of any square matrix (n, n), or of each of a stack (..., n, n); complex, in no order.

    Column i of the second result, divided as ``x`` is, is the eigenvector of value i, of length 1. Eigenvalues are replicated.

    By one rank, with the threads of all on its host, up to 1 GiB (``limits``): LAPACK's QR algorithm (geev). At most 2 (p - 1) messages.

    Raises
    ------
    LinAlgError
        it is not square, or the algorithm does not converge; on all ranks.
    MemoryError
        it is too large for one rank.
    """
    return EigResult(*_eigen(x, lambda block: map(_complex, np.linalg.eig(block)), _general((None, 1), "eig"), vectors=True))


def eigvals(x: Any, /) -> DistArray:
    """The eigenvalues of any square matrix; as `eig`."""
    return _eigen(x, lambda block: _complex(np.linalg.eigvals(block)), _general((None,), "eigvals"), vectors=False)[0]


def _general(axes: tuple[int | None, ...], what: str) -> Any:
    def divided(x: DistArray, _kind: np.dtype[Any], of_block: Any) -> tuple[DistArray, ...]:
        values, *vectors = on_one_rank(x, of_block, axes, what)
        return values, *(v.redistribute(Block(divided_axis(x))) for v in vectors)

    return divided
