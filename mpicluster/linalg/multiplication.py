"""How two divided matrices are multiplied: which of them moves, and how the work hides that. What users call is in `products`.

Three ways, each with O(blocks) memory, of which the one is taken that moves the least (`_rows`):

*rows*
    A lies in blocks of rows, and B comes to every rank: whole, by one Allgatherv, if it is half as large as a rank's blocks of A and of the
    result, or smaller; else block by block around a ring, where ``C += A_part B_part`` is done in place while the next block is on its way;
*columns*
    the same of ``C^T = B^T A^T``: blocks of rows of a transposed matrix are blocks of columns, and nothing is transposed;
*inner*
    A lies in blocks of columns and B in the same blocks of rows: each rank multiplies its parts, and the ranks add up what they have: each
    gets its rows of the sum, or all get it, if it is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster import buffers
from mpicluster.array import local as blocks
from mpicluster.array.agreement import Failure
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated, block_sizes, starts
from mpicluster.array.limits import GATHERED_UP_TO, REPLICATED_UP_TO
from mpicluster.array.mesh import MPI, Mesh
from mpicluster.array.operands import block_for
from mpicluster.array.statistics import with_block_layout
from mpicluster.linalg.kernels import gemm, leading_dimension
from mpicluster.linalg.panels import transposed

__all__ = ["as_kind", "multiply", "of_one_type", "product"]

Matrix = NDArray[Any]
Sizes = tuple[int, ...]

_BLAS = (np.float32, np.float64, np.complex64, np.complex128)
#: While a message is on its way, so many rows are multiplied before MPI is let go on with it.
_PIECE = 1024
#: The most that BLAS is asked to count to, with room for its own sums.
_LONGEST = 1 << 30
#: An operand of so many bytes is copied to every rank, even if that is more than the blocks: one message is quicker than many.
_GATHERED_ANYWAY = 4 << 20
#: From so many multiplications on, ranks share the work on replicated operands.
_SHARED_FROM = 1 << 26


# -- on one rank -----------------------------------------------------------------------------------------------------------------------


def multiply(a: Matrix, b: Matrix, out: Matrix, *, accumulate: bool = False, pending: Sequence[MPI.Request] = ()) -> None:
    """``out = a b``, or ``out += a b``, of NumPy arrays of two dimensions and one type; ``pending`` messages go on meanwhile."""
    step = _PIECE if pending else _LONGEST
    a, b = _in_rows_or_columns(a), _in_rows_or_columns(b)
    for at in range(0, len(out), step):
        rows = slice(at, at + step)
        for first in range(0, max(1, a.shape[1]), _LONGEST):
            inner = slice(first, first + _LONGEST)
            _piece(a[rows, inner], b[inner], out[rows], accumulate=accumulate or first > 0)
        if pending:
            Mesh.progress(pending)


def _in_columns(x: Matrix) -> bool:
    """Whether BLAS can take a matrix as it lies, column by column."""
    try:
        leading_dimension(x)
    except ValueError:
        return False
    return x.flags.aligned


def _in_rows_or_columns(x: Matrix) -> Matrix:
    """The matrix itself if BLAS can take it, or its transposed, as it lies; else a copy."""
    return x if _in_columns(x.T) or _in_columns(x) else np.ascontiguousarray(x)


def _piece(a: Matrix, b: Matrix, out: Matrix, *, accumulate: bool) -> None:
    if not accumulate:
        np.matmul(a, b, out=out)
    elif out.dtype not in _BLAS:
        out += np.matmul(a, b)
    elif _in_columns(out.T):  # rows of C are columns of C^T = B^T A^T
        _add(b.T, a.T, out.T)
    elif _in_columns(out):
        _add(a, b, out)
    else:
        out += np.matmul(a, b)


def _add(a: Matrix, b: Matrix, c: Matrix) -> None:
    flag, left = ("N", a) if _in_columns(a) else ("T", a.T)
    other, right = ("N", b) if _in_columns(b) else ("T", b.T)
    gemm(flag, other, 1, left, right, 1, c)


def _multiplied(a: Matrix, b: Matrix, pending: Sequence[MPI.Request] = ()) -> Matrix:
    out = np.empty((len(a), b.shape[1]), a.dtype)
    multiply(a, b, out, pending=pending)
    return out


# -- on all --------------------------------------------------------------------------------------------------------------------------


def of_one_type(*arrays: DistArray) -> list[DistArray]:
    """Operands in blocks of one axis or replicated, of NumPy and the type of the result."""
    kind = np.result_type(*(blocks.host(x.local).dtype for x in arrays))
    arrays = tuple(with_block_layout(x) for x in arrays)
    return [DistArray(x.mesh, x.layout, x.shape, blocks.host(x.local).astype(kind, copy=False)) for x in arrays]


def as_kind(like: DistArray, x: DistArray) -> DistArray:
    """The array with blocks of the library of another's."""
    return DistArray(x.mesh, x.layout, x.shape, blocks.like(like.local, blocks.host(x.local)))


