"""A few eigenvalues of a large Hermitian matrix, of which only products are known: Lanczos' method with thick restarts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence

from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist, replicated
from mpicluster.array.random import Generator, default_rng
from mpicluster.linalg.operators import Applied, aslinearoperator, mesh_for, spaces_of, type_of
from mpicluster.linalg.vectors import Space, from_root, orthogonalized, square

__all__ = ["eigsh"]

Host = NDArray[Any]


def eigsh(
    A: Any,  # noqa: N803 - SciPy's names
    k: int = 6,
    *,
    which: str = "LM",
    v0: Any = None,
    ncv: int | None = None,
    maxiter: int | None = None,
    tol: float = 0.0,
    return_eigenvectors: bool = True,
) -> Any:
    """The ``k`` largest or smallest eigenvalues of a Hermitian matrix, rising, and their eigenvectors.

    ``A``
        the matrix: see `operators`. That it is Hermitian is not checked;
    ``which``
        ``"LM"``: the largest in magnitude; ``"LA"``, ``"SA"``: the largest, the smallest; ``"BE"``: half from each end, one more from the
        upper one if k is odd;
    ``v0``
        where to begin, (n,); if not given, random numbers that do not depend on the number of ranks;
    ``ncv``
        the size of the basis, from k + 1 to n: the larger of 2 k + 1 and 20, if not given;
    ``maxiter``
        at most so many restarts: 10 n, if not given;
    ``tol``
        an eigenvalue w is found when ``norm(A v - w v) <= tol * |w|``, or is not above the rounding error of the norm of the matrix. 0: no
        sooner than by the distance from 1 to the next number.

    Returns the eigenvalues (k,), replicated, and the eigenvectors (n, k), in even blocks of rows; or the eigenvalues alone.

    Each step: one application of the matrix, and two folds of at most ncv numbers; a restart: one Bcast of ncv**2 numbers. Memory: ncv + k
    blocks like that of a vector.

    Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix Anal. Appl. 22(2), 2000, with
    full reorthogonalisation: eigenvectors are orthonormal to rounding. Eigenvalues are exact to about ``tol * |w|``, plus rounding errors
    of the norm of the matrix. As any method that begins with one vector, it may miss copies of multiple eigenvalues; `lobpcg` does not.

    Raises
    ------
    ValueError
        the matrix is not square, k, ncv or ``which`` make no sense, or shapes do not fit.
    scipy.sparse.linalg.ArpackNoConvergence
        too many restarts; it has what was found. On all ranks.
    """
    operator = aslinearoperator(A)
    shape = operator.shape
    if shape[0] != shape[1]:
        raise ValueError(f"expected square matrix (shape={shape})")
    n = shape[0]
    if not 0 < k <= n:
        raise ValueError(f"k={k} must be from 1 to the order of the matrix, {n}")
    size = min(n, max(2 * k + 1, 20)) if ncv is None else ncv
    if not (k < size <= n or size == k == n):
        raise ValueError(f"ncv={size} must be above k={k}, and at most the order of the matrix, {n}")
    if which not in ("LM", "LA", "SA", "BE"):
        raise ValueError(f"which is one of 'LM', 'LA', 'SA', 'BE', not {which!r}; for the smallest in magnitude, find those of the inverse")
    mesh = mesh_for(operator, v0)
    space, _ = spaces_of(operator, mesh)
    kind = type_of(operator, space)
    start = None
    if v0 is not None:
        given = as_dist(v0, mesh)
        if given.shape != (n,):
            raise ValueError(f"v0 has shape {given.shape}, not {(n,)}")
        kind = np.result_type(kind, np.float32, np.dtype(given.dtype))
        start = space.block(given, kind)
    run = _Basis(Applied(operator, space, space, kind), space, size, kind, start)
    limit = 10 * n if maxiter is None else maxiter
    least = max(float(tol), run.eps)
    for _ in range(max(1, limit)):
        values, vectors, errors = run.expanded()
        order = _wanted(values, which)
        enough = np.maximum(least * np.maximum(run.eps ** (2 / 3), np.abs(values)), run.eps * np.abs(values).max())
        found = order[:k][errors[order[:k]] <= enough[order[:k]]]
        if len(found) == k:
            return _result(run, values, vectors, np.sort(order[:k]), return_eigenvectors)
        run.restart(values, vectors, order[: min(k + max(1, min(len(found), (size - k) // 2)), size - 1)])
    pairs = _result(run, values, vectors, np.sort(found), True, current=False)
    raise ArpackNoConvergence(f"No convergence ({limit} iterations, {len(found)}/{k} eigenvectors converged)", *pairs)


def _wanted(values: Host, which: str) -> NDArray[np.intp]:
    """All places, the wanted ones first, of eigenvalues that rise."""
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")
    rising = np.arange(len(values))
    if which == "SA":
        return rising
    falling = rising[::-1]
    if which == "LA":
        return falling
    return np.stack([falling, rising], axis=1).reshape(-1)[: len(values)]


def _result(run: _Basis, values: Host, vectors: Host, places: Host, with_vectors: bool, *, current: bool = True) -> Any:
    w = replicated(run.space.mesh, values[places].astype(run.real))
    if not with_vectors:
        return w
    return w, run.ritz(vectors[:, places]) if current else run.kept(len(places))


class _Basis:
    """An orthonormal basis, as rows, in which the matrix is nearly tridiagonal."""

    def __init__(self, matrix: Applied, space: Space, size: int, kind: np.dtype[Any], start: Host | None) -> None:
        self.space = space
        self.eps = float(np.finfo(kind).eps)
        self.real = np.empty(0, kind).real.dtype
        self._matrix = matrix
        self._rows = np.empty((size + 1, space.local), kind)
        #: what the matrix is in this basis
        self._small = np.zeros((size, size))
        self._count = 0
        #: the norm of what is left after the last step: how far the basis is from being invariant
        self._rest = 0.0
        self._random: Generator = default_rng(0)
        if start is None:
            self._rows[0] = self._fresh(0)
        else:
            norm = float(np.sqrt(space.numbers(square(start))[0]))
            self._rows[0] = start / norm if norm > 0 else self._fresh(0)

    def _fresh(self, count: int) -> Host:
        """A random vector of norm 1, orthogonal to the first rows."""
        while True:
            vector = self.space.block(self._drawn(), self._rows.dtype)
            vector, _, norm, before = orthogonalized(self.space, self._rows[:count], vector)
            if norm > 1e-8 * before:
                return vector / norm

    def _drawn(self) -> DistArray:
        mesh, n = self.space.mesh, self.space.length
        x = self._random.standard_normal(n, comm=mesh)
        if self._rows.dtype.kind != "c":
            return x
        return DistArray(mesh, x.layout, x.shape, x.local + 1j * self._random.standard_normal(n, comm=mesh).local)

    def expanded(self) -> tuple[Host, Host, Host]:
        """Steps until the basis is full. Eigenvalues and eigenvectors of the small matrix, and the residuals of the large one's."""
        size = len(self._small)
        for j in range(self._count, size):
            w, coefficients, norm, before = orthogonalized(self.space, self._rows[: j + 1], self._matrix(self._rows[j]))
            self._small[j, j] = coefficients[j].real
            over = norm <= 10 * self.eps * before
            self._rest = 0.0 if over else norm
            if j + 1 < size:
                self._small[j, j + 1] = self._small[j + 1, j] = self._rest
                self._rows[j + 1] = self._fresh(j + 1) if over else w / norm
            elif not over:
                self._rows[size] = w / norm
        pairs = from_root(self.space.mesh, (size + 1, size), np.float64, lambda: np.vstack(np.linalg.eigh(self._small)))
        return pairs[0], pairs[1:], self._rest * np.abs(pairs[-1])

    def restart(self, values: Host, vectors: Host, kept: Host) -> None:
        """Keep some eigenvectors, and what was left of the last step."""
        count = len(kept)
        self._rows[:count] = vectors[:, kept].T.astype(self.real) @ self._rows[:-1]
        self._small[...] = 0
        self._small[np.arange(count), np.arange(count)] = values[kept]
        self._small[count, :count] = self._small[:count, count] = self._rest * vectors[-1, kept]
        self._rows[count] = self._rows[-1] if self._rest > 0 else self._fresh(count)
        self._count = count

    def ritz(self, vectors: Host) -> DistArray:
        """Eigenvectors of the matrix from those of the small one."""
        return self.space.result(self._rows[:-1].T @ vectors.astype(self.real))

    def kept(self, count: int) -> DistArray:
        """The first vectors of the basis."""
        return self.space.result(np.ascontiguousarray(self._rows[:count].T))
