"""LU factorisation with partial pivoting, and what is solved by it again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated
from mpicluster.array.operands import as_dist
from mpicluster.linalg.checks import LinAlgError, check_matrix, check_square, common_type, operands, real_type
from mpicluster.linalg.elimination import eliminate
from mpicluster.linalg.panels import Panels, divided_axis, is_small, rows_of, transposed, working_copy
from mpicluster.linalg.permutation import move_rows
from mpicluster.linalg.stacks import of_whole, stacked
from mpicluster.linalg.triangular import RightHandSides, check_right_hand_sides, substitute, transposition

__all__ = ["LU", "lu", "lu_factor", "lu_solve"]

Matrix = NDArray[Any]


# -- factors to look at ----------------------------------------------------------------------------------------------------------------


def lu(a: Any, /, *, permute_l: bool = False, p_indices: bool = False) -> tuple[DistArray, ...]:
    """P, L and U with ``a = P L U``: a permutation, a lower triangle with ones on the diagonal, an upper triangle. As `scipy.linalg.lu`.

    ``a``
        of shape (m, n), or a stack (..., m, n). With k = min(m, n), P has shape (m, m), L (m, k), U (k, n);
    ``permute_l``
        give ``P L`` and U;
    ``p_indices``
        give, instead of P, the vector p of indices with ``a = L[p] U``, replicated.

    Results are divided along the axis that ``a`` is, in even blocks.

    Pivots are the largest of their whole columns. One Ibcast for each panel of at most 128 columns, with a lookahead of one panel; half of
    ``a`` passes every rank. At most size - 1 messages each way before, and for each result after it; rows become columns on the way.
    Memory: six times ``a`` / p, the results counted, and two panels. Matrices of up to 256 rows and columns are copied to every rank
    instead. Stacks come to blocks of one of their axes.

    Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, theorem 9.3.

    Raises
    ------
    LinAlgError
        it has less than two dimensions.
    """
    (a,) = operands(a)
    check_matrix(a)
    kind = common_type(a)

    def of_block(block: Matrix) -> tuple[Matrix, ...]:
        return _by_scipy(block.astype(kind, copy=False), permute_l=permute_l, p_indices=p_indices)

    if a.ndim > 2:
        return stacked(a, of_block)
    if isinstance(a.layout, Replicated) or is_small(a):
        return _whole(a, of_block, indices=p_indices and not permute_l)
    return _lu(a, kind, permute_l=permute_l, p_indices=p_indices)


def _by_scipy(block: Matrix, *, permute_l: bool, p_indices: bool) -> tuple[Matrix, ...]:
    if not block.size:  # of which SciPy loses the shape
        *stack, m, n = block.shape
        k = min(m, n)
        factors = np.zeros((*stack, m, k), block.dtype), np.zeros((*stack, k, n), block.dtype)
        if permute_l:
            return factors
        order = np.broadcast_to(np.arange(m), (*stack, m)) if p_indices else np.broadcast_to(np.eye(m), (*stack, m, m))
        return order.astype(np.int64 if p_indices else real_type(block.dtype)), *factors
    results: tuple[Matrix, ...] = scipy.linalg.lu(block, permute_l=permute_l, p_indices=p_indices, check_finite=False)
    return (results[0].astype(np.int64), *results[1:]) if p_indices and not permute_l else results


def _whole(a: DistArray, of_block: Any, *, indices: bool) -> tuple[DistArray, ...]:
    target = Block(divided_axis(a))
    if not indices:
        return of_whole(a, of_block, target)
    places, *factors = of_whole(a, of_block, Replicated())
    return places, *(x if isinstance(a.layout, Replicated) else x.redistribute(target) for x in factors)


def _lu(a: DistArray, kind: np.dtype[Any], *, permute_l: bool, p_indices: bool) -> tuple[DistArray, ...]:
    mesh, axis, (m, n) = a.mesh, divided_axis(a), a.shape
    k = min(m, n)
    panels = Panels.of(mesh, n, k)
    block = working_copy(transposed(a), panels, kind)
    done = eliminate(mesh, panels, block.T)
    permutation, indices = done.permutation, panels.indices()
    with mesh.preparing(a.nbytes):
        lower = block[: np.count_nonzero(indices < k)].copy()
    for row, i in zip(lower, indices, strict=False):
        row[:i] = 0
        row[i] = 1
    upper = block[:, :k]
    for row, i in zip(upper, indices, strict=True):
        row[i + 1 :] = 0
    if permute_l:
        with mesh.preparing(a.nbytes):
            moved = np.empty_like(lower)
        moved[:, permutation] = lower
        lower = moved
    target = Block(axis)
    factors = tuple(
        transposed(DistArray(mesh, panels.layout, shape, blocks.like(a.local, part))).redistribute(target)
        for shape, part in (((k, m), lower), ((n, k), upper))
    )
    if permute_l:
        return factors
    places = np.argsort(permutation)
    if p_indices:
        return DistArray(mesh, Replicated(), (m,), blocks.like(a.local, places.astype(np.int64))), *factors
    layout = target.settled((m, m), mesh.size)
    with mesh.preparing(m * m * kind.itemsize):
        matrix = np.zeros(layout.local_shape((m, m), mesh.size, mesh.rank), real_type(kind))
    lo, hi = layout.bounds((m, m), mesh.size)[mesh.rank : mesh.rank + 2]
    if axis == 0:
        matrix[np.arange(hi - lo), places[lo:hi]] = 1
    else:
        matrix[permutation[lo:hi], np.arange(hi - lo)] = 1
    return DistArray(mesh, layout, (m, m), blocks.like(a.local, matrix)), *factors


# -- factors to solve by ---------------------------------------------------------------------------------------------------------------


class LU:
    """A factored square matrix A, as `lu_factor` gives it and `lu_solve` takes it.

    Rows of A are columns of A^T, so what is factored is ``A^T = P L U``, that is, ``A = U^T L^T P^T``: pivots are found along rows of A,
    and neither factoring nor solving transposes anything.
    """

    def __init__(self, a: DistArray, kind: np.dtype[Any]) -> None:
        self.mesh = a.mesh
        self.shape = a.shape
        self._replicated = isinstance(a.layout, Replicated)
        self._panels = Panels.of(a.mesh, a.shape[0])
        self._block = working_copy(a, self._panels, kind)
        self._elimination = eliminate(a.mesh, self._panels, self._block.T)
        self._permutation = self._elimination.permutation

    def __repr__(self) -> str:
        return f"<LU of a matrix of shape {self.shape} and dtype {self.dtype}{', which is singular' if self.singular else ''}>"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the factors."""
        return self._block.dtype

    @property
    def singular(self) -> bool:
        """Whether a pivot is exactly zero, so that no system can be solved."""
        return self._elimination.singular

    def check(self) -> None:
        """See that systems can be solved.

        Raises
        ------
        LinAlgError
            the matrix is singular; on all ranks.
        """
        if self.singular:
            raise LinAlgError("Singular matrix")

    def solve(self, b: DistArray, kind: np.dtype[Any], trans: int) -> DistArray:
        """The solution, of type ``kind``, of ``A x = b``, or with A^T or A^H. See `lu_solve`."""
        factor = kind if self.dtype.kind == "c" else real_type(kind)
        right = RightHandSides(b, kind, factor)
        replicated = self._replicated and isinstance(b.layout, Replicated)
        rows, layout = self._solve_transposed(right, factor, trans) if trans else self._solve(right, factor)
        return right.solution(rows, layout, replicated=replicated)

    def _solve(self, right: RightHandSides, factor: np.dtype[Any]) -> tuple[Matrix, Layout]:
        """``U^T y = b``, ``L^T z = y``, ``x = P z``."""
        rows = right.dealt(self._panels.layout)
        self.substitute(rows, factor)
        target = Block(0)
        return move_rows(self.mesh, rows, self._permutation, self._panels.layout, target), target

    def substitute(self, rows: Matrix, factor: np.dtype[Any], as_far_as: Callable[[int], int] | None = None) -> None:
        """``L^-T U^-T`` times the rows that this rank has by panels, in place."""
        with self.mesh.preparing(self._block.itemsize * self.shape[0] ** 2 if factor != self.dtype else 0):
            x = self._block.astype(factor, copy=False).T
        substitute(self.mesh, self._panels, x, rows, uplo="U", as_far_as=as_far_as)
        substitute(self.mesh, self._panels, x, rows, uplo="L", diag="U")

    def _solve_transposed(self, right: RightHandSides, factor: np.dtype[Any], trans: int) -> tuple[Matrix, Layout]:
        """``A^T x = P L U x = b``: rows of L and U are needed, so the factors are transposed."""
        mesh, panels = self.mesh, self._panels
        conjugate = trans == 2 and factor.kind == "c"
        start = right.dealt(Block(0))
        if conjugate:
            np.conjugate(start, out=start)
        rows = move_rows(mesh, start, np.argsort(self._permutation), Block(0), panels.layout)
        x = rows_of(transposed(DistArray(mesh, panels.layout, self.shape, self._block)), panels, factor).T
        substitute(mesh, panels, x, rows, uplo="U", diag="U")
        substitute(mesh, panels, x, rows, uplo="L")
        if conjugate:
            np.conjugate(rows, out=rows)
        return rows, panels.layout

    def inverse_rows(self) -> Matrix:
        """The rows of the inverse that this rank has by ``Block(0)``.

        Two Ibcasts for each panel: one and a half times the matrix passes every rank. Memory: four times the
        matrix / p, the result counted, while rows are moved.
        """
        panels, n = self._panels, self.shape[0]
        indices = panels.indices()
        with self.mesh.preparing(n * n * self.dtype.itemsize):
            rows = np.zeros((len(indices), n), self.dtype)
        rows[np.arange(len(indices)), indices] = 1
        self.substitute(rows, self.dtype, lambda k: panels.rows(k).stop)  # U^-T is lower triangular
        return move_rows(self.mesh, rows, self._permutation, panels.layout, Block(0))


