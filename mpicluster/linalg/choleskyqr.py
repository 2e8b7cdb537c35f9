"""CholeskyQR2: QR of a tall matrix by two Cholesky factorisations, where the matrix is not too ill-conditioned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.mesh import Mesh
from mpicluster.linalg.kernels import herk, potrf, trsm

__all__ = ["by_cholesky"]

Matrix = NDArray[Any]
#: The first Q is good enough if Q^H Q differs from the identity by less than this: then the second is orthogonal to rounding.
_NEARLY_ORTHOGONAL = 5 / 64


def by_cholesky(mesh: Mesh, block: Matrix) -> tuple[Matrix, Matrix] | None:
    """This rank's rows of Q, and R, of a matrix in blocks of rows; None, on all ranks, if it is not well enough conditioned.

    Yamamoto, Nakatsukasa, Yanagisawa, Fukaya, "Roundoff error analysis of the CholeskyQR2 algorithm", ETNA 44, 2015, theorem 3.1. Two
    folds of n**2 elements and two Bcasts of as many. Memory: Q, and a few triangles.
    """
    q = np.array(block, order="C")
    factors = []
    for step in range(2):
        factor = _upper(mesh, _gram(mesh, q), check=step > 0)
        if factor is None:
            return None
        trsm("L", "U", "T", "N", 1, factor, q.T)
        factors.append(factor)
    return q, np.triu(factors[1] @ factors[0])


def _gram(mesh: Mesh, q: Matrix) -> Matrix:
    """``Q^H Q``, of which one triangle was computed: the same bits on every rank."""
    n = q.shape[1]
    half = np.zeros((n, n), q.dtype)
    herk("U", "N", 1, q.T, 0, half.T)  # Q^T conj(Q): its upper triangle, column by column, is the lower one of Q^H Q, row by row
    half = mesh.fold(half, np.add)
    return half + np.tril(half, -1).conj().T


def _upper(mesh: Mesh, gram: Matrix, *, check: bool) -> Matrix | None:
    """The upper Cholesky factor, as rank 0 found it, in Fortran's order.

    None if there is none; or, if that is to be checked, if the matrix is not near the identity.
    """
    factor = np.array(gram.T, order="C")
    if mesh.rank == 0:
        bad = check and not np.linalg.norm(gram - np.eye(len(gram))) < _NEARLY_ORTHOGONAL
        if bad or potrf("U", factor.T):
            factor[0, 0] = np.nan
    mesh.bcast(factor, 0)
    return np.asfortranarray(np.triu(factor.T)) if (np.diagonal(factor).real > 0).all() else None
