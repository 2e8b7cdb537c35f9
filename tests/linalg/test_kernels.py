"""BLAS and LAPACK in place, on parts of arrays, for each type."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import scipy.linalg
from dense_cases import KINDS, positive, random

from mpicluster.linalg import kernels

pytestmark = pytest.mark.parametrize("kind", list(KINDS))


def part(values):
    """The same values in the middle of a larger array, as a column-major view; what is round them is NaN."""
    m, n = values.shape
    whole = np.full((m + 4, n + 3), np.nan, values.dtype, order="F")
    view = whole[2 : m + 2, 1 : n + 1]
    view[...] = values
    return view, whole


def untouched(view, whole):
    rest = whole.copy()
    rest[2 : view.shape[0] + 2, 1 : view.shape[1] + 1] = np.nan
    return np.isnan(rest).all()


def close(a, b, kind):
    np.testing.assert_allclose(a, b, rtol=1e3 * np.finfo(kind).eps, atol=1e3 * np.finfo(kind).eps)


def test_products(kind):
    a, b, c = random((5, 7), kind), random((7, 4), kind, 1), random((5, 4), kind, 2)
    flips = {"N": lambda x: x, "T": lambda x: x.T, "C": lambda x: x.conj().T}
    for one, flip in flips.items():
        for other, flop in flips.items():
            target, whole = part(c)
            kernels.gemm(one, other, -2, part(flip(a))[0], part(flop(b))[0], 0.5, target)
            close(target, -2 * a @ b + 0.5 * c, kind)
            assert untouched(target, whole)
    target, _ = part(np.full((5, 4), np.nan, kind))
    kernels.gemm("N", "N", 1, part(a)[0], part(b)[0], 0, target)
    close(target, a @ b, kind)
    kernels.gemm("N", "N", 1, part(a[:, :0])[0], part(b[:0])[0], 0, target)
    assert not target.any()
    square = positive(5, kind)
    for uplo, keep in (("L", np.tril), ("U", np.triu)):
        for trans, matrix in (("N", a), ("C", a.conj().T)):
            target, whole = part(square)
            kernels.herk(uplo, trans, -1, part(matrix)[0], 1, target)
            close(keep(target), keep(square - a @ a.conj().T), kind)
            assert untouched(target, whole)


def test_triangles(kind):
    a, b = np.tril(random((6, 6), kind)) + 3 * np.eye(6, dtype=kind), random((6, 3), kind, 1)
    target, whole = part(b)
    kernels.trsm("L", "L", "C", "N", 2, part(a)[0], target)
    close(a.conj().T @ target, 2 * b, kind)
    assert untouched(target, whole)
    target, _ = part(b.T)
    kernels.trsm("R", "L", "N", "U", 1, part(a)[0], target)
    close(target @ (np.tril(a, -1) + np.eye(6)), b.T, kind)
    inverse, whole = part(a)
    assert kernels.trtri("L", "N", inverse) == 0
    close(inverse @ a, np.eye(6), kind)
    assert untouched(inverse, whole)
    assert kernels.trtri("L", "N", part(np.diag(np.array([1, 2, 0, 1], kind)))[0]) == 3


def test_factorisations(kind):
    for uplo in "LU":
        values = positive(6, kind)
        target, whole = part(values)
        assert kernels.potrf(uplo, target) == 0
        lower = np.tril(target) if uplo == "L" else np.triu(target).conj().T
        close(lower @ lower.conj().T, values, kind)
        assert untouched(target, whole)
    assert kernels.potrf("L", part(np.diag(np.array([1, -1, 1], kind)))[0]) == 2
    for shape in ((6, 6), (7, 3), (3, 7)):
        values = random(shape, kind)
        target, whole = part(values)
        pivots, info = kernels.getrf(target)
        assert info == 0
        assert untouched(target, whole)
        close(target, scipy.linalg.lu_factor(values)[0], kind)
        swapped, whole = part(values)
        kernels.laswp(swapped, pivots)
        k = min(shape)
        close((np.tril(target, -1)[:, :k] + np.eye(shape[0], k)) @ np.triu(target)[:k], swapped, kind)
        kernels.laswp(swapped, pivots, back=True)
        np.testing.assert_array_equal(swapped, values)
        assert untouched(swapped, whole)
    assert kernels.getrf(part(np.ones((3, 3), kind))[0])[1] == 2


def test_matrices_without_elements(kind):
    none = np.empty((0, 0), kind)
    assert kernels.potrf("L", none) == kernels.trtri("L", "N", none) == kernels.getrf(none)[1] == 0
    kernels.gemm("N", "N", 1, np.empty((0, 3), kind), np.empty((3, 2), kind, order="F"), 0, np.empty((0, 2), kind))
    kernels.trsm("L", "L", "N", "N", 1, none, np.empty((0, 2), kind))
    kernels.herk("L", "N", 1, np.empty((0, 2), kind), 0, none)
    kernels.laswp(np.empty((3, 0), kind), np.array([1], np.intc))


def test_what_does_not_fit_is_refused(kind):
    a = random((4, 4), kind)
    with pytest.raises(ValueError, match="columns in one piece"):
        kernels.gemm("N", "N", 1, a, a.T, 0, np.empty((4, 4), kind, order="F"))
    with pytest.raises(ValueError, match="columns in one piece"):
        kernels.potrf("L", a.T[:, ::-1])
    with pytest.raises(ValueError, match="do not fit"):
        kernels.gemm("N", "N", 1, a.T[:, :3], a.T, 0, a.T)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.potrf("L", a.T[:, :3])
    assert [kernels.is_columns(x) for x in (a, a.T, a.T[1:3, 1:], a.T[:, ::-1], a[:1], a[:, :1].T)] == [
        False,
        True,
        True,
        False,
        True,
        True,
    ]
    other = a.astype({"f": "d", "d": "f", "F": "D", "D": "F"}[kind])
    with pytest.raises(ctypes.ArgumentError, match="matrices of one call have one type"):
        kernels.gemm("N", "N", 1, other.T, a.T, 0, a.copy().T)
    with pytest.raises(TypeError, match="float16 is unsupported"):
        kernels.prefix(np.float16)
    with pytest.raises(ctypes.ArgumentError, match="cannot count to 4294967296"):
        kernels.routine(kernels.cython_blas, "copy", "ixixi")[kernels.prefix(kind)](2**32, a, 1, a, 1)
    with pytest.raises(ImportError, match="not as expected"):
        kernels.routine(kernels.cython_blas, "gemm", "cciii")


def test_other_routines_by_name(kind):
    """QR, with a workspace that LAPACK is asked for."""
    geqrf = kernels.routine(kernels.cython_lapack, "geqrf", "iixixxii")[kernels.prefix(kind)]
    values = random((6, 4), kind)
    target, _ = part(values)
    tau, size, info = np.zeros(4, kind), np.zeros(1, kind), ctypes.c_int()
    geqrf(6, 4, target, kernels.leading_dimension(target), tau, size, -1, info)
    work = np.zeros(int(size[0].real), kind)
    geqrf(6, 4, target, kernels.leading_dimension(target), tau, work, len(work), info)
    assert info.value == 0
    close(np.abs(np.triu(target)[:4]), np.abs(np.linalg.qr(values)[1]), kind)