def product(a: DistArray, b: DistArray, *, rows: Sizes | None = None, columns: Sizes | None = None) -> DistArray:
    """``a b``, of matrices of one type that fit each other, each in blocks of one axis or replicated. Layouts: see `products.matmul`.

    ``rows``, ``columns``
        how the result is divided where no operand says so; evenly, if not given.
    """
    axis = _divided(a, b)
    if axis is None:
        return _whole(a, b, rows)
    return _rows(a, b, rows) if axis == 0 else transposed(_rows(transposed(b), transposed(a), columns))


def _axis(x: DistArray) -> int | None:
    return x.layout.axis if isinstance(x.layout, Block) else None


def _sizes(x: DistArray) -> Sizes:
    assert isinstance(x.layout, Block)
    return x.layout.parts(x.shape, x.mesh.size)


def _nbytes(a: DistArray, b: DistArray) -> int:
    """Bytes of the result."""
    return a.shape[0] * b.shape[1] * a.itemsize


def _divided(a: DistArray, b: DistArray) -> int | None:
    """Which axis of the result is divided; none, where it is replicated."""
    (m, k), n, size = a.shape, b.shape[1], a.mesh.size
    by_rows, by_columns = _axis(a) == 0, _axis(b) == 1
    if by_rows or by_columns:
        return 0 if by_rows and (not by_columns or a.size >= b.size) else 1
    if _nbytes(a, b) <= REPLICATED_UP_TO and (m * n == 1 or max(m, n) * size < k or (_axis(a) is None and _axis(b) is None)):
        return None
    return 0 if m >= min(n, 2 * size) else 1


def _to(x: DistArray, axis: int, sizes: Sizes) -> DistArray:
    """The matrix in these blocks: a view, if it is replicated."""
    layout = Block(axis, sizes).settled(x.shape, x.mesh.size)
    if layout == x.layout:
        return x
    return DistArray(x.mesh, layout, x.shape, x.local if x.mesh.size == 1 else blocks.host(block_for(x, layout, x.shape)))


def _whole(a: DistArray, b: DistArray, rows: Sizes | None) -> DistArray:
    """A replicated result: of replicated operands (each rank does it all, or its rows, if that is much work), or one fold."""
    mesh = a.mesh
    if _axis(a) is None and _axis(b) is None:
        if mesh.size > 1 and a.size * b.shape[1] >= _SHARED_FROM and a.shape[0] >= mesh.size:
            return _rows(a, b, rows).replicate()
        return DistArray(mesh, Replicated(), (a.shape[0], b.shape[1]), _multiplied(a.local, b.local))
    a, b = _by_inner(a, b)
    with mesh.preparing(a.nbytes + b.nbytes + _nbytes(a, b)):  # BLAS may want copies of operands
        part = _multiplied(a.local, b.local)
    return DistArray(mesh, Replicated(), (a.shape[0], b.shape[1]), mesh.fold(part, np.add))


