"""Least squares: the nearest solution of systems that have none, the shortest of those that have many."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array import elementwise, statistics
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Replicated
from mpicluster.array.manipulation import expand_dims, squeeze
from mpicluster.linalg.checks import LinAlgError, common_type, operands
from mpicluster.linalg.panels import adjoint
from mpicluster.linalg.products import matmul
from mpicluster.linalg.singular import svd

__all__ = ["lstsq"]


def lstsq(a: Any, b: Any, rcond: float | None = None) -> tuple[DistArray, DistArray, int, DistArray]:
    """The x of shape (n,) or (n, k) for which ``||b - a x||`` is least, and of these the shortest; as ``numpy.linalg.lstsq``.

    ``a``
        of shape (m, n);
    ``b``
        of shape (m,) or (m, k);
    ``rcond``
        singular values up to so much of the largest count as zero; by default max(m, n) times the rounding.

    Returns x; the squared residuals of shape (k,) or (1,), empty where the rank is below n or there are no more rows than columns; the
    rank; and the singular values. All but x are replicated.

    By the SVD: its cost (see `svd`), and two products. Never by the normal equations, which square the condition number. Backward
    stable: Golub and Van Loan, Matrix Computations, 4th edition, section 5.5.

    Raises
    ------
    LinAlgError
        shapes do not fit, or an element is not a number; on all ranks.
    """
    a, b = operands(a, b)
    if a.ndim != 2:
        raise LinAlgError(f"{a.ndim}-dimensional array given. Array must be two-dimensional")
    if b.ndim not in (1, 2):
        raise LinAlgError(f"{b.ndim}-dimensional right side given: it has one dimension or two")
    if b.shape[0] != a.shape[0]:
        raise LinAlgError("Incompatible dimensions")
    m, n = a.shape
    names = vars(elementwise)
    right = expand_dims(b, axis=1) if b.ndim == 1 else b
    u, s, vh = svd(a, full_matrices=False)
    values = np.asarray(s.local)
    limit = (max(m, n) * np.finfo(values.dtype).eps if rcond is None else rcond) * (values[0] if values.size else 0)
    kept = values > limit
    rank = int(kept.sum())
    with np.errstate(divide="ignore"):
        inverse = np.where(kept, 1 / values, 0).astype(values.dtype)[:, np.newaxis]
    projected = matmul(adjoint(u), right)
    with a.mesh.preparing(right.nbytes):
        projected = names["multiply"](projected, DistArray(a.mesh, Replicated(), inverse.shape, inverse))
    x = matmul(adjoint(vh), projected)
    if rank == n and m > n:
        with a.mesh.together():  # where the product needs no message, a rank may lack the memory for it alone
            reached = matmul(a, x)
        right = right.redistribute(reached.layout)
        with a.mesh.preparing(right.nbytes):
            squares = names["square"](names["abs"](names["subtract"](right, reached)))
        residuals = statistics.sum(squares, axis=0).replicate()
    else:
        nothing = np.empty(0, np.empty(0, common_type(a, b)).real.dtype)
        residuals = DistArray(a.mesh, Replicated(), (0,), nothing)
    return (squeeze(x, axis=1) if b.ndim == 1 else x), residuals, rank, s