def lu_factor(a: Any, /) -> LU:
    """Factor a square matrix, to solve systems with it again and again by `lu_solve`.

    ``a``
        of shape (n, n), in any layout; it is not changed, and not needed any more.

    One Ibcast for each panel of at most 128 rows, with a lookahead of one panel: half of ``a`` passes every rank. At most size - 1 messages
    each way before. Memory: a copy of ``a`` / p, which is kept, and two panels; two and a half times ``a`` / p while rows are moved.

    Raises
    ------
    LinAlgError
        it is not a square matrix. (A singular one is factored; `lu_solve` raises.)
    """
    (a,) = operands(a)
    check_square(a)
    if a.ndim != 2:
        raise LinAlgError(f"{a.ndim}-dimensional array given. Array must be two-dimensional")
    return LU(a, common_type(a))


def lu_solve(factors: LU, b: Any, /, *, trans: int | str = 0) -> DistArray:
    """Solve ``a x = b`` by what `lu_factor` gave; with ``trans`` 1 or ``"T"``, ``a^T x = b``; 2 or ``"C"``, ``a^H x = b``.

    ``b``
        of shape (n,), (n, k) or a stack (..., n, k).

    The result is divided along the axis that ``b`` is; if ``b`` is replicated, in blocks of rows, or replicated if ``a`` was too.

    Two Ibcasts for each panel: the solution passes every rank twice. For ``b``, the permutation and the result at most size - 1 messages
    each way. Memory: four times ``b`` / p, the result counted, and two panels of it. With ``trans``, the factors are transposed too, to a
    copy.

    Raises
    ------
    LinAlgError
        ``a`` is singular; on all ranks.
    ValueError
        shapes do not fit.
    """
    if not isinstance(factors, LU):
        raise TypeError(f"lu_solve needs what lu_factor gave, not {type(factors).__name__}")
    factors.mesh.check()
    b = as_dist(b, factors.mesh)
    if b.mesh is not factors.mesh:
        raise ValueError("the factors and the right-hand sides lie on different ranks: arrays that meet must be of one communicator")
    flips = transposition(trans)
    check_right_hand_sides(factors.shape, b, "lu_solve")
    factors.check()
    return factors.solve(b, np.promote_types(factors.dtype, common_type(b)), flips)
