"""LAPACK for orthogonal factors, singular values and eigenvalues of one rank's matrices, as `kernels` has it for triangular factors.

Matrices are column-major views (see there). No messages.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.linalg.kernels import cython_lapack, leading_dimension, prefix, routine

__all__ = ["eigenpairs", "geqrt", "householder_vector", "secular_root", "singular_triplets", "tridiagonal_pairs", "tridiagonal_values"]

Matrix = NDArray[Any]
Vector = NDArray[Any]

#: Columns that are reduced one by one before what they do to the others is done by matrix products.
_INNER = 32
_REAL = {"s": np.float32, "d": np.float64, "c": np.float32, "z": np.float64}

_geqrt = routine(cython_lapack, "geqrt", "iiixixixi")
_larfg = routine(cython_lapack, "larfg", "ixxix")
_gesdd = routine(cython_lapack, "gesdd", "ciixirxixixiii/ciixirxixixirii")
_heevd = routine(cython_lapack, "syevd", "ccixirxiiii/ccixirxiriiii", "heevd")
_stevd = routine(cython_lapack, "stevd", "cixxxixiiii", letters="sd")
_sterf = routine(cython_lapack, "sterf", "ixxi", letters="sd")
_laed4 = routine(cython_lapack, "laed4", "iixxxxxi", letters="sd")


def geqrt(a: Matrix) -> Vector:
    """R in place of the upper triangle of a matrix of any shape, and Householder's vectors, whose first element is 1, below.

    The scalar factors tau of ``H_j = I - tau_j v_j v_j^H``, with ``a = H_1 ... H_k R``. By panels, each of them recursively (Elmroth and
    Gustavson, IBM J. Res. Develop. 44(4), 2000). The diagonal of R is real.
    """
    m, n = a.shape
    k = min(m, n)
    if not k:
        return np.empty(0, a.dtype)
    nb = min(_INNER, k)
    t, work, info = np.empty((k, nb), a.dtype), np.empty(n * nb, a.dtype), ctypes.c_int(0)
    _geqrt[prefix(a.dtype)](m, n, nb, a, leading_dimension(a), t, nb, work, info)
    return t[np.arange(k), np.arange(k) % nb]


def householder_vector(x: Vector) -> tuple[float, Any]:
    """beta and tau such that ``(I - tau v v^H)^H x = (beta, 0, ..., 0)``, with v, whose first element is 1, in place of x."""
    tau = np.empty(1, x.dtype)
    _larfg[prefix(x.dtype)](len(x), x, x[1:] if len(x) > 1 else x, 1, tau)
    beta = float(x[0].real)
    x[0] = 1
    return beta, tau[0]


def _room(size: Any) -> int:
    """How much room a routine asked for: single precision may have rounded it down."""
    return int(np.nextafter(np.real(size), np.inf, dtype=np.real(size).dtype)) + 1


def singular_triplets(a: Matrix, *, vectors: str) -> tuple[Matrix, Vector, Matrix]:
    """U, the singular values in falling order, and V^H, of a matrix, which is lost. By divide and conquer.

    ``vectors``: ``S`` as many as there are singular values, ``A`` all, ``N`` none (then U and V^H are empty).

    Raises
    ------
    LinAlgError
        it did not converge, or the matrix has a NaN.
    """
    m, n = a.shape
    k, letter = min(m, n), prefix(a.dtype)
    columns, rows = {"S": (k, k), "A": (m, n), "N": (0, 0)}[vectors]
    s = np.empty(k, _REAL[letter])
    u = np.empty((columns, m if columns else 0), a.dtype).T
    vh = np.empty((n if rows else 0, rows), a.dtype).T
    if not k:
        np.copyto(u, np.eye(*u.shape))
        np.copyto(vh, np.eye(*vh.shape))
        return u, s, vh
    integers, info = np.empty(8 * k, np.intc), ctypes.c_int(0)
    complex_only = [np.empty(max(7 * k, (5 * k + 7) * k, (2 * max(m, n) + 2 * k + 1) * k), s.dtype)] if letter in "cz" else []

    def call(work: Vector, size: int) -> None:
        _gesdd[letter](
            vectors, m, n, a, leading_dimension(a), s, u, max(1, m), vh, max(1, rows), work, size, *complex_only, integers, info
        )  # fmt: skip

    query = np.empty(1, a.dtype)
    call(query, -1)
    call(np.empty(size := _room(query[0]), a.dtype), size)
    if info.value or np.isnan(s).any():
        raise np.linalg.LinAlgError("SVD did not converge")
    return u, s, vh


def eigenpairs(a: Matrix, *, uplo: str, vectors: bool) -> Vector:
    """The eigenvalues, rising, of a Hermitian matrix of which one triangle is looked at; the eigenvectors in place of it, else it is lost.

    By divide and conquer.

    Raises
    ------
    LinAlgError
        it did not converge, or the matrix has a NaN.
    """
    n, letter = len(a), prefix(a.dtype)
    w, info = np.empty(n, _REAL[letter]), ctypes.c_int(0)
    if not n:
        return w

    def call(work: Vector, real: Vector, integers: NDArray[np.intc], *sizes: int) -> None:
        complex_only = [real, sizes[1]] if letter in "cz" else []
        job = "V" if vectors else "N"
        _heevd[letter](job, uplo, n, a, leading_dimension(a), w, work, sizes[0], *complex_only, integers, sizes[2], info)

    work, real, integers = np.empty(1, a.dtype), np.empty(1, w.dtype), np.empty(1, np.intc)
    call(work, real, integers, -1, -1, -1)
    sizes = _room(work[0]), _room(real[0]) if letter in "cz" else 1, int(integers[0])
    call(np.empty(sizes[0], a.dtype), np.empty(sizes[1], w.dtype), np.empty(sizes[2], np.intc), *sizes)
    if info.value or np.isnan(w).any():
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    return w


def tridiagonal_pairs(d: Vector, e: Vector) -> tuple[Vector, Matrix]:
    """The eigenvalues, rising, and the eigenvectors, in Fortran's order, of a real symmetric tridiagonal matrix, by divide and conquer.

    ``d``, ``e``: its diagonal, and what is beside that.

    Raises
    ------
    LinAlgError
        it did not converge.
    """
    n = len(d)
    w, z, info = d.copy(), np.empty((n, n), d.dtype), ctypes.c_int(0)
    beside, size, count = np.append(e, 0).astype(d.dtype), 1 + 4 * n + n * n, 3 + 5 * n
    if n:
        _stevd[prefix(d.dtype)]("V", n, w, beside, z, n, np.empty(size, d.dtype), size, np.empty(count, np.intc), count, info)
    if info.value:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    return w, z.T


def tridiagonal_values(d: Vector, e: Vector) -> Vector:
    """The eigenvalues, rising, of a real symmetric tridiagonal matrix, by the QR algorithm without square roots.

    Raises
    ------
    LinAlgError
        it did not converge.
    """
    w, info = d.copy(), ctypes.c_int(0)
    if len(w):
        _sterf[prefix(d.dtype)](len(w), w, np.append(e, 0).astype(d.dtype), info)
    if info.value:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    return w


def secular_root(i: int, d: Vector, z: Vector, rho: float) -> tuple[int, float]:
    """The i-th eigenvalue (from 0) of ``diag(d) + rho z z^T``, as the index of the nearest pole and the distance from it.

    ``d`` rises strictly, ``z`` has no zeros and is of length 1, ``rho`` is positive; all are of float64. Which of the two poles beside it
    is nearer is exact, and the distance is relatively accurate (R.-C. Li, LAPACK Working Note 89, 1993).

    Raises
    ------
    LinAlgError
        it did not converge.
    """
    n = len(d)
    if n == 1:
        return 0, rho * float(z[0] ** 2)
    if n == 2:
        return _of_two(i, float(d[1] - d[0]), float(z[0]), float(z[1]), rho)
    delta, root, info = np.empty(n), np.empty(1), ctypes.c_int(0)
    _laed4["d"](n, i + 1, d, z, delta, rho, root, info)
    if info.value:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    pole = i if i == n - 1 or abs(delta[i]) <= abs(delta[i + 1]) else i + 1
    return pole, -float(delta[pole])


def _of_two(i: int, gap: float, z0: float, z1: float, rho: float) -> tuple[int, float]:
    """The roots of a quadratic equation, without cancellation."""
    both = rho * (z0 * z0 + z1 * z1)
    if i == 0 and gap + 2 * rho * (z1 * z1 - z0 * z0) > 0:
        b, c = gap + both, rho * z0 * z0 * gap
        return 0, 2 * c / (b + np.sqrt(abs(b * b - 4 * c)))
    b, c = both - gap, rho * z1 * z1 * gap
    root = float(np.sqrt(b * b + 4 * c))
    if i == 0:
        return 1, -2 * c / (b + root) if b > 0 else (b - root) / 2
    return 1, (b + root) / 2 if b > 0 else 2 * c / (root - b)
