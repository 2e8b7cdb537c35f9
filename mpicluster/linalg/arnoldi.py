"""Systems of linear equations with any square matrix: GMRES, which keeps an orthonormal basis of all it has seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.linalg.systems import System, check_tolerances, system
from mpicluster.linalg.vectors import orthogonalized, square

__all__ = ["gmres"]

Host = NDArray[Any]


def gmres(
    A: Any,  # noqa: N803 - SciPy's names
    b: Any,
    *,
    x0: Any = None,
    rtol: float = 1e-5,
    atol: float = 0.0,
    restart: int | None = None,
    maxiter: int | None = None,
    M: Any = None,  # noqa: N803
    callback: Callable[[Any], Any] | None = None,
    callback_type: str = "pr_norm",
) -> tuple[DistArray, int]:
    """Solve ``A x = b`` by the generalised minimal residual method, with restarts.

    ``A``, ``M``
        the matrix, and a preconditioner that approximates its inverse, applied from the left: see `operators`;
    ``b``
        the right side, (n,) or (n, 1);
    ``x0``
        where to begin; zero, if not given;
    ``rtol``, ``atol``
        it ends when ``norm(b - A x) <= max(rtol * norm(b), atol)``, by the true residual, which is found at each restart;
    ``restart``
        iterations from one restart to the next: 20, if not given, and n at most;
    ``maxiter``
        at most so many restarts: 10 n, if not given;
    ``callback``, ``callback_type``
        on all ranks, ``"pr_norm"``: is given the norm of the preconditioned residual, as part of that of ``b``, after each iteration;
        ``"x"``: the iterate, after each restart.

    Returns the solution, of the shape of ``b`` in even blocks, and 0; or the last iterate and ``maxiter``.

    Each iteration: one application of the matrix and of the preconditioner, and two folds of ``j + 1`` numbers in the j-th since the
    restart; a restart: one more of both, and a fold of 2 numbers. Memory: ``restart + 5`` blocks like that of ``b``.

    Saad and Schultz, "GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems", SIAM J. Sci. Stat. Comput.
    7(3), 1986; with classical Gram-Schmidt twice. Backward stable, until a restart: Paige, Rozložník, Strakoš, SIAM J. Matrix Anal. Appl.
    28(1), 2006 (of modified Gram-Schmidt, than which this is no less orthogonal).

    Raises
    ------
    ValueError
        the matrix is not square, shapes do not fit, a tolerance is negative, or ``callback_type`` is another word.
    """
    check_tolerances(rtol, atol)
    if callback_type not in ("x", "pr_norm"):
        raise ValueError(f"callback_type is 'x' or 'pr_norm', not {callback_type!r}")
    s = system(A, b, x0, M)
    n = s.space.length
    limit, length = 10 * n if maxiter is None else maxiter, min(20 if restart is None else restart, n)
    if length < 1 and n:
        raise ValueError(f"restart={restart} iterations are none")
    z = s.precondition(s.b)
    norm_b, norm_mb = (math.sqrt(v) for v in s.space.numbers(square(s.b), square(z)))
    if norm_b == 0:
        s.x[...] = 0
        return s.solution(), 0
    tolerance = max(atol, rtol * norm_b)
    residual, norm_z = norm_b, norm_mb
    if not s.from_zero:
        z, residual, norm_z = _residual(s)
    note = (lambda value: callback(value / norm_b)) if callback is not None and callback_type == "pr_norm" else None
    slack, aim = 1.0, norm_mb * min(1.0, tolerance / norm_b)
    for _ in range(limit):
        if residual <= tolerance or not math.isfinite(residual):
            break
        reached, exact = _cycle(s, z, norm_z, length, aim, note)
        z, residual, norm_z = _residual(s)
        if callback is not None and callback_type == "x":
            callback(s.vector())
        if exact:
            break
        # the preconditioned residual is what falls; how far it must fall for the true one to be small is learnt as it goes
        slack = max(s.eps, 0.25 * slack) if reached <= aim else min(1.0, 1.5 * slack)
        aim = reached * min(slack, tolerance / residual) if residual else 0.0
    return s.solution(), 0 if residual <= tolerance else max(1, limit)


def _residual(s: System) -> tuple[Host, float, float]:
    """The preconditioned residual, the norm of the residual, and its own."""
    r = s.b - s.matrix(s.x)
    z = s.precondition(r)
    rr, zz = s.space.numbers(square(r), square(z))
    return z, math.sqrt(rr), math.sqrt(zz)


def _cycle(s: System, z: Host, norm: float, length: int, aim: float, note: Callable[[float], Any] | None) -> tuple[float, bool]:
    """Iterations from one restart to the next. The norm of the preconditioned residual, and whether nothing more can be gained."""
    if norm == 0:
        return 0.0, True
    basis = np.empty((length + 1, len(z)), z.dtype)
    basis[0] = z / norm
    triangle = np.zeros((length, length), z.dtype)
    right = np.zeros(length + 1, z.dtype)
    right[0] = norm
    rotations: list[tuple[float, complex]] = []
    exact, k = False, 0
    for k in range(1, length + 1):
        w = s.precondition(s.matrix(basis[k - 1]))
        w, column, below, before = orthogonalized(s.space, basis[:k], w)
        exact = not below > s.eps * before
        if not exact:
            basis[k] = w / below
        column = np.append(column, 0.0 if exact else below)
        for i, (c, sine) in enumerate(rotations):
            column[i], column[i + 1] = c * column[i] + sine * column[i + 1], -np.conj(sine) * column[i] + c * column[i + 1]
        c, sine, diagonal = _rotation(column[k - 1].item(), float(column[k].real))
        rotations.append((c, sine))
        triangle[:k, k - 1] = column[:k]
        triangle[k - 1, k - 1] = diagonal
        right[k], right[k - 1] = -np.conj(sine) * right[k - 1], c * right[k - 1]
        if note is not None:
            note(float(abs(right[k])))
        if abs(right[k]) <= aim or exact:
            break
    s.x += _back_substituted(triangle[:k, :k], right[:k]) @ basis[:k]
    s.from_zero = False
    return float(abs(right[k])), exact


def _rotation(a: complex, b: float) -> tuple[float, complex, complex]:
    """c, s and r with ``[[c, s], [-conj(s), c]] [a, b] = [r, 0]``."""
    if a == 0:
        return 0.0, 1.0, b
    size = math.hypot(abs(a), b)
    phase = a / abs(a)
    return abs(a) / size, phase * b / size, phase * size


def _back_substituted(triangle: Host, right: Host) -> Host:
    """The solution of a triangular system; 0 in the place of a diagonal that is 0, as of a singular matrix."""
    y = right.copy()
    for i in range(len(y) - 1, -1, -1):
        y[i] = y[i] / triangle[i, i] if triangle[i, i] != 0 else 0
        y[:i] -= y[i] * triangle[:i, i]
    return y
