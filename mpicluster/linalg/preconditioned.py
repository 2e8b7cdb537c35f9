"""A few eigenvalues of a large Hermitian matrix with a preconditioner: LOBPCG."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist, replicated
from mpicluster.linalg.operators import Applied, mesh_for, spaces_of, type_of
from mpicluster.linalg.systems import operator_of
from mpicluster.linalg.tsqr import TallQR
from mpicluster.linalg.vectors import Space, from_root, square

__all__ = ["lobpcg"]

Host = NDArray[Any]


def lobpcg(
    A: Any,  # noqa: N803 - SciPy's names
    X: Any,  # noqa: N803
    *,
    M: Any = None,  # noqa: N803
    tol: float | None = None,
    maxiter: int | None = None,
    largest: bool = True,
) -> tuple[DistArray, DistArray]:
    """The largest or smallest eigenvalues of a Hermitian matrix, and their eigenvectors, by the locally optimal block preconditioned
    conjugate gradient method.

    ``A``, ``M``
        the matrix, and a preconditioner that approximates its inverse and is positive definite: see `operators`;
    ``X``
        approximate eigenvectors (n, k), random ones for instance: as many as are wanted;
    ``tol``
        all pairs are found when ``norm(A x - w x) <= tol`` for each: ``n * sqrt(eps)``, if not given;
    ``maxiter``
        at most so many iterations: 20, if not given;
    ``largest``
        whether the largest are wanted, falling; else the smallest, rising.

    Returns the eigenvalues (k,), replicated, and the eigenvectors (n, k), in even blocks of rows. They are the last ones, with a warning,
    if there were too many iterations.

    Each iteration: one application of the matrix and the preconditioner to at most k vectors, three folds of at most ``18 k**2`` numbers,
    and two Bcasts of at most ``6 k**2``. Memory: ten blocks like that of X.

    Knyazev, "Toward the optimal preconditioned eigensolver", SIAM J. Sci. Comput. 23(2), 2001; with the basis of Hetmaniuk and Lehoucq,
    "Basis selection in LOBPCG", J. Comput. Phys. 218, 2006, orthonormalised as by Stathopoulos and Wu, SIAM J. Sci. Comput. 23(6), 2002.
    Eigenvectors are orthonormal to rounding, and an eigenvalue is off by the residual's norm at most, by its square over the gap as a rule
    (Parlett, The Symmetric Eigenvalue Problem, sections 4.5 and 11.7).

    Raises
    ------
    ValueError
        the matrix is not square, or shapes do not fit.
    LinAlgError
        there are infinities or NaNs; on all ranks.
    """
    given_shape = getattr(X, "shape", None) or np.shape(X)
    operator = operator_of(A, (given_shape[0], given_shape[0]) if given_shape else (1, 1))
    n = operator.shape[0]
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"expected square matrix, but got shape={operator.shape}")
    mesh = mesh_for(operator, X)
    given = as_dist(X, mesh)
    if given.ndim != 2 or given.shape[0] != n or not 0 < given.shape[1] <= n:
        raise ValueError(f"expected an array of shape ({n}, k) for argument X, not of shape {given.shape}")
    space, _ = spaces_of(operator, mesh)
    kind = np.result_type(type_of(operator, space), np.float32, np.dtype(given.dtype))
    kind = kind if kind.char in "fdFD" else np.dtype(np.float64)
    matrix = Applied(operator, space, space, kind)
    conditioner = operator_of(M, operator.shape) if M is not None else None
    if conditioner is not None and tuple(conditioner.shape) != tuple(operator.shape):
        raise ValueError("matrix and preconditioner have different shapes")
    precondition = Applied(conditioner, space, space, kind) if conditioner is not None else None
    eps = float(np.finfo(kind).eps)
    aim = n * np.sqrt(eps) if tol is None else float(tol)
    run = _Search(space, matrix, TallQR(mesh, space.block(given, kind), space.sizes).form(), eps, largest)
    run.rotate()
    for _ in range(20 if maxiter is None else maxiter):
        residual = run.residual()
        directions = residual if precondition is None else precondition(residual)
        if not run.improve(residual, directions, aim):
            break
    run.x = TallQR(mesh, run.x, space.sizes).form()
    run.rotate()
    norms = np.sqrt(space.sums(square(run.residual()))[0])
    if not norms.max() <= aim:
        warnings.warn(f"LOBPCG ended with residuals of {norms.max():.3g}, above the tolerance {aim:.3g}", UserWarning, stacklevel=2)
    return replicated(mesh, run.values.astype(norms.dtype)), space.result(run.x)


class _Search:
    """The space in which a better approximation is looked for: X, the last directions P, and the new ones W."""

    def __init__(self, space: Space, matrix: Applied, x: Host, eps: float, largest: bool) -> None:
        self._space = space
        self._matrix = matrix
        self._eps = eps
        self._sign = -1 if largest else 1
        self.x = x
        self._ax = x
        self._p = self._ap = x[:, :0]
        #: eigenvalues, in the order in which they are wanted
        self.values = np.empty(0)
        self._active = np.ones(x.shape[1], bool)

    def rotate(self) -> None:
        """The best approximations in the span of X."""
        k = self.x.shape[1]
        self._ax = self._matrix(self.x)
        (gram,) = self._space.sums(self.x.conj().T @ self._ax)

        def solved() -> Host:
            values, vectors = np.linalg.eigh(self._sign * _hermitian(gram))
            return np.vstack([values, vectors])

        pairs = from_root(self._space.mesh, (k + 1, k), gram.dtype, solved)
        self.values = self._sign * pairs[0].real
        self.x, self._ax = self.x @ pairs[1:], self._ax @ pairs[1:]

    def residual(self) -> Host:
        """``A X - X diag(values)``."""
        residual: Host = self._ax - self.x * self.values.astype(self.x.real.dtype)
        return residual

    def improve(self, residual: Host, directions: Host, aim: float) -> bool:
        """One iteration. False if all pairs are found, or nothing is left to look in."""
        space, old = self._space, np.hstack([self.x, self._p])
        w = directions[:, self._active]
        inside, squares, lengths = space.sums(old.conj().T @ w, square(residual), square(w))
        norms = np.sqrt(squares)
        if (norms <= aim).all():
            return False
        lengths = np.sqrt(lengths)
        scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        w = (w - old @ inside) * scale
        inside, gram = space.sums(old.conj().T @ w, w.conj().T @ w)
        turn = from_root(space.mesh, gram.shape, gram.dtype, lambda: _independent(gram - inside.conj().T @ inside, self._eps))
        turn = turn[:, turn.any(axis=0)]
        if not turn.shape[1]:
            return False
        w = (w - old @ inside) @ turn
        basis, images = np.hstack([old, w]), np.hstack([self._ax, self._ap, self._matrix(w)])
        small, gram = space.sums(basis.conj().T @ images, basis.conj().T @ basis)
        k, size = self.x.shape[1], basis.shape[1]
        best = from_root(
            space.mesh, (size + 1, 2 * k), small.dtype, lambda: _best(small, gram, k, self._p.shape[1], self._sign, self._active, self._eps)
        )
        self.values = self._sign * best[0, :k].real
        x, p = best[1:, :k], best[1:, k:]
        p = p[:, p.any(axis=0)]
        self.x, self._ax, self._p, self._ap = basis @ x, images @ x, basis @ p, images @ p
        self._active = norms > aim
        return True


def _hermitian(x: Host) -> Host:
    result: Host = (x + x.conj().T) / 2
    return result


def _independent(gram: Host, eps: float) -> Host:
    """What makes vectors with these scalar products orthonormal, of which the norms were 1 before they were projected.

    A column of zeros for each that depends on the others, or of which nothing is left.
    """
    norms = np.sqrt(np.maximum(np.diagonal(gram).real, 0))
    there = norms > 100 * eps
    scale = np.where(there, 1 / np.where(there, norms, 1), 0)
    values, vectors = np.linalg.eigh(_hermitian(gram * scale * scale[:, np.newaxis]))
    good = values > 100 * eps * max(1.0, values.max(initial=0))
    result: Host = scale[:, np.newaxis] * vectors * np.where(good, 1 / np.sqrt(np.where(good, values, 1)), 0)
    return result


def _best(small: Host, gram: Host, k: int, directions: int, sign: int, active: Host, eps: float) -> Host:
    """The best approximations in a basis of X, P and W: eigenvalues, and the coefficients of the new X and P.

    P is what is not of the old X, made orthogonal to the new one. Without the old P, where the basis has come near to being dependent.
    """
    size = len(small)
    for places in (np.arange(size), np.r_[:k, k + directions : size]):
        try:
            lower = np.linalg.cholesky(_hermitian(gram[np.ix_(places, places)]))
            break
        except np.linalg.LinAlgError:
            if not directions:
                raise
    inner = solve_triangular(lower, _hermitian(sign * small[np.ix_(places, places)]), lower=True)
    inner = solve_triangular(lower, inner.conj().T, lower=True)
    values, vectors = np.linalg.eigh(_hermitian(inner))
    new = vectors[:, :k]
    upper = lower.conj().T
    rest = solve_triangular(upper, new[:, active], lower=False)
    rest[:k] = 0
    rest = upper @ rest
    for _ in range(2):
        rest = rest - new @ (new.conj().T @ rest)
    u, s, _ = np.linalg.svd(rest, full_matrices=False)
    u = u[:, s > 100 * eps * max(1e-30, s.max(initial=0))]
    result = np.zeros((size + 1, 2 * k), small.dtype)
    result[0, :k] = values[:k]
    result[1 + places, :k] = solve_triangular(upper, new, lower=False)
    result[np.ix_(1 + places, np.arange(k, k + u.shape[1]))] = solve_triangular(upper, u, lower=False)
    return result
