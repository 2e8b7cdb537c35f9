"""The largest singular values of a matrix from its products with random vectors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.array.operands import replicated
from mpicluster.array.random import default_rng
from mpicluster.linalg.operators import Applied, aslinearoperator, mesh_for, spaces_of, type_of
from mpicluster.linalg.panels import transposed
from mpicluster.linalg.tsqr import TallQR
from mpicluster.linalg.vectors import Space

__all__ = ["RandomizedSVD", "randomized_svd"]

Host = NDArray[Any]


class RandomizedSVD(NamedTuple):
    """What `randomized_svd` returns."""

    #: (m, k), in even blocks of rows
    U: DistArray
    #: (k,), falling; replicated
    S: DistArray
    #: (k, n), in even blocks of columns
    Vh: DistArray


def randomized_svd(A: Any, k: int, *, n_oversamples: int = 10, n_iter: int = 2, seed: Any = 0) -> RandomizedSVD:  # noqa: N803
    """About the ``k`` largest singular values of a matrix (m, n), and their vectors.

    ``A``
        the matrix, of which the product of the adjoint is needed too: see `operators`;
    ``n_oversamples``
        how many more random vectors there are than values wanted;
    ``n_iter``
        how often the matrix and its adjoint are applied again, which makes the result better where singular values fall slowly;
    ``seed``
        of the random vectors, as of `mpicluster.array.random.default_rng`: they do not depend on the number of ranks.

    With l = k + n_oversamples: ``2 n_iter + 2`` products with l vectors, and as many QR factorisations of tall matrices (see `tsqr`);
    two Bcasts of l**2 numbers, one Allreduce. Memory: about four blocks of l vectors of length m, and as many of length n.

    Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Rev. 53(2), 2011, algorithms 4.4 and 5.1. With p = n_oversamples,
    from 2 on, the expected spectral norm of ``A - Q Q^H A``, Q being the basis of l vectors that was found, is at most the (k + 1)-th
    singular value times ``(1 + sqrt(k / (p - 1)) + e sqrt(k + p) / p * sqrt(min(m, n) - k)) ** (1 / (2 n_iter + 1))`` (corollary 10.10).

    Raises
    ------
    ValueError
        k is not from 1 to the shorter side, or other numbers are negative.
    NotImplementedError
        the operator has no product of the adjoint.
    LinAlgError
        there are infinities or NaNs; on all ranks.
    """
    operator = aslinearoperator(A)
    m, n = operator.shape
    if not 0 < k <= min(m, n):
        raise ValueError(f"k={k} must be from 1 to the shorter side of the matrix, {min(m, n)}")
    if n_oversamples < 0 or n_iter < 0:
        raise ValueError(f"n_oversamples={n_oversamples} and n_iter={n_iter} must not be negative")
    mesh = mesh_for(operator)
    domain, results = spaces_of(operator, mesh)
    kind = type_of(operator, domain)
    matrix = Applied(operator, domain, results, kind)
    count = min(k + n_oversamples, m, n)
    sample = matrix(domain.block(_random(domain, count, kind, seed), kind))
    for _ in range(n_iter):
        back = matrix.adjoint(_orthonormal(results, sample))
        sample = matrix(_orthonormal(domain, back))
    basis = _orthonormal(results, sample)
    factored = TallQR(mesh, matrix.adjoint(basis), domain.sizes)
    u, s, vh = (np.empty((count, count), kind), np.empty(count, basis.real.dtype), np.empty((count, count), kind))
    with mesh.together():
        if factored.r is not None:
            u, s, vh = np.linalg.svd(factored.r)
    s = mesh.bcast(np.ascontiguousarray(s), 0)
    left = mesh.bcast(np.ascontiguousarray(vh.conj().T[:, :k]), 0)
    right = domain.result(factored.times(np.ascontiguousarray(u[:, :k]), k).conj())
    return RandomizedSVD(results.result(basis @ left), replicated(mesh, s[:k]), transposed(right))


def _random(space: Space, count: int, kind: np.dtype[Any], seed: Any) -> DistArray:
    generator = default_rng(seed)
    x = generator.standard_normal((space.length, count), comm=space.mesh)
    if kind.kind != "c":
        return x
    return DistArray(x.mesh, x.layout, x.shape, x.local + 1j * generator.standard_normal(x.shape, comm=space.mesh).local)


def _orthonormal(space: Space, block: Host) -> Host:
    """An orthonormal basis of the span of columns."""
    return TallQR(space.mesh, block, space.sizes).form()
