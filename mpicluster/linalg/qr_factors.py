"""QR factorisation of matrices of any shape and layout."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.linalg.checks import check_matrix, common_type, operands
from mpicluster.linalg.choleskyqr import by_cholesky
from mpicluster.linalg.householder import by_householder
from mpicluster.linalg.multiplication import as_kind
from mpicluster.linalg.panels import are_few, divided_axis, is_small
from mpicluster.linalg.reflectors import phases
from mpicluster.linalg.stacks import of_whole, stacked
from mpicluster.linalg.tsqr import TallQR

__all__ = ["QRResult", "divided_qr", "is_tall", "known_to_all", "qr", "rows_of_block"]

Matrix = NDArray[Any]


class QRResult(NamedTuple):
    """What `qr` gives."""

    Q: DistArray
    R: DistArray


@overload
def qr(
    x: Any, /, *, mode: Literal["reduced", "complete"] = "reduced", method: Literal["householder", "cholesky"] = "householder"
) -> QRResult: ...
@overload
def qr(x: Any, /, *, mode: Literal["r"], method: Literal["householder", "cholesky"] = "householder") -> DistArray: ...
def qr(x: Any, /, *, mode: str = "reduced", method: str = "householder") -> QRResult | DistArray:
    """Q, whose columns are orthonormal, and R, upper triangular, with ``x = Q R``.

    ``x``
        of shape (m, n), or a stack (..., m, n);
    ``mode``
        ``"reduced"``: with k = min(m, n), Q has shape (m, k) and R (k, n); ``"complete"``: (m, m) and (m, n); ``"r"``: only R, reduced,
        which is half the work;
    ``method``
        ``"householder"``: as below; ``"cholesky"``: CholeskyQR2, for tall matrices: half the work, and matrix products alone. It is
        checked, and done by Householder's method if the condition number of ``x`` is above about 1e7 (single precision: 1e3). Other shapes
        and complete factors are not done so.

    The diagonal of R is real and not negative: so Q and R do not depend on the number of ranks, but for rounding.

    Q is divided along the axis that ``x`` is, in even blocks. So is R, unless x has at least four times as many rows as columns: then R is
    replicated, up to 64 MiB.

    Q is orthogonal to rounding, whatever the matrix. Of p ranks, which way is taken depends on the shape:

    * m >= 8 p n, or m >= n and n <= 256, and R of up to 64 MiB: by a tree over the ranks, see `tsqr`. ``x`` comes to blocks of rows, if it
      is not so; each rank sends and gets at most 2 log2(p) messages of a triangle, and a Bcast of R. Memory: a copy of ``x`` / p, Q, and a
      few triangles.
    * else by Householder's method on panels of columns, see `householder`. At most p - 1 messages each way before, and for each result
      after it; one Ibcast for each panel of at most 128 columns for R, and as many for Q: each time half of ``x`` passes every rank.
      Memory: two copies of ``x`` / p, and two panels; four and a half while Q and R are moved. A panel is m by 16 at least, even if that
      is more than ``x`` / p.

    Matrices of up to 256 rows and columns are copied to every rank instead. Stacks come to blocks of one of their axes.

    Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, theorem 19.4 and section 19.5.

    Raises
    ------
    LinAlgError
        it has less than two dimensions.
    ValueError
        there is no such mode, or method.
    """
    (x,) = operands(x)
    check_matrix(x)
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"Unrecognized mode {mode!r}")
    if method not in ("householder", "cholesky"):
        raise ValueError(f"the method is 'householder' or 'cholesky', not {method!r}")
    kind = common_type(x)

    def of_block(block: Matrix) -> tuple[Matrix, ...]:
        return _by_numpy(block.astype(kind, copy=False), mode)

    if x.ndim > 2:
        *q, r = stacked(x, of_block)
    else:
        if isinstance(x.layout, Replicated) or is_small(x) or not x.size:
            *q, r = of_whole(x, of_block, Replicated())
        else:
            *q, r = divided_qr(x, kind, mode=mode, method=method)
        q = [_laid(f, x) for f in q]
        r = r.replicate() if known_to_all(x) and r.shape[0] == x.shape[1] else _laid(r, x)
    return QRResult(as_kind(x, q[0]), as_kind(x, r)) if q else as_kind(x, r)


def _by_numpy(block: Matrix, mode: str) -> tuple[Matrix, ...]:
    """Of one matrix or a stack, with the signs that we want."""
    if mode == "r":
        (_, r), q = np.linalg.qr(block, mode="reduced"), None
    else:
        q, r = np.linalg.qr(block, mode=mode)  # type: ignore[call-overload]
    k = min(r.shape[-2:])
    signs = phases(np.diagonal(r, axis1=-2, axis2=-1))
    r[..., :k, :] *= signs[..., np.newaxis].conj()
    r = np.triu(r)  # zeros below, not -0 or NaN
    if q is None:
        return (r,)
    q[..., :k] *= signs[..., np.newaxis, :]
    return q, r


def known_to_all(x: DistArray) -> bool:
    """Whether the small factor of a matrix of this shape is replicated: x has four times as many rows as columns, and up to 64 MiB."""
    m, n = x.shape
    return m >= 4 * n and n * n * x.itemsize <= REPLICATED_UP_TO


def _laid(result: DistArray, x: DistArray) -> DistArray:
    """Along the axis that ``x`` is divided along."""
    return result.replicate() if isinstance(x.layout, Replicated) else result.redistribute(Block(divided_axis(x)))


def is_tall(x: DistArray) -> bool:
    """Whether a matrix is better factored by blocks of rows and a tree."""
    m, n = x.shape
    return m >= n and (are_few(n) or m >= 8 * n * x.mesh.size) and n * n * x.itemsize <= REPLICATED_UP_TO


def rows_of_block(x: DistArray, kind: np.dtype[Any]) -> tuple[Matrix, tuple[int, ...]]:
    """This rank's block of rows, and how many each rank has. At most size - 1 messages each way, if it is not in such blocks."""
    if not isinstance(x.layout, Block) or x.layout.axis != 0:
        x = x.redistribute(Block(0))
    assert isinstance(x.layout, Block)
    return blocks.host(x.local).astype(kind, copy=False), x.layout.parts(x.shape, x.mesh.size)


def divided_qr(x: DistArray, kind: np.dtype[Any], *, mode: str = "reduced", method: str = "householder") -> tuple[DistArray, ...]:
    """Q (unless the mode is ``"r"``) and R of a matrix, in whatever layouts they come to lie."""
    m, n = x.shape
    if not is_tall(x) or (mode == "complete" and m > n):
        return by_householder(x, kind, mode)
    mesh = x.mesh
    block, sizes = rows_of_block(x, kind)
    layout = Block(0, sizes).settled(x.shape, mesh.size)
    if method == "cholesky":
        found = by_cholesky(mesh, block)
        if found is not None:
            return DistArray(mesh, layout, x.shape, found[0]), DistArray(mesh, Replicated(), (n, n), found[1])
    factored = TallQR(mesh, block, sizes, keep=mode != "r")
    triangle = mesh.bcast(np.ascontiguousarray(factored.r) if factored.r is not None else np.empty((n, n), kind), 0)
    r = DistArray(mesh, Replicated(), (n, n), triangle)
    return (r,) if mode == "r" else (DistArray(mesh, layout, x.shape, factored.form()), r)
