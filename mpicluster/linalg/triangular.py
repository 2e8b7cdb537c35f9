"""Triangular systems: the substitution that all solvers use, and right-hand sides of any shape and layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, BlockCyclic, Layout, Replicated, default_layout
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import block_for
from mpicluster.array.redistribute import redistribute
from mpicluster.linalg.checks import LinAlgError, check_square, common_type, factor_type, operands
from mpicluster.linalg.kernels import gemm, trsm
from mpicluster.linalg.panels import Panels, fan_out, first_of, handed, is_small, rows_of, transposed
from mpicluster.linalg.stacks import alike

__all__ = [
    "RightHandSides",
    "check_right_hand_sides",
    "for_stacks",
    "panels_of",
    "solve_by_rows",
    "solve_triangular",
    "solve_whole",
    "substitute",
    "transposition",
]

Matrix = NDArray[Any]


def substitute(
    mesh: Mesh, panels: Panels, x: Matrix, b: Matrix, *, uplo: str, diag: str = "N", as_far_as: Callable[[int], int] | None = None
) -> None:
    """Solve a triangular system of which, and of whose right-hand sides ``b``, this rank has the rows of ``panels``. In place of ``b``.

    ``x``
        the transposed of this rank's rows, so that it is a column-major view: for ``uplo`` ``U`` the system is lower triangular, and
        substitution goes forwards; for ``L`` backwards. What is in the other triangle is not looked at;
    ``diag``
        ``U``: ones on the diagonal;
    ``as_far_as``
        how many columns of the right-hand sides are not zero in a panel and those before it; all, if not given.

    What is known of the solution goes to all, who subtract it from their rows: the fan-out method of Heath and Romine, "Parallel solution
    of triangular systems on distributed-memory multiprocessors", SIAM J. Sci. Stat. Comput. 9(3), 1988. One Ibcast for each panel; all of
    the solution passes every rank once. Memory: two panels of the solution.
    """
    columns = b.shape[1]
    bt = b.T

    def width(k: int) -> int:
        return columns if as_far_as is None else as_far_as(k)

    def room(k: int, memory: Matrix) -> Matrix:
        rows = panels.rows(k)
        return first_of(memory, (rows.stop - rows.start, width(k)), b.dtype)

    def ready(k: int, message: Matrix | None) -> Matrix:
        own = panels.mine(k)
        trsm("R", uplo, "N", diag, 1, x[panels.rows(k), own], bt[: width(k), own])
        return handed(b[own, : width(k)], message)

    def use(k: int, message: Matrix, part: slice) -> None:
        gemm("N", "N", -1, message.T, x[panels.rows(k), part], 1, bt[: message.shape[1], part])

    order = range(panels.count) if uplo == "U" else range(panels.count - 1, -1, -1)
    nbytes = panels.nb * columns * b.itemsize
    for _ in fan_out(mesh, panels, order, nbytes=nbytes, room=room, ready=ready, use=use):
        pass


def check_right_hand_sides(shape: tuple[int, ...], b: DistArray, name: str) -> None:
    """See that ``a x = b``, with ``a`` of a square shape, has a meaning, as NumPy sees it: ``b`` is one vector, or a stack of matrices.

    Raises
    ------
    ValueError
        they do not fit.
    """
    vector = b.ndim == 1
    if b.ndim == 0:
        raise ValueError(
            f"{name}: Input operand 1 does not have enough dimensions (has 0, gufunc core with signature (m,m),(m,n)->(m,n) requires 2)"
        )
    rows = b.shape[0] if vector else b.shape[-2]
    if rows != shape[-1]:
        signature = "(m,m),(m)->(m)" if vector else "(m,m),(m,n)->(m,n)"
        raise ValueError(
            f"{name}{'1' if vector else ''}: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature {signature} "
            f"(size {rows} is different from {shape[-1]})"
        )
    np.broadcast_shapes(shape[:-2], () if vector else b.shape[:-2])


class RightHandSides:
    """What stands on the right of ``a x = b``: a vector, a matrix, or a stack of matrices which has one ``a`` for all.

    It is dealt out as rows of one wide matrix, and the solution is laid as it was: along the same axis, in even blocks. A replicated one
    becomes blocks of rows.
    """

    def __init__(self, b: DistArray, kind: np.dtype[Any], factor: np.dtype[Any]) -> None:
        """``kind``: the type of the solution; ``factor``: that of the matrix. Complex vectors are two real ones to a real matrix."""
        self._b = b
        self._kind = kind
        self._paired = kind.kind == "c" and factor.kind != "c"
        self._axis = max(0, b.ndim - 2)

    def dealt(self, layout: Layout) -> Matrix:
        """A copy of the rows of this rank, when rows are divided by this layout of axis 0. At most size - 1 messages each way."""
        b = self._b
        target = self._of_rows(layout)
        block = blocks.host(redistribute(b.mesh, b.local, b.shape, b.layout, target))
        rows = np.moveaxis(block, self._axis, 0)
        with b.mesh.preparing(b.nbytes):
            copy = np.empty(rows.shape, self._kind)
            copy[...] = rows
        flat = copy.reshape(len(copy), int(np.prod(copy.shape[1:], dtype=np.intp)))
        return flat.view(flat.real.dtype) if self._paired else flat

    def _of_rows(self, layout: Layout) -> Layout:
        assert isinstance(layout, Block | BlockCyclic)
        moved = BlockCyclic(self._axis, layout.nb) if isinstance(layout, BlockCyclic) else Block(self._axis, layout.sizes)
        return moved.settled(self._b.shape, self._b.mesh.size)

    def solution(self, rows: Matrix, layout: Layout, *, replicated: bool = False) -> DistArray:
        """The solution, of which this rank has the rows by this layout. At most size - 1 messages each way."""
        b = self._b
        values = rows.view(self._kind) if self._paired else rows
        others = [n for i, n in enumerate(b.shape) if i != self._axis]
        with b.mesh.preparing(b.nbytes):
            block = np.ascontiguousarray(np.moveaxis(values.reshape(len(values), *others), 0, self._axis))
        x = DistArray(b.mesh, self._of_rows(layout), b.shape, blocks.like(b.local, block))
        return x.redistribute(Replicated() if replicated else self.layout)

    @property
    def layout(self) -> Layout:
        """How the solution is laid."""
        given = self._b.layout
        if isinstance(given, Replicated):
            return Block(self._axis)
        return Block(given.axis) if isinstance(given, Block | BlockCyclic) else default_layout(self._b.shape, self._b.mesh.size)


def solve_whole(a: DistArray, b: DistArray, kind: np.dtype[Any], solve: Any) -> DistArray:
    """A system whose matrix every rank has, or gets, whole: each solves for its columns of ``b`` by ``solve(a, b)``.

    Replicated if both are. Otherwise an Allgatherv of ``a`` if it is divided, an Allreduce of a byte, and ``b`` to blocks of columns and
    back: at most size - 1 messages each way.
    """
    mesh = a.mesh
    replicated = isinstance(a.layout, Replicated) and isinstance(b.layout, Replicated)
    matrix = blocks.host(a.replicate().local)
    columns = b.redistribute(Replicated() if b.ndim == 1 or isinstance(b.layout, Replicated) else Block(b.ndim - 1))
    values = blocks.host(columns.local)
    block = alike(mesh, replicated, lambda: solve(matrix, values))
    x = DistArray(mesh, columns.layout, b.shape, blocks.like(b.local, np.asarray(block).astype(kind, copy=False)))
    return x if replicated else x.redistribute(RightHandSides(b, kind, kind).layout)


def for_stacks(a: DistArray, b: DistArray, kind: np.dtype[Any], solve: Any) -> DistArray:
    """Systems with a stack of matrices: each rank solves some of them by ``solve(a, b)``, which broadcasts.

    The stack comes to blocks of one of its axes, if it is not so: at most size - 1 messages each way for each operand. One Allreduce of a
    byte. Replicated if both operands are.
    """
    mesh, vector = a.mesh, b.ndim == 1
    stack = np.broadcast_shapes(a.shape[:-2], () if vector else b.shape[:-2])
    shape = (*stack, *(b.shape if vector else b.shape[-2:]))
    if isinstance(a.layout, Replicated) and isinstance(b.layout, Replicated):
        layout: Layout = a.layout
        block = solve(blocks.host(a.local), blocks.host(b.local))
    else:
        layout = _layout_of_stack(stack, a, b)
        matrices = blocks.host(block_for(a, layout, (*stack, *a.shape[-2:])))
        values = blocks.host(b.replicate().local if vector else block_for(b, layout, (*stack, *b.shape[-2:])))
        block = alike(mesh, False, lambda: solve(matrices, values))
    return DistArray(mesh, layout, shape, blocks.like(a.local, np.asarray(block).astype(kind, copy=False)))


def _layout_of_stack(stack: tuple[int, ...], *operands: DistArray) -> Layout:
    """Blocks of an axis of the stack: as an operand has them, or of its longest axis."""
    for x in operands:
        if isinstance(x.layout, Block) and x.layout.axis < x.ndim - 2:
            axis = x.layout.axis + len(stack) + 2 - x.ndim
            if stack[axis] == x.shape[x.layout.axis]:
                return Block(axis, x.layout.sizes)
    return Block(max(range(len(stack)), key=lambda i: stack[i]))


_TRANSPOSED = {0: 0, "N": 0, 1: 1, "T": 1, 2: 2, "C": 2}


def transposition(trans: int | str) -> int:
    """0, 1 or 2: a matrix as it is, transposed, conjugate transposed.

    Raises
    ------
    ValueError
        it is none of these.
    """
    if trans not in _TRANSPOSED:
        raise ValueError(f"trans is 0 or 'N', 1 or 'T', 2 or 'C', not {trans!r}")
    return _TRANSPOSED[trans]


def solve_triangular(a: Any, b: Any, /, *, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False) -> DistArray:
    """Solve ``a x = b`` for a triangular matrix; the triangle that is not meant is not looked at. As `scipy.linalg.solve_triangular`.

    ``a``
        of shape (n, n), or a stack of such;
    ``b``
        of shape (n,), (n, k), or a stack (..., n, k);
    ``trans``
        1 or ``"T"``: solve ``a^T x = b``; 2 or ``"C"``: ``a^H x = b``;
    ``unit_diagonal``
        the diagonal is ones, and not looked at.

    The result is divided as ``b`` is; if only ``b`` is replicated, in blocks of rows.

    One Allgather, one Ibcast for each panel of at most 128 rows (the whole solution passes each rank once), and for each of ``a``, ``b``
    and the result at most size - 1 messages each way to bring it to panels or back. Memory: a copy of ``a`` / p (none, if it is in
    panels; two and a half while columns become rows) and of ``b`` / p, and two panels of ``b``. Matrices of up to 256 rows are copied to
    every rank instead. Stacks: see `for_stacks`.

    Backward stable row by row: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, theorem 8.5.

    Raises
    ------
    LinAlgError
        there is a zero on the diagonal; on all ranks.
    ValueError
        shapes do not fit.
    """
    a, b = operands(a, b)
    check_square(a)
    check_right_hand_sides(a.shape, b, "solve_triangular")
    flips, kind, unit = transposition(trans), common_type(a, b), bool(unit_diagonal)

    def solve(matrices: Matrix, values: Matrix) -> Matrix:
        return _by_lapack(matrices, values, kind, lower=lower, trans=flips, unit=unit)

    if a.ndim > 2:
        return for_stacks(a, b, kind, solve)
    if is_small(a) or (isinstance(a.layout, Replicated) and isinstance(b.layout, Replicated)):
        return solve_whole(a, b, kind, solve)
    factor = factor_type(a, kind)
    right = RightHandSides(b, kind, factor)
    panels = panels_of(a, transpose=flips > 0)
    rows = right.dealt(panels.layout)
    solve_by_rows(a, rows, panels, factor, lower=bool(lower), trans=flips, unit=unit)
    return right.solution(rows, panels.layout)


def panels_of(a: DistArray, *, transpose: bool) -> Panels:
    """The panels in which a square matrix, or its transposed, lies already; else such as are good for it."""
    given = a.layout
    if isinstance(given, BlockCyclic) and given.axis == int(transpose) and a.mesh.size > 1:
        return Panels(a.shape[0], given.nb, a.mesh.size, a.mesh.rank)
    return Panels.of(a.mesh, a.shape[0])


def solve_by_rows(
    a: DistArray, rows: Matrix, panels: Panels, kind: np.dtype[Any], *, lower: bool, trans: int = 0, unit: bool = False
) -> None:
    """As `solve_triangular`, of a matrix, in place of the rows of the right-hand sides that this rank has by ``panels``."""
    mesh = a.mesh
    matrix = rows_of(transposed(a) if trans else a, panels, kind).T
    if not unit:
        _check_diagonal(mesh, panels, matrix)
    conjugate = trans == 2 and kind.kind == "c"
    if conjugate:
        np.conjugate(rows, out=rows)
    substitute(mesh, panels, matrix, rows, uplo="U" if lower != bool(trans) else "L", diag="U" if unit else "N")
    if conjugate:
        np.conjugate(rows, out=rows)


def _check_diagonal(mesh: Mesh, panels: Panels, x: Matrix) -> None:
    indices = panels.indices()
    zeros = indices[x[indices, np.arange(len(indices))] == 0]
    first = mesh.gather_ints(zeros[0] if len(zeros) else panels.length).min()
    if first < panels.length:
        raise LinAlgError(f"singular matrix: resolution failed at diagonal {first}")


def _by_lapack(a: Matrix, b: Matrix, kind: np.dtype[Any], *, lower: bool, trans: int, unit: bool) -> Matrix:
    """Of whole matrices, or stacks of them that broadcast."""
    if a.ndim > 2:
        vector = b.ndim == 1
        stack = np.broadcast_shapes(a.shape[:-2], () if vector else b.shape[:-2])
        matrices = np.broadcast_to(a, (*stack, *a.shape[-2:]))
        values = np.broadcast_to(b, (*stack, *(b.shape if vector else b.shape[-2:])))
        x = np.empty(values.shape, kind)
        for i in np.ndindex(*stack):
            x[i] = _by_lapack(matrices[i], values[i], kind, lower=lower, trans=trans, unit=unit)
        return x
    n = len(a)
    wide = b[:, np.newaxis] if b.ndim == 1 else np.moveaxis(b, -2, 0)
    x = np.array(wide.reshape(n, wide.size // n if n else 0), kind, order="F")
    if x.size:
        factor = np.asarray(a, kind, order="F")
        diagonal = np.diagonal(factor)
        if not unit and not diagonal.all():
            raise LinAlgError(f"singular matrix: resolution failed at diagonal {np.flatnonzero(diagonal == 0)[0]}")
        trsm("L", "L" if lower else "U", "NTC"[trans], "U" if unit else "N", 1, factor, x)
    shaped = x.reshape(wide.shape)
    return shaped[:, 0] if b.ndim == 1 else np.moveaxis(shaped, 0, -2)
