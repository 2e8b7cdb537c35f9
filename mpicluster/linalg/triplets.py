"""Singular values and vectors of a divided matrix. Which way they are found depends on its shape and size alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.linalg.alone import alone, fits, gathered, scattered, told
from mpicluster.linalg.checks import real_type
from mpicluster.linalg.kernels import column_major
from mpicluster.linalg.lapack import singular_triplets
from mpicluster.linalg.multiplication import product
from mpicluster.linalg.panels import adjoint, transposed
from mpicluster.linalg.polar import polar
from mpicluster.linalg.qr_factors import divided_qr, is_tall, rows_of_block
from mpicluster.linalg.spectrum import divided_eigenpairs, scaled
from mpicluster.linalg.tsqr import TallQR

__all__ = ["Triplets", "triplets"]

Matrix = NDArray[Any]
#: From so many times as many rows as columns on, a matrix is reduced to its R first.
_REDUCED_FROM = 1.5


class Triplets(NamedTuple):
    """``x = u diag(s) vh``, with k = min(m, n) columns of u and rows of vh; ``s`` falls, and is the same on all ranks."""

    u: DistArray | None
    s: Matrix
    vh: DistArray | None


def triplets(x: DistArray, kind: np.dtype[Any], *, vectors: bool = True, complete: bool = False) -> Triplets:
    """Singular values and, if wanted, vectors of a matrix with elements; vectors in whatever layouts they come to lie.

    ``complete``: all columns of u and rows of vh, which are orthonormal.

    Raises
    ------
    LinAlgError
        it did not converge, or the matrix is not finite; on all ranks.
    """
    m, n = x.shape
    if m < n:  # x^T = v diag(s) u^T
        found = triplets(transposed(x), kind, vectors=vectors, complete=complete)
        return found if found.u is None or found.vh is None else Triplets(transposed(found.vh), found.s, transposed(found.u))
    if is_tall(x):
        found = _by_tree(x, kind, vectors=vectors)
    elif m >= _REDUCED_FROM * n or (m > n and not fits(x)):
        found = _by_qr(x, kind, vectors=vectors)
    elif fits(x):
        return _at_one_rank(x, kind, vectors=vectors, complete=complete)
    else:
        found = _by_polar(x, kind, vectors=vectors)
    return found._replace(u=_completed(found.u)) if complete and m > n and found.u is not None else found


def _completed(u: DistArray) -> DistArray:
    """Orthonormal columns, to which others are added until there is a square of them."""
    return divided_qr(u, blocks.host(u.local).dtype, mode="complete")[0]


def _by_tree(x: DistArray, kind: np.dtype[Any], *, vectors: bool) -> Triplets:
    """By the R of a tall matrix, on rank 0. What the tree costs, two Bcasts, and n**2 elements beside those of the tree.

    Q is not formed, but multiplied with R's vectors on the way down the tree.
    """
    mesh, n = x.mesh, x.shape[1]
    block, sizes = rows_of_block(x, kind)
    tree = TallQR(mesh, block, sizes, keep=vectors)
    u, s, vh = alone(mesh, lambda: singular_triplets(column_major(tree.r), vectors="S" if vectors else "N")) or (None, None, None)
    s = told(mesh, s, (n,), real_type(kind))
    if not vectors:
        return Triplets(None, s, None)
    rows = DistArray(mesh, Replicated(), (n, n), told(mesh, vh, (n, n), kind))
    return Triplets(DistArray(mesh, Block(0, sizes).settled(x.shape, mesh.size), x.shape, tree.times(u, n)), s, rows)


def _by_qr(x: DistArray, kind: np.dtype[Any], *, vectors: bool) -> Triplets:
    """By the R of a matrix that has more rows than columns; Q and R as `divided_qr` finds them, and a product."""
    if not vectors:
        return triplets(divided_qr(x, kind, mode="r")[0], kind, vectors=False)
    q, r = divided_qr(x, kind)
    found = triplets(r.redistribute(Block(0)), kind)
    assert found.u is not None
    return found._replace(u=product(q.redistribute(Block(0)), found.u))


def _at_one_rank(x: DistArray, kind: np.dtype[Any], *, vectors: bool, complete: bool) -> Triplets:
    """By LAPACK on rank 0. size - 1 messages to it, and as many for each of u and vh from it, and a Bcast."""
    mesh, (m, n) = x.mesh, x.shape
    whole, flipped = gathered(x, kind)
    job = ("A" if complete else "S") if vectors else "N"
    # of the transposed matrix, the rows of u^T are those of vh, and the rows of vh^T those of u
    u, s, vh = alone(mesh, lambda: singular_triplets(whole, vectors=job)) or (None, None, None)  # type: ignore[arg-type]
    s = told(mesh, s, (n,), real_type(kind))
    if not vectors:
        return Triplets(None, s, None)
    columns = m if complete else n
    left, right = (vh, u) if flipped else (u, vh)
    shape = (m, columns) if flipped else (columns, m)
    first = scattered(mesh, None if left is None else left.T, shape, kind)
    second = scattered(mesh, None if right is None else right.T, (n, n), kind)
    return Triplets(first, s, second) if flipped else Triplets(transposed(first), s, transposed(second))


def _by_polar(x: DistArray, kind: np.dtype[Any], *, vectors: bool) -> Triplets:
    """Of a square matrix, by its polar factors ``x = U H`` and the eigenvalues of H; see `polar` and `spectrum`."""
    a, size = scaled(x, kind, "SVD")
    unitary_factor, h, unitary = polar(a)
    with x.mesh.preparing(x.nbytes):
        negative = DistArray(h.mesh, h.layout, h.shape, -h.local)  # whose eigenvalues rise as those of H fall
    del a, h
    values, v = divided_eigenpairs(negative, kind, vectors=vectors)
    s = np.maximum(-values, 0) * real_type(kind).type(size)
    if v is None:
        return Triplets(None, s, None)
    u = product(unitary_factor, v.redistribute(Block(0)))
    if not unitary:  # columns of what is zero to rounding are to be completed; they are the last ones
        u = divided_qr(u, kind)[0]
    return Triplets(u.redistribute(Block(0)), s, adjoint(v))
