"""Least squares with a matrix of any shape, of which only products are known: LSQR."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist
from mpicluster.linalg.operators import Applied, aslinearoperator, mesh_for, spaces_of, type_of
from mpicluster.linalg.vectors import square

__all__ = ["LSQRResult", "lsqr"]

Host = NDArray[Any]
_EPS = float(np.finfo(np.float64).eps)


class LSQRResult(NamedTuple):
    """What `lsqr` returns, in SciPy's order."""

    #: the solution, in even blocks
    x: DistArray
    #: why it ended: 0: x = 0 is the solution; 1: it solves the equations, 2: the least squares problem, as well as was asked; 3: the
    #: condition number is above ``conlim``; 4, 5, 6: as 1, 2, 3, as well as can be; 7: too many iterations
    istop: int
    itn: int
    #: ``norm(b - A x)``, and the root of its square plus that of ``damp * (x - x0)``
    r1norm: float
    r2norm: float
    #: estimates: of the Frobenius norm and condition of ``[[A], [damp I]]``, of the norm of ``A^H r - damp**2 (x - x0)``, and of x
    anorm: float
    acond: float
    arnorm: float
    xnorm: float
    #: estimates of the diagonal of ``(A^H A + damp**2 I)^-1``, if they were asked for; else zeros
    var: DistArray


def lsqr(
    A: Any,  # noqa: N803 - SciPy's names
    b: Any,
    *,
    damp: float = 0.0,
    atol: float = 1e-6,
    btol: float = 1e-6,
    conlim: float = 1e8,
    iter_lim: int | None = None,
    calc_var: bool = False,
    x0: Any = None,
) -> LSQRResult:
    """The x with the least ``norm(b - A x)**2 + damp**2 norm(x - x0)**2``. The matrix may have any shape and rank.

    ``A``
        the matrix, of which the product of the adjoint is needed too: see `operators`;
    ``b``
        the right side, (m,) or (m, 1);
    ``atol``, ``btol``, ``conlim``
        how exact A and b are, relatively, and how ill-conditioned A may be: it ends when ``norm(r) <= btol norm(b) + atol norm(A)
        norm(x)``, when ``norm(A^H r) <= atol norm(A) norm(r)``, or when the condition number seems to be above ``conlim``;
    ``iter_lim``
        at most so many iterations: 2 n, if not given;
    ``calc_var``
        whether to estimate variances;
    ``x0``
        where to begin; zero, if not given.

    Each iteration: one product with the matrix, one with its adjoint, and two folds of 2 numbers and 1. Memory: three blocks of the length
    of ``b``, and six of that of ``x``.

    Paige and Saunders, "LSQR: an algorithm for sparse linear equations and sparse least squares", ACM Trans. Math. Softw. 8(1), 1982.

    Raises
    ------
    ValueError
        shapes do not fit.
    NotImplementedError
        the operator has no product of the adjoint.
    """
    operator = aslinearoperator(A)
    (m, n), mesh = operator.shape, mesh_for(operator, b, x0)
    given = as_dist(b, mesh)
    if given.shape not in ((m,), (m, 1)):
        raise ValueError(f"shapes of A {(m, n)} and b {given.shape} are incompatible")
    domain, results = spaces_of(operator, mesh)
    kind = np.result_type(type_of(operator, domain), np.dtype(given.dtype), np.float32)
    matrix = Applied(operator, domain, results, kind)
    right = results.block(given, kind).reshape(-1)
    x = np.zeros(domain.local, kind)
    u = right
    if x0 is not None:
        start = as_dist(x0, mesh)
        if start.shape not in ((n,), (n, 1)):
            raise ValueError(f"shapes of A {(m, n)} and x0 {start.shape} are incompatible")
        x = domain.block(start, kind).reshape(-1).copy()
        u = right - matrix(x)
    norm_b, beta = (math.sqrt(v) for v in results.numbers(square(right), square(u)))
    var = np.zeros(domain.local, x.real.dtype)
    v, alpha = np.zeros_like(x), 0.0
    if beta > 0:
        u = u / beta
        v = matrix.adjoint(u)
        (vv,) = domain.numbers(square(v))
        alpha = math.sqrt(vv)
    run = _Estimates(alpha, beta, norm_b, float(damp), float(atol), float(btol), float(conlim))
    limit = 2 * n if iter_lim is None else iter_lim
    if alpha * beta > 0:
        v = v / alpha
        w = v.copy()
        while not run.istop and run.itn < limit:
            u = matrix(v) - alpha * u
            uu, ww = results.numbers(square(u), square(w))
            beta = math.sqrt(uu)
            if beta > 0:
                u /= beta
                back = matrix.adjoint(u)
                v = back - beta * v
                (vv,) = domain.numbers(square(v))
                before, alpha = alpha, math.sqrt(vv)
                if alpha > 0:
                    v = v / alpha
            else:
                before = alpha
            along, turn = run.step(before, alpha, beta, ww, last=run.itn + 1 >= limit)
            x += along * w
            if calc_var:
                var += (w.real**2 + w.imag**2) / run.rho**2
            w = v + turn * w
    return LSQRResult(
        domain.result(x), run.istop, run.itn, run.r1norm, run.r2norm, run.anorm, run.acond, run.arnorm, run.xnorm, domain.result(var)
    )


