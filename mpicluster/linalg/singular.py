"""The singular value decomposition, and what follows from it: ranks and pseudo-inverses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import elementwise, manipulation, statistics
from mpicluster.array.creation import ones_like, zeros_like
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.linalg.alone import on_one_rank
from mpicluster.linalg.checks import check_matrix, common_type, operands, real_type
from mpicluster.linalg.panels import divided_axis, is_small
from mpicluster.linalg.products import matmul
from mpicluster.linalg.qr_factors import qr
from mpicluster.linalg.stacks import of_whole, stacked

__all__ = ["SVDResult", "hermitian", "matrix_rank", "pinv", "svd", "svdvals"]

Matrix = NDArray[Any]
#: So many times more rows than columns (or columns than rows) make a matrix tall (or wide): it is reduced by a QR factorization first.
_TALL = 2


class SVDResult(NamedTuple):
    """What `svd` gives."""

    U: DistArray
    S: DistArray
    Vh: DistArray


def hermitian(x: DistArray) -> DistArray:
    """The conjugate of the transposed."""
    turned = manipulation.matrix_transpose(x)
    conj: Any = vars(elementwise)["conj"]
    return conj(turned) if np.dtype(x.dtype).kind == "c" else turned


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """U, S and Vh with ``x = U diag(S) Vh``, for a matrix (m, n) or a stack (..., m, n); singular values fall.

    With k = min(m, n), U has shape (m, k), S (k,), Vh (k, n); with ``full_matrices`` U is (m, m) and Vh (n, n). S is replicated; U lies
    in blocks of rows, and Vh along the axis that ``x`` does; of a tall matrix Vh, and of a wide one U, is replicated.

    A tall matrix (at least twice as many rows as columns; a wide one likewise) costs a QR factorization, and the decomposition of R on
    every rank (Chan, "An improved algorithm for computing the singular value decomposition", ACM TOMS 8(1), 1982). Others, up to 1 GiB, are
    decomposed by one rank, with the threads of all on its host: see `alone`. LAPACK's divide and conquer (gesdd), backward stable.

    Raises
    ------
    LinAlgError
        it has less than two dimensions, or an element is not a number; on all ranks.
    MemoryError
        it is neither tall nor wide, and too large for one rank.
    """
    (x,) = operands(x)
    check_matrix(x)
    kind = common_type(x)

    def of_block(block: Matrix) -> tuple[Matrix, ...]:
        return tuple(np.linalg.svd(block.astype(kind, copy=False), full_matrices=full_matrices))

    if x.ndim > 2:
        return SVDResult(*stacked(x, of_block))
    m, n = x.shape
    axis = divided_axis(x)
    if isinstance(x.layout, Replicated) or is_small(x) or x.mesh.size == 1:
        u, s, vh = of_whole(x, of_block, Replicated())
        if not isinstance(x.layout, Replicated):
            u, vh = u.redistribute(Block(0)), vh.redistribute(Block(axis))
        return SVDResult(u, s, vh)
    if m >= _TALL * n and not full_matrices:
        q, r = qr(x)
        small = r.replicate()
        values = np.linalg.svd(small.local)
        u, s, vh = (DistArray(x.mesh, Replicated(), v.shape, v) for v in values)
        return SVDResult(matmul(q, u), s, vh)
    if n >= _TALL * m and not full_matrices:
        turned = svd(hermitian(x), full_matrices=False)
        return SVDResult(hermitian(turned.Vh), turned.S, hermitian(turned.U))
    return SVDResult(*on_one_rank(x, of_block, (0, None, axis), "the SVD"))


def svdvals(x: Any, /) -> DistArray:
    """The singular values of a matrix (m, n), replicated, or of a stack (..., m, n); they fall. As `svd`, which see for the cost."""
    (x,) = operands(x)
    check_matrix(x)
    kind = common_type(x)

    def of_block(block: Matrix) -> tuple[Matrix]:
        return (np.linalg.svd(block.astype(kind, copy=False), compute_uv=False),)

    if x.ndim > 2:
        return stacked(x, of_block)[0]
    m, n = x.shape
    if isinstance(x.layout, Replicated) or is_small(x) or x.mesh.size == 1:
        return of_whole(x, of_block, Replicated())[0]
    if m >= _TALL * n:
        r = qr(x, mode="r")
        values = of_block(r.replicate().local)[0]
        return DistArray(x.mesh, Replicated(), values.shape, values)
    if n >= _TALL * m:
        return svdvals(manipulation.matrix_transpose(x))
    return on_one_rank(x, of_block, (None,), "the SVD")[0]


def _cut(s: DistArray, shape: tuple[int, ...], rtol: Any) -> DistArray:
    """Below which singular values count as zero: ``rtol`` times the largest, by default max(m, n) times the rounding."""
    tolerance: Any = max(shape[-2:]) * np.finfo(np.dtype(s.dtype)).eps if rtol is None else rtol
    largest = statistics.max(s, axis=-1) if s.shape[-1] else statistics.sum(s, axis=-1)
    multiply: Any = vars(elementwise)["multiply"]
    return multiply(largest, tolerance)


def matrix_rank(x: Any, /, *, rtol: Any = None) -> DistArray:
    """How many singular values of a matrix, or of each of a stack, are above ``rtol`` times the largest. int64; cost that of `svdvals`."""
    (x,) = operands(x)
    s = svdvals(x)
    cut = manipulation.expand_dims(_cut(s, x.shape, rtol), axis=-1)
    greater: Any = vars(elementwise)["greater"]
    return statistics.sum(greater(s, cut), axis=-1, dtype=np.int64)


def pinv(x: Any, /, *, rtol: Any = None) -> DistArray:
    """The Moore-Penrose pseudo-inverse (n, m) of a matrix (m, n), or of a stack.

    Singular values up to ``rtol`` times the largest count as zero; by default max(m, n) times the rounding. Cost: that of `svd`, and
    of a product.
    """
    (x,) = operands(x)
    check_matrix(x)
    names = vars(elementwise)
    u, s, vh = svd(x, full_matrices=False)
    cut = manipulation.expand_dims(_cut(s, x.shape, rtol), axis=-1)
    kept = names["greater"](s, cut)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = names["where"](kept, names["reciprocal"](names["where"](kept, s, ones_like(s))), zeros_like(s))
    kind = common_type(x)
    scaled = names["multiply"](hermitian(vh), manipulation.expand_dims(_as(inverse, kind), axis=-2))
    return matmul(scaled, hermitian(u))


def _as(x: DistArray, kind: np.dtype[Any]) -> DistArray:
    """A real array as a factor of one of this type, without making it more precise."""
    return DistArray(x.mesh, x.layout, x.shape, x.local.astype(real_type(kind), copy=False))
