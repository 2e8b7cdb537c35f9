"""The singular value decomposition, and what follows from it: ranks and pseudo-inverses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import elementwise, manipulation, statistics
from mpicluster.array.creation import ones_like, zeros_like
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.array.operands import replicated
from mpicluster.linalg.checks import check_matrix, common_type, operands, real_type
from mpicluster.linalg.multiplication import as_kind
from mpicluster.linalg.panels import adjoint, divided_axis, is_small
from mpicluster.linalg.products import matmul
from mpicluster.linalg.stacks import of_whole, stacked
from mpicluster.linalg.triplets import triplets

__all__ = ["SVDResult", "matrix_rank", "pinv", "svd", "svdvals"]

Matrix = NDArray[Any]


class SVDResult(NamedTuple):
    """What `svd` gives."""

    U: DistArray
    S: DistArray
    Vh: DistArray


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """U, S and Vh with ``x = U diag(S) Vh``, for a matrix (m, n) or a stack (..., m, n); singular values fall.

    With k = min(m, n), U has shape (m, k), S (k,), Vh (k, n); with ``full_matrices`` U is (m, m) and Vh (n, n). S is replicated; U lies
    in blocks of rows, and Vh along the axis that ``x`` does; of a matrix that `qr` takes for tall, Vh is replicated; of such a wide one, U.

    A matrix with fewer rows than columns is decomposed as its transposed. Of the others

    * one that `qr` takes for tall: by the tree of `qr`, and the decomposition of R on one rank, whose vectors Q is multiplied with on
      the way down the tree. Two Bcasts of n**2 elements beside the tree's messages. Memory: ``x`` / p, U, and a few triangles;
    * one with 1.5 times as many rows as columns: by `qr`, the decomposition of R, and a product (Chan, ACM TOMS 8(1), 1982);
    * one of up to 1 GiB (``limits``): on one rank by LAPACK's gesdd, with the threads of all on its host. At most 3 (p - 1)
      messages. Memory: six times ``x`` on that rank;
    * larger ones: by the polar decomposition, and the eigenvectors of its Hermitian factor as `eigh` finds them (Higham and Papadimitriou,
      "Parallel singular value decomposition via the polar decomposition", 1993; Nakatsukasa and Higham, SIAM J. Sci. Comput. 35(3), 2013).
      About 60 n**3 / p operations; a dozen times the messages of `qr` and of products. Memory: ten times ``x`` / p, and
      768 n elements.

    All are backward stable: each singular value is within c max(m, n) u ``||x||`` of a true one.

    Raises
    ------
    LinAlgError
        it has less than two dimensions, or an element is not a number; on all ranks.
    """
    (x,) = operands(x)
    check_matrix(x)
    kind = common_type(x)

    def of_block(block: Matrix) -> tuple[Matrix, ...]:
        return tuple(np.linalg.svd(block.astype(kind, copy=False), full_matrices=full_matrices))

    if x.ndim > 2:
        return SVDResult(*stacked(x, of_block))
    if isinstance(x.layout, Replicated) or is_small(x) or not x.size:
        u, s, vh = of_whole(x, of_block, Replicated())
        if not isinstance(x.layout, Replicated):
            u, vh = u.redistribute(Block(0)), vh.redistribute(Block(divided_axis(x)))
        return SVDResult(u, s, vh)
    found = triplets(x, kind, complete=full_matrices)
    assert found.u is not None
    assert found.vh is not None
    parts = _laid(found.u, 0), replicated(x.mesh, found.s), _laid(found.vh, divided_axis(x))
    return SVDResult(*(as_kind(x, part) for part in parts))


def _laid(x: DistArray, axis: int) -> DistArray:
    """In even blocks along an axis, unless all ranks have it."""
    return x if isinstance(x.layout, Replicated) else x.redistribute(Block(axis))


def svdvals(x: Any, /) -> DistArray:
    """The singular values of a matrix (m, n), replicated, or of a stack (..., m, n); they fall. As `svd`, without what is for vectors."""
    (x,) = operands(x)
    check_matrix(x)
    kind = common_type(x)

    def of_block(block: Matrix) -> tuple[Matrix]:
        return (np.linalg.svd(block.astype(kind, copy=False), compute_uv=False),)

    if x.ndim > 2:
        return stacked(x, of_block)[0]
    if isinstance(x.layout, Replicated) or is_small(x) or not x.size:
        return of_whole(x, of_block, Replicated())[0]
    return as_kind(x, replicated(x.mesh, triplets(x, kind, vectors=False).s))


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
    rows, turned = adjoint(vh), adjoint(u)
    with x.mesh.preparing(x.nbytes):
        scaled = names["multiply"](rows, manipulation.expand_dims(_as(inverse, kind), axis=-2))
    return matmul(scaled, turned)


def _as(x: DistArray, kind: np.dtype[Any]) -> DistArray:
    """A real array as a factor of one of this type, without making it more precise."""
    return DistArray(x.mesh, x.layout, x.shape, x.local.astype(real_type(kind), copy=False))
