"""The polar decomposition of a square matrix that is too large for one rank, by products, QR and Cholesky factors of divided matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block
from mpicluster.linalg.cholesky_factors import solve_positive
from mpicluster.linalg.householder import HouseholderQR, panels_of_columns
from mpicluster.linalg.multiplication import product
from mpicluster.linalg.norms import vector_norm
from mpicluster.linalg.panels import adjoint, transposed, working_copy

__all__ = ["polar"]

Matrix = NDArray[Any]
#: Up to this weight, an iteration is done by Cholesky factors: I + c X^H X has no larger condition number.
_BY_CHOLESKY_UP_TO = 100


def polar(a: DistArray) -> tuple[DistArray, DistArray, bool]:
    """U and H with ``a = U H``, H Hermitian and positive semidefinite; and whether U is unitary.

    ``a``
        square, in blocks of rows, of a type of BLAS, and finite; its norm should be near 1.

    U is not unitary if singular values are smaller than the rounding errors of ``a``: then it is nearly so on the vectors of the others.

    QDWH: a rational iteration that brings all singular values to 1, in at most 6 steps in double precision (Nakatsukasa, Bai, Gygi,
    "Optimizing Halley's iteration for computing the matrix polar decomposition", SIAM J. Matrix Anal. Appl. 31(5), 2010; Nakatsukasa and
    Higham, "Stable and efficient spectral divide and conquer algorithms for the symmetric eigenvalue decomposition and the SVD", SIAM J.
    Sci. Comput. 35(3), 2013). The first two or three steps by QR factors of matrices of twice as many rows, the others by Cholesky factors.
    Memory: about eight times that of ``a`` / p.
    """
    n, eps = a.shape[0], float(np.finfo(a.dtype).eps)
    size = float(vector_norm(a))
    if size == 0:
        return _identity(a), a, True
    with a.mesh.preparing(a.nbytes):
        x = DistArray(a.mesh, a.layout, a.shape, a.local / np.asarray(size, a.local.real.dtype))
    low = eps / 4
    while abs(1 - low) > 5 * eps:
        wa, wb, wc = _weights(low)
        low = min(1.0, low * (wa + wb * low * low) / (1 + wc * low * low))
        x = _by_cholesky(x, wa, wb, wc) if wc <= _BY_CHOLESKY_UP_TO else _by_qr(x, wa, wb, wc)
    unitary = abs(float(vector_norm(x)) ** 2 - n) <= 100 * n * eps
    h = product(adjoint(x), a).redistribute(a.layout)
    return x, _combined(h, 0.5, adjoint(h), 0.5), unitary


def _identity(a: DistArray) -> DistArray:
    assert isinstance(a.layout, Block)
    first = a.layout.bounds(a.shape, a.mesh.size)[a.mesh.rank]
    with a.mesh.preparing(a.nbytes):
        return DistArray(a.mesh, a.layout, a.shape, np.eye(len(a.local), a.shape[1], first, dtype=a.dtype))


def _weights(low: float) -> tuple[float, float, float]:
    """The best weights a, b, c of ``x (a + b x**2) / (1 + c x**2)`` for singular values from ``low`` to 1."""
    d = (4 * (1 - low * low) / low**4) ** (1 / 3)
    a = math.sqrt(1 + d) + math.sqrt(8 - 4 * d + 8 * (2 - low * low) / (low * low * math.sqrt(1 + d))) / 2
    b = (a - 1) ** 2 / 4
    return a, b, a + b - 1


def _combined(x: DistArray, factor: float, y: DistArray, other: float) -> DistArray:
    """``factor x + other y``, in the layout of x."""
    real, y = blocks.host(x.local).real.dtype.type, y.redistribute(x.layout)
    with x.mesh.preparing(x.nbytes):
        return DistArray(x.mesh, x.layout, x.shape, real(factor) * x.local + real(other) * y.local)


def _by_qr(x: DistArray, a: float, b: float, c: float) -> DistArray:
    """One step, by ``[sqrt(c) X; I] = [Q1; Q2] R``: the result is ``b/c X + (a - b/c) / sqrt(c) Q1 Q2^H``."""
    mesh, n = x.mesh, x.shape[0]
    panels = panels_of_columns(mesh, n, n)
    columns = working_copy(transposed(x), panels, x.dtype)
    with mesh.preparing(x.nbytes):
        both = np.zeros((len(columns), 2 * n), x.dtype)
    np.multiply(columns, math.sqrt(c), out=both[:, :n])
    both[np.arange(len(both)), n + panels.indices()] = 1
    del columns
    q = HouseholderQR(mesh, panels, both).form(n).local
    # which columns of Q1 and rows of Q2^H a rank has does not matter, if they are the same
    sizes = tuple(int(k) for k in mesh.gather_ints(panels.local)[:, 0])
    shares = Block(1, sizes).settled((n, n), mesh.size)
    q1, q2 = DistArray(mesh, shares, (n, n), q[:n]), DistArray(mesh, shares, (n, n), q[n:])
    return _combined(x, b / c, product(q1, adjoint(q2)), (a - b / c) / math.sqrt(c))


def _by_cholesky(x: DistArray, a: float, b: float, c: float) -> DistArray:
    """One step, by the Cholesky factors of ``Z = I + c X^H X``: the result is ``b/c X + (a - b/c) X Z^-1``."""
    gram = product(adjoint(x), x)
    z = _combined(_identity(x), 1, gram, c)
    del gram
    return _combined(x, b / c, adjoint(solve_positive(z, adjoint(x), z.dtype)), a - b / c)
