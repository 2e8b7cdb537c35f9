"""Systems of linear equations with a Hermitian matrix, by short recurrences: conjugate gradients and MINRES.

Parameters and results are those of ``scipy.sparse.linalg``. Vectors lie in the blocks of the matrix' rows, even ones as a rule; the
solution lies in even blocks. Each iteration applies the matrix once, and what it needs to know of whole vectors it learns by two folds of
a few numbers, whose bits are the same on all ranks: so all end in the same iteration. Nothing is printed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.linalg.systems import check_tolerances, system
from mpicluster.linalg.vectors import dot, square

__all__ = ["cg", "minres"]

Host = NDArray[Any]
Callback = Callable[[DistArray], Any] | None


def _quotient(a: Host, b: Host, where: Host) -> Host:
    """``a / b``, or 0."""
    return np.divide(a, b, out=np.zeros(np.shape(b), np.result_type(a, b)), where=where)


def cg(
    A: Any,  # noqa: N803 - SciPy's names
    b: Any,
    *,
    x0: Any = None,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,  # noqa: N803
    callback: Callback = None,
) -> tuple[DistArray, int]:
    """Solve ``A x = b`` by the method of conjugate gradients, for a Hermitian positive definite matrix.

    ``A``, ``M``
        the matrix, and a preconditioner that approximates its inverse and is of its kind: see `operators`;
    ``b``
        the right side (n,); or several as columns (n, k), which are solved at the same time, each by an iteration of its own;
    ``x0``
        where to begin; zero, if not given;
    ``rtol``, ``atol``
        a column is solved when ``norm(b - A x) <= max(rtol * norm(b), atol)``, by the residual of the recurrence;
    ``maxiter``
        at most so many iterations: 10 n, if not given;
    ``callback``
        is given the iterate, of which it must make a copy if it wants to keep it, after each iteration, on all ranks.

    Returns the solution, of the shape of ``b`` in even blocks, and 0; or the last iterate and the number of iterations, if it did not
    converge: because there were too many, or because ``p^H A p`` was 0 or not finite, so that a matrix is not positive definite.

    Each iteration: one application of the matrix and of the preconditioner, and two folds of 1 and 2 numbers for each column. Memory: five
    blocks like that of ``b``.

    Hestenes and Stiefel, 1952; Saad, Iterative Methods for Sparse Linear Systems, 2nd edition, algorithm 9.1. The error falls at least by
    ``(sqrt(K) - 1) / (sqrt(K) + 1)`` in each iteration, K being the condition number (theorem 6.29 there).

    Raises
    ------
    ValueError
        the matrix is not square, shapes do not fit, or a tolerance is negative.
    """
    check_tolerances(rtol, atol)
    s = system(A, b, x0, M, columns=True)
    (norm_b,) = (np.sqrt(part) for part in s.space.sums(square(s.b)))
    tolerance = np.maximum(atol, rtol * norm_b)
    if not s.from_zero:
        s.x[...] *= norm_b != 0  # the solution for a zero right side
    r = s.residual()
    z = s.precondition(r)
    rr, rz = s.space.sums(square(r), dot(r, z))
    open_ = ~(np.sqrt(rr) <= tolerance) & (norm_b != 0)
    broken = np.zeros_like(open_)
    p, done = z.copy(), 0
    limit = 10 * s.space.length if maxiter is None else maxiter
    while (open_ & ~broken).any() and done < limit:
        q = s.matrix(p)
        (pq,) = s.space.sums(dot(p, q))
        broken |= open_ & ~((pq != 0) & np.isfinite(pq))
        alpha = _quotient(rz, pq, open_ & ~broken)
        s.x += alpha * p
        r -= alpha * q
        z = s.precondition(r)
        before = rz
        rr, rz = s.space.sums(square(r), dot(r, z))
        done += 1
        if callback is not None:
            callback(s.vector())
        open_ = open_ & ~(np.sqrt(rr) <= tolerance)
        p *= _quotient(rz, before, open_ & (before != 0))
        p += z
    return s.solution(), done if open_.any() else 0


def minres(
    A: Any,  # noqa: N803
    b: Any,
    *,
    x0: Any = None,
    rtol: float = 1e-5,
    shift: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,  # noqa: N803
    callback: Callback = None,
) -> tuple[DistArray, int]:
    """Solve ``(A - shift I) x = b`` by the minimum residual method, for a Hermitian matrix that may be indefinite or singular.

    ``A``, ``M``
        the matrix, and a preconditioner, which must be positive definite: see `operators`;
    ``b``
        the right side, (n,) or (n, 1);
    ``x0``
        where to begin; zero, if not given;
    ``rtol``
        it ends when ``norm(r) <= rtol * norm(A) * norm(x)``, or, if there is no solution, ``norm(A r) <= rtol * norm(A) * norm(r)``, by
        the estimates of these that the method has;
    ``maxiter``, ``callback``
        as of `cg`; at most 5 n iterations, if not given.

    Returns the solution, or the one with the least residual, of the shape of ``b`` in even blocks, and 0; or the last iterate and
    ``maxiter``.

    Each iteration: one application of the matrix and of the preconditioner, and two folds of 2 numbers and 1. The norm of the iterate comes
    with the next iteration's first fold, so the last application of the matrix is not used. Memory: eight blocks like that of ``b``.

    Paige and Saunders, "Solution of sparse indefinite systems of linear equations", SIAM J. Numer. Anal. 12(4), 1975.

    Raises
    ------
    ValueError
        the matrix is not square, shapes do not fit, or the preconditioner or matrix shows not to be Hermitian (and the former definite).
    """
    check_tolerances(rtol, 0.0)
    s = system(A, b, x0, M)
    limit = 5 * s.space.length if maxiter is None else maxiter
    r1 = s.residual()
    y = s.precondition(r1)
    beta1, norm_b = s.space.numbers(dot(r1, y).real, square(s.b))
    if beta1 < 0:
        raise ValueError("indefinite preconditioner")
    if norm_b == 0:
        s.x[...] = 0
    if beta1 == 0 or norm_b == 0:
        return s.solution(), 0
    run = _Rotations(math.sqrt(beta1), s.eps, rtol)
    w, w2, r2 = np.zeros_like(s.b), np.zeros_like(s.b), r1
    for step in range(1, limit + 1):
        v = y / run.beta
        y = s.matrix(v)
        if shift:
            y = y - shift * v
        if step > 1:
            y = y - (run.beta / run.before) * r1
        alpha, xx = s.space.numbers(dot(v, y).real, square(s.x))
        if step > 1 and run.ends(math.sqrt(xx)):
            return s.solution(), 0
        y = y - (alpha / run.beta) * r2
        r1, r2 = r2, y
        y = s.precondition(r2)
        (beta,) = s.space.numbers(dot(r2, y).real)
        if beta < 0:
            raise ValueError("non-symmetric matrix")
        run.add(alpha, math.sqrt(beta))
        w, w2 = (v - run.old_epsilon * w2 - run.delta * w) / run.gamma, w
        s.x += run.phi * w
        if callback is not None:
            callback(s.vector())
        if run.exhausted(first=step == 1):
            return s.solution(), 0
    (xx,) = s.space.numbers(square(s.x))
    return s.solution(), 0 if limit and run.ends(math.sqrt(xx)) else limit


class _Rotations:
    """The QR factorisation of the tridiagonal matrix that MINRES makes, and what it tells of norms."""

    def __init__(self, beta: float, eps: float, rtol: float) -> None:
        #: off the diagonal, of this step and the one before
        self.beta, self.before = beta, 0.0
        #: what the step adds to the solution: ``phi w``, of which ``gamma w = v - old_epsilon w1 - delta w2``
        self.phi = self.gamma = self.delta = self.epsilon = self.old_epsilon = 0.0
        self._beta1, self._eps, self._rtol = beta, eps, rtol
        self._dbar, self._phibar, self._cs, self._sn = 0.0, beta, -1.0, 0.0
        #: squares of the entries of the matrix, and the largest and smallest diagonal entry of its factor
        self._squares, self._largest, self._smallest = 0.0, 0.0, math.inf
        self._root = 0.0

    def add(self, alpha: float, beta: float) -> None:
        """One more column: ``alpha`` on the diagonal, ``beta`` below it."""
        self.before, self.beta = self.beta, beta
        self._squares += alpha * alpha + self.before * self.before + beta * beta
        self.old_epsilon, self.epsilon = self.epsilon, self._sn * beta
        self.delta = self._cs * self._dbar + self._sn * alpha
        gbar = self._sn * self._dbar - self._cs * alpha
        self._dbar = -self._cs * beta
        self._root = math.hypot(gbar, self._dbar)
        self.gamma = max(math.hypot(gbar, beta), self._eps)
        self._cs, self._sn = gbar / self.gamma, beta / self.gamma
        self.phi = self._cs * self._phibar
        self._phibar *= self._sn
        self._largest, self._smallest = max(self._largest, self.gamma), min(self._smallest, self.gamma)

    def exhausted(self, *, first: bool) -> bool:
        """Whether there is nothing left in which to look for a solution."""
        return self.beta == 0 or (first and self.beta <= 10 * self._eps * self._beta1)

    def ends(self, norm_x: float) -> bool:
        """Whether the iterate, of this norm, is good enough, or as good as it gets."""
        norm_a = math.sqrt(self._squares)
        residual = self._phibar / (norm_a * norm_x) if norm_a * norm_x > 0 else math.inf
        normal = self._root / norm_a if norm_a > 0 else math.inf
        if residual <= max(self._rtol, self._eps / 2) or normal <= max(self._rtol, self._eps / 2):
            return True
        if self._largest >= 0.1 / self._eps * self._smallest:
            return True
        return norm_a * norm_x * self._eps >= self._beta1