class _Estimates:
    """The QR factorisation of the bidiagonal matrix that LSQR makes, and what it tells of norms; names are those of the paper."""

    def __init__(self, alpha: float, beta: float, norm_b: float, damp: float, atol: float, btol: float, conlim: float) -> None:
        self.istop = self.itn = 0
        self.anorm = self.acond = self.xnorm = 0.0
        self.r1norm = self.r2norm = beta
        self.arnorm = alpha * beta
        self.rho = 1.0
        self._norm_b, self._damp, self._atol, self._btol = norm_b, damp, atol, btol
        self._ctol = 1 / conlim if conlim > 0 else 0.0
        self._rhobar, self._phibar = alpha, beta
        self._psi_squares = self._inverse_squares = self._x_squares = 0.0
        self._z, self._cs2, self._sn2 = 0.0, -1.0, 0.0

    def step(self, before: float, alpha: float, beta: float, ww: float, *, last: bool) -> tuple[float, float]:
        """One more column. By how much of w the solution changes, and how much of w goes into the next.

        ``before``, ``alpha``, ``beta``: the coefficients of the bidiagonal matrix; ``ww``: the square of the norm of w.
        """
        self.itn += 1
        damp = self._damp
        if beta > 0:
            self.anorm = math.sqrt(self.anorm**2 + before**2 + beta**2 + damp**2)
        rhobar1 = math.hypot(self._rhobar, damp)
        psi = damp / rhobar1 * self._phibar if damp > 0 else 0.0
        phibar = self._rhobar / rhobar1 * self._phibar if damp > 0 else self._phibar
        if damp == 0:
            rhobar1 = self._rhobar
        self.rho = math.hypot(rhobar1, beta)
        cs, sn = rhobar1 / self.rho, beta / self.rho
        theta, self._rhobar = sn * alpha, -cs * alpha
        phi, self._phibar = cs * phibar, sn * phibar
        self._estimate(phi, theta, sn * phi, alpha, psi, ww)
        self._decide(last)
        return phi / self.rho, -theta / self.rho

    def _estimate(self, phi: float, theta: float, tau: float, alpha: float, psi: float, ww: float) -> None:
        self._inverse_squares += ww / self.rho**2
        delta, gambar = self._sn2 * self.rho, -self._cs2 * self.rho
        rhs = phi - delta * self._z
        self.xnorm = math.sqrt(self._x_squares + (rhs / gambar) ** 2)
        gamma = math.hypot(gambar, theta)
        self._cs2, self._sn2, self._z = gambar / gamma, theta / gamma, rhs / gamma
        self._x_squares += self._z**2
        self.acond = self.anorm * math.sqrt(self._inverse_squares)
        self._psi_squares += psi**2
        self.r2norm = math.sqrt(self._phibar**2 + self._psi_squares)
        self.arnorm = alpha * abs(tau)
        own = self.r2norm**2 - self._damp**2 * self._x_squares
        self.r1norm = math.copysign(math.sqrt(abs(own)), own) if self._damp > 0 else self.r2norm

    def _decide(self, last: bool) -> None:
        """The reason to end, if there is one: the lowest number of those that apply."""
        size = self.anorm * self.xnorm
        normal = self.arnorm / (self.anorm * self.r2norm + _EPS)
        inverse = 1 / (self.acond + _EPS)
        reasons = [
            (1, self.r2norm <= self._btol * self._norm_b + self._atol * size),
            (2, normal <= self._atol),
            (3, inverse <= self._ctol),
            (4, self.r2norm <= _EPS / 2 * (self._norm_b + size)),
            (5, 1 + normal <= 1),
            (6, 1 + inverse <= 1),
            (7, last),
        ]
        self.istop = next((number for number, applies in reasons if applies), 0)
