"""Systems of linear equations, and inverses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.linalg.checks import check_square, common_type, factor_type, operands
from mpicluster.linalg.cholesky_factors import solve_positive, solve_positive_whole
from mpicluster.linalg.lu_factors import LU
from mpicluster.linalg.panels import divided_axis, is_small, transposed
from mpicluster.linalg.stacks import of_whole, stacked
from mpicluster.linalg.triangular import check_right_hand_sides, for_stacks, solve_whole

__all__ = ["inv", "solve"]

Matrix = NDArray[Any]

_POSITIVE = {"general": False, "gen": False, "positive definite": True, "pos": True}


def solve(x1: Any, x2: Any, /, *, assume_a: str = "general") -> DistArray:
    """The solution of ``x1 x = x2``.

    ``x1``
        of shape (n, n), or a stack (..., n, n);
    ``x2``
        of shape (n,), (n, k), or a stack (..., n, k). The stacks broadcast;
    ``assume_a``
        as in SciPy: ``"general"`` (``"gen"``): by LU with partial pivoting; ``"positive definite"`` (``"pos"``): by Cholesky, half the
        work, looking at the lower triangle alone.

    The result is divided along the axis that ``x2`` is, in even blocks; in blocks of rows if only ``x2`` is replicated; replicated if both
    are, in which case every rank computes it alone.

    Three Ibcasts for each panel of at most 128 rows: half of ``x1`` passes every rank, and ``x2`` twice. At most size - 1 messages each way
    to bring ``x1`` and ``x2`` to panels, and twice for the result. (Positive definite: as many Ibcasts, and two Allgathers; L moves once
    more.) Memory: a copy of ``x1`` / p (two and a half times as much while rows are moved; while L is, three and a half), two of its
    panels, and four times ``x2`` / p, the result counted. Matrices of up to 256 rows are copied to every rank instead, and ``x2`` divided
    by columns. Stacks come to blocks of one of their axes; one Allreduce.

    Backward stable: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, theorems 9.4 and 10.4.

    Raises
    ------
    LinAlgError
        ``x1`` is not square, or singular, or not positive definite if that is assumed; on all ranks.
    ValueError
        shapes do not fit.
    """
    a, b = operands(x1, x2)
    if assume_a not in _POSITIVE:
        raise ValueError(f"assume_a is one of {', '.join(map(repr, _POSITIVE))}, not {assume_a!r}")
    positive = _POSITIVE[assume_a]
    check_square(a)
    kind = common_type(a, b)
    check_right_hand_sides(a.shape, b, "solve")

    def whole(matrices: Matrix, values: Matrix) -> Matrix:
        return solve_positive_whole(matrices, values, kind) if positive else np.linalg.solve(matrices, values)

    if a.ndim > 2:
        return for_stacks(a, b, kind, whole)
    if is_small(a) or (isinstance(a.layout, Replicated) and isinstance(b.layout, Replicated)):
        return solve_whole(a, b, kind, whole)
    if positive:
        return solve_positive(a, b, kind)
    factors = LU(a, factor_type(a, kind))
    factors.check()
    return factors.solve(b, kind, 0)


def inv(x: Any, /) -> DistArray:
    """The inverse of a square matrix (n, n), or of a stack (..., n, n).

    The result is divided along the axis that ``x`` is, in even blocks. (To solve a system, `solve` is three times as fast, and more exact.)

    Three Ibcasts for each panel of at most 128 rows, twice ``x`` in all passes every rank; at most size - 1 messages each way before and
    after. Memory: five times ``x`` / p, the result counted, and two panels. Matrices of up to 256 rows are copied to every rank instead.
    Stacks come to blocks of one of their axes; one Allreduce.

    By LU with partial pivoting, ``x^T = P L U``, as ``P (L^-T (U^-T I))``, where U^-T is known to be triangular: method A of Higham,
    Accuracy and Stability of Numerical Algorithms, 2nd edition, section 14.3.

    Raises
    ------
    LinAlgError
        it is not square, or singular; on all ranks.
    """
    (x,) = operands(x)
    check_square(x)
    kind = common_type(x)
    if x.ndim > 2:
        return stacked(x, lambda block: (np.linalg.inv(block.astype(kind, copy=False)),))[0]
    axis = divided_axis(x)
    if isinstance(x.layout, Replicated) or is_small(x):
        return of_whole(x, lambda block: (np.linalg.inv(block.astype(kind, copy=False)),), Block(axis))[0]
    factors = LU(transposed(x) if axis == 1 else x, kind)
    factors.check()
    inverse = DistArray(x.mesh, Block(0), x.shape, blocks.like(x.local, factors.inverse_rows()))
    return transposed(inverse) if axis == 1 else inverse
