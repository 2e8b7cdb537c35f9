"""Cholesky factorisation, and solving by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated
from mpicluster.array.mesh import Mesh
from mpicluster.linalg.checks import LinAlgError, check_square, common_type, factor_type, operands
from mpicluster.linalg.kernels import column_major, gemm, herk, potrf, trsm
from mpicluster.linalg.panels import Panels, divided_axis, fan_out, first_of, handed, is_small, transposed, working_copy
from mpicluster.linalg.stacks import of_whole, stacked
from mpicluster.linalg.triangular import RightHandSides, panels_of, solve_by_rows, solve_triangular

__all__ = ["cho_factor", "cho_solve", "cholesky", "solve_positive", "solve_positive_whole"]

Matrix = NDArray[Any]


def _not_positive() -> LinAlgError:
    return LinAlgError("Matrix is not positive definite")


def cholesky(x: Any, /, *, upper: bool = False) -> DistArray:
    """The lower triangular L with ``x = L L^H``, or the upper triangular U with ``x = U^H U``.

    ``x``
        symmetric or Hermitian, and positive definite, of shape (n, n), or a stack (..., n, n). The other triangle is not looked at.

    The result is divided along the axis that ``x`` is, in even blocks.

    One Ibcast for each panel of at most 128 rows, n**2 / 2 elements in all, with a lookahead of one panel; at most size - 1 messages each
    way before and after. Memory: a copy of ``x`` / p and two panels; at the end, with the result, three and a half times ``x`` / p.
    Matrices of up to 256 rows are copied to every rank instead. Stacks come to blocks of one of their axes. Nothing is transposed: rows of
    L are found from rows of ``x`` looking to the left, rows of U looking to the right (Golub and Van Loan, Matrix Computations, 4th
    edition, section 4.2); columns of one are rows of the other.

    Backward stable: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, theorem 10.3.

    Raises
    ------
    LinAlgError
        it is not square, or not positive definite (or not a number); on all ranks.
    """
    (x,) = operands(x)
    check_square(x)
    kind = common_type(x)
    if x.ndim > 2:
        return stacked(x, lambda block: (_of_stack(block, kind, upper=upper),))[0]
    if isinstance(x.layout, Replicated) or is_small(x):
        return of_whole(x, lambda block: (_of_stack(block, kind, upper=upper),), _layout(x))[0]
    return cyclic_factor(x, kind, upper=upper).redistribute(_layout(x))


def _layout(x: DistArray) -> Layout:
    return Block(divided_axis(x))


def _of_stack(block: Matrix, kind: np.dtype[Any], *, upper: bool) -> Matrix:
    with np.errstate(invalid="ignore"):
        factors = np.linalg.cholesky(block.astype(kind, copy=False), upper=upper)
    if np.isnan(np.diagonal(factors, axis1=-2, axis2=-1)).any():  # not every LAPACK says so
        raise _not_positive()
    return factors


def cyclic_factor(x: DistArray, kind: np.dtype[Any], *, upper: bool) -> DistArray:
    """The factor in the layout in which it is computed: block-cyclic along the axis that is divided.

    Raises
    ------
    LinAlgError
        the matrix is not positive definite; on all ranks.
    """
    mesh = x.mesh
    by_columns = divided_axis(x) == 1
    panels = Panels.of(mesh, x.shape[0])
    block = working_copy(transposed(x) if by_columns else x, panels, kind)
    # x = conj(x^T): rows of the upper factor of x^T are columns of the lower one of x
    right = (_rows_of_upper if upper != by_columns else _rows_of_lower)(mesh, panels, block)
    if not right:
        raise _not_positive()
    factor = DistArray(mesh, panels.layout, x.shape, blocks.like(x.local, block))
    return transposed(factor) if by_columns else factor


def _rows_of_lower(mesh: Mesh, panels: Panels, block: Matrix) -> bool:
    """Rows of L in place of rows of a matrix, of which the lower triangle is looked at. False if it is not positive definite.

    A panel is the rows k of L, of which all ranks find the columns k of L in their own rows:
    ``L[i,k] = (A[i,k] - L[i,:k] L[k,:k]^H) L[k,k]^-H``.
    """
    x = block.T

    def ready(k: int, message: Matrix | None) -> Matrix:
        rows, own = panels.rows(k), panels.mine(k)
        diagonal = x[rows, own]
        herk("U", "C", -1, x[: rows.start, own], 1, diagonal)
        if potrf("U", diagonal):
            diagonal[0, 0] = np.nan
        for i in range(rows.stop - rows.start):
            block[own.start + i, rows.start + i + 1 :] = 0
        return handed(block[own, : rows.stop], message)

    def room(k: int, memory: Matrix) -> Matrix:
        rows = panels.rows(k)
        return first_of(memory, (rows.stop - rows.start, rows.stop), block.dtype)

    def use(k: int, message: Matrix, part: slice) -> None:
        rows = panels.rows(k)
        panel, target = message.T, x[rows, part]
        gemm("C", "N", -1, panel[: rows.start], x[: rows.start, part], 1, target)
        trsm("L", "U", "C", "N", 1, panel[rows], target)

    nbytes = panels.nb * panels.length * block.itemsize
    steps = fan_out(mesh, panels, range(panels.count), nbytes=nbytes, room=room, ready=ready, use=use)
    return all(_is_positive(message[:, panels.rows(k).start :]) for k, message in steps)


def _rows_of_upper(mesh: Mesh, panels: Panels, block: Matrix) -> bool:
    """Rows of U in place of rows of a matrix, of which the upper triangle is looked at. False if it is not positive definite.

    A panel is the rows k of U, of which all ranks subtract their part: ``A[i,j] -= conj(U[k,i])^T U[k,j]``.
    """
    x = block.T

    def ready(k: int, message: Matrix | None) -> Matrix:
        rows, own = panels.rows(k), panels.mine(k)
        width = rows.stop - rows.start
        panel = x[rows.start :, own]
        if potrf("L", panel[:width]):
            panel[0, 0] = np.nan
        trsm("R", "L", "C", "N", 1, panel[:width], panel[width:])
        for i in range(width):
            block[own.start + i, : rows.start + i] = 0
        return handed(block[own, rows.start :], message)

    def room(k: int, memory: Matrix) -> Matrix:
        rows = panels.rows(k)
        return first_of(memory, (rows.stop - rows.start, panels.length - rows.start), block.dtype)

    def use(k: int, message: Matrix, part: slice) -> None:
        panel, start = message.T, panels.rows(k).start
        for other in panels.within(part):
            rows = panels.rows(other)
            below = panel[rows.start - start :]
            gemm("N", "C", -1, below, below[: rows.stop - rows.start], 1, x[rows.start :, panels.mine(other)])

    nbytes = panels.nb * panels.length * block.itemsize
    steps = fan_out(mesh, panels, range(panels.count), nbytes=nbytes, room=room, ready=ready, use=use)
    return all(_is_positive(message) for _, message in steps)


def _is_positive(message: Matrix) -> bool:
    """Whether the diagonal of a factor is positive: the same answer on all ranks, which have the same message."""
    return bool((np.diagonal(message).real > 0).all())


# -- solving ---------------------------------------------------------------------------------------------------------------------------


def cho_factor(a: Any, /, lower: bool = False) -> tuple[DistArray, bool]:
    """What `cho_solve` needs to solve systems with a positive definite matrix, again and again. As in SciPy, but a clean triangle.

    ``lower``
        whether to look at the lower triangle, not the upper one.

    Cost and errors: see `cholesky`.
    """
    return cholesky(a, upper=not lower), lower


def cho_solve(c_and_lower: tuple[Any, bool], b: Any, /) -> DistArray:
    """Solve ``a x = b`` by what `cho_factor` gave, or by ``(L, True)`` or ``(U, False)`` of `cholesky`.

    Two triangular systems: for shapes, layout and cost see `solve_triangular`. For one of them the factor is transposed, which takes at
    most size - 1 messages each way and the memory of a copy / p.
    """
    c, lower = c_and_lower
    first, second = (0, 2) if lower else (2, 0)
    return solve_triangular(c, solve_triangular(c, b, lower=lower, trans=first), lower=lower, trans=second)


def solve_positive(a: DistArray, b: DistArray, kind: np.dtype[Any]) -> DistArray:
    """Solve ``a x = b``, where the lower triangle of ``a`` makes a positive definite matrix."""
    factor = factor_type(a, kind)
    lower = cyclic_factor(a, factor, upper=False)
    right = RightHandSides(b, kind, factor)
    panels = panels_of(lower, transpose=divided_axis(lower) == 1)
    rows = right.dealt(panels.layout)
    solve_by_rows(lower, rows, panels, factor, lower=True)
    solve_by_rows(lower, rows, panels, factor, lower=True, trans=2)
    return right.solution(rows, panels.layout)


def solve_positive_whole(a: Matrix, b: Matrix, kind: np.dtype[Any]) -> Matrix:
    """The same, of whole matrices, or stacks of them that broadcast."""
    lower = _of_stack(a, kind, upper=False)
    vector = b.ndim == 1
    stack = np.broadcast_shapes(a.shape[:-2], () if vector else b.shape[:-2])
    x = np.array(np.broadcast_to(b, (*stack, *(b.shape if vector else b.shape[-2:]))), kind)
    factors = np.broadcast_to(lower, (*stack, *lower.shape[-2:]))
    for i in np.ndindex(*stack):
        columns = column_major(x[i].reshape(len(x[i]), -1 if x[i].size else 0))
        factor = column_major(factors[i])
        trsm("L", "L", "N", "N", 1, factor, columns)
        trsm("L", "L", "C", "N", 1, factor, columns)
        x[i] = columns.reshape(x[i].shape)
    return x