def _rows(a: DistArray, b: DistArray, rows: Sizes | None) -> DistArray:
    """The result in blocks of rows: those of ``a`` if it has such, else ``rows``."""
    mesh, (m, k), n = a.mesh, a.shape, b.shape[1]
    sizes = _sizes(a) if _axis(a) == 0 else rows or block_sizes(m, mesh.size)
    across = (0 if _axis(a) != 1 else m * k // mesh.size) + (0 if _axis(b) is None else k * n)
    inner = (0 if _axis(a) != 0 else m * k // mesh.size) + (0 if _axis(b) != 1 else k * n // mesh.size) + m * n
    if 2 * inner < across or (inner <= 2 * across and _axis(a) != 0 and _axis(b) != 1):
        block = _scattered(mesh, *_by_inner(a, b), sizes)
    else:
        block = _across(mesh, _to(a, 0, sizes), b)
    return DistArray(mesh, Block(0, sizes).settled((m, n), mesh.size), (m, n), block)


def _across(mesh: Mesh, a: DistArray, b: DistArray) -> Matrix:
    """This rank's rows of the result, from its rows of ``a`` and all of ``b``."""
    if mesh.size == 1:
        return _multiplied(a.local, b.local)
    if _axis(b) is not None:
        block_bytes = (a.size + a.shape[0] * b.shape[1]) // mesh.size * a.itemsize
        if b.nbytes > max(_GATHERED_ANYWAY, min(block_bytes // 2, GATHERED_UP_TO)):
            return _ring(mesh, a.local, b)
    with mesh.preparing(_nbytes(a, b) if _axis(b) is not None else 0):
        out = np.empty((len(a.local), b.shape[1]), a.dtype)
    multiply(a.local, b.replicate().local, out)
    return out


def _ring(mesh: Mesh, a: Matrix, b: DistArray) -> Matrix:
    """As `_across`, where blocks of ``b`` go round: to the rank before. size - 1 messages each way. Memory: two blocks of ``b``."""
    axis, bounds = _axis(b), starts(_sizes(b))
    k, n = b.shape
    current, flipped = _in_one_order(mesh, b.local)
    room = max(_sizes(b)) * (n if axis == 0 else k)
    with mesh.preparing(b.nbytes):
        out = np.empty((len(a), n), a.dtype)
        spare = [buffers.array((room,), a.dtype) for _ in range(min(2, mesh.size - 1))]
    failure = Failure()
    owner, before, after = mesh.rank, (mesh.rank - 1) % mesh.size, (mesh.rank + 1) % mesh.size
    for step in range(mesh.size):
        part = slice(bounds[owner], bounds[owner + 1])
        pending, coming = [], current
        if step < mesh.size - 1:
            owner = (owner + 1) % mesh.size
            width = bounds[owner + 1] - bounds[owner]
            shape = (width, n) if axis == 0 else (k, width)
            coming = spare[step % len(spare)][: shape[0] * shape[1]].reshape(shape[::-1] if flipped else shape)
            pending = mesh.post([(before, current)], [(after, coming)])
        moving = current.T if flipped else current
        with failure:
            if axis == 0:
                multiply(a[:, part], moving, out, accumulate=step > 0, pending=pending)
            else:
                multiply(a, moving, out[:, part], pending=pending)
        mesh.complete(pending)
        current = coming
    mesh.settle(failure.error)
    return out


def _in_one_order(mesh: Mesh, block: Matrix) -> tuple[Matrix, bool]:
    """A block in C order, or transposed to be so: the same on all ranks, and without a copy where that can be. Two Allreduces of a byte."""
    if mesh.agree(block.flags.c_contiguous):
        return block, False
    if mesh.agree(block.flags.f_contiguous):
        return block.T, True
    with mesh.together():
        copy = np.empty(block.shape, block.dtype)
        blocks.copy_into(copy, block)
    return copy, False


def _by_inner(a: DistArray, b: DistArray) -> tuple[DistArray, DistArray]:
    """Both in the same blocks of the axis that is summed over: those of the one that has such."""
    k, size = b.shape[0], a.mesh.size
    sizes = _sizes(a) if _axis(a) == 1 else _sizes(b) if _axis(b) == 0 else block_sizes(k, size)
    if _axis(a) == 1 and _axis(b) == 0 and b.size > a.size:
        sizes = _sizes(b)
    return _to(a, 1, sizes), _to(b, 0, sizes)


def _scattered(mesh: Mesh, a: DistArray, b: DistArray, sizes: Sizes) -> Matrix:
    """This rank's rows of the sum of what all ranks have. size - 1 messages each way, while the next are computed.

    The pairwise reduce-scatter of Thakur, Rabenseifner, Gropp (see `Mesh.fold`). Memory: four times the block of the result.
    """
    bounds, n = starts(sizes), b.shape[1]
    if mesh.size == 1:
        return _multiplied(a.local, b.local)
    with mesh.preparing(_nbytes(a, b)):
        total = np.empty((sizes[mesh.rank], n), a.dtype)
        come = np.empty_like(total)
        spare = [buffers.array((max(sizes), n), a.dtype) for _ in range(2)]
    failure = Failure()
    pending: list[MPI.Request] = []
    for step, distance in enumerate((*range(1, mesh.size), 0)):
        to, source = (mesh.rank + distance) % mesh.size, (mesh.rank - distance) % mesh.size
        part = spare[step % 2][: sizes[to]]
        with failure:
            multiply(a.local[bounds[to] : bounds[to + 1]], b.local, part, pending=pending)
        mesh.complete(pending)
        if step == 1:  # what has come is the first
            total, come = come, total
        elif step > 1:
            total += come
        if distance:
            pending = mesh.post([(to, part)], [(source, come)])
    mesh.settle(failure.error)
    total += part
    return total
