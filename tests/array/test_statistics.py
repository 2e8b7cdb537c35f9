"""Reductions are NumPy's, over divided axes and others, the same on every rank."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_manipulation import layouts, same

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

SHAPES = [(), (1,), (7,), (2, 3), (5, 4, 3), (1, 6), (9, 1)]


def axes_of(ndim):
    single = list(range(-ndim, ndim))
    return [None, *single, *itertools.combinations(range(ndim), 2), ()]


def values_of(shape, dtype):
    values = np.random.default_rng(len(shape)).integers(0, 5, shape)
    return values.astype(dtype) + (
        np.asarray(0.25 + 0.5j * (np.dtype(dtype).kind == "c")).astype(dtype) if np.dtype(dtype).kind in "fc" else 0
    )


def close(x, values):
    assert x.shape == values.shape
    assert x.dtype == values.dtype, (x.dtype, values.dtype)
    tolerance = {"f": 1e-5 if values.dtype == np.float32 else 1e-13, "c": 1e-5 if values.dtype == np.complex64 else 1e-13}
    np.testing.assert_allclose(
        np.asarray(x), values, rtol=tolerance.get(values.dtype.kind, 0), atol=1e-6 if values.dtype.itemsize < 8 else 1e-14
    )


def test_sums_products_extremes_and_truth(comm):
    others = itertools.product([(7,), (2, 3)], ["float32", "complex128", "int8", "uint8", "bool"])
    for shape, dtype in [*((shape, "float64") for shape in SHAPES), *others]:
        values = values_of(shape, dtype)
        for layout in layouts(shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for axis, keep in [*((a, False) for a in axes_of(values.ndim)), (None, True), *((a, True) for a in range(values.ndim))]:
                kind = {"i": np.int64, "b": np.int64, "u": np.uint64}.get(values.dtype.kind, values.dtype)
                close(xp.sum(x, axis=axis, keepdims=keep), np.asarray(np.sum(values, axis=axis, keepdims=keep, dtype=kind)))
                close(xp.prod(x, axis=axis, keepdims=keep), np.asarray(np.prod(values, axis=axis, keepdims=keep, dtype=kind)))
                same(xp.all(x, axis=axis, keepdims=keep), np.asarray(np.all(values, axis=axis, keepdims=keep)))
                same(xp.any(x, axis=axis, keepdims=keep), np.asarray(np.any(values, axis=axis, keepdims=keep)))
                if values.dtype.kind != "c":
                    same(xp.max(x, axis=axis, keepdims=keep), np.asarray(np.max(values, axis=axis, keepdims=keep)))
                    same(xp.min(x, axis=axis, keepdims=keep), np.asarray(np.min(values, axis=axis, keepdims=keep)))
                if axis != ():
                    count = np.asarray(np.count_nonzero(values, axis=axis, keepdims=keep))
                    same(xp.count_nonzero(x, axis=axis, keepdims=keep), count.astype(np.int64))


def test_means_and_variances(comm):
    for shape, dtype in [*((shape, "float64") for shape in SHAPES), ((7,), "float32"), ((2, 3), "float32"), ((7,), "complex64")]:
        values = values_of(shape, dtype) + np.asarray(100, dtype)
        for layout in layouts(shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for axis in axes_of(values.ndim):
                close(xp.mean(x, axis=axis), np.asarray(np.mean(values, axis=axis)))
                n = int(
                    np.prod([values.shape[a] for a in ([axis] if isinstance(axis, int) else range(values.ndim) if axis is None else axis)])
                )
                for correction in (0, 1):
                    if n > correction:
                        close(xp.var(x, axis=axis, correction=correction), np.asarray(np.var(values, axis=axis, ddof=correction)))
                        close(xp.std(x, axis=axis, correction=correction), np.asarray(np.std(values, axis=axis, ddof=correction)))


def test_a_variance_is_exact_far_from_zero(comm):
    """Relative error below kappa u, kappa = mean / deviation = 5e8, where the sum of squares less that of the sum has no digit left."""
    values = 1e9 + np.arange(1000) % 7
    np.testing.assert_allclose(float(xp.var(xp.asarray(values))), np.var(np.arange(1000) % 7), rtol=5e8 * 2.0**-53)


def test_nan_and_infinity(comm):
    values = np.array([1.0, np.nan, np.inf, -np.inf, 2.0, 0.0])
    x = xp.asarray(values)
    assert np.isnan(float(xp.max(x)))
    assert np.isnan(float(xp.min(x)))
    assert np.isnan(float(xp.sum(x)))
    assert float(xp.max(x[2:])) == np.inf
    assert float(xp.min(x[2:])) == -np.inf
    assert np.isnan(float(xp.mean(xp.zeros(0))))


def test_nothing_to_reduce(comm):
    x = xp.zeros((0, 3))
    assert float(xp.sum(x)) == 0
    assert float(xp.prod(x)) == 1
    assert bool(xp.all(x))
    assert not bool(xp.any(x))
    same(xp.sum(x, axis=0), np.zeros(3))
    same(xp.max(x, axis=1), np.zeros(0))
    for f in (xp.max, xp.min):
        with pytest.raises(ValueError, match="zero-size array"):
            f(x)
        with pytest.raises(ValueError, match="zero-size array"):
            f(x, axis=0)


def test_every_rank_has_the_same_bits(comm):
    values = np.random.default_rng(3).standard_normal(10_007)
    total = xp.sum(xp.asarray(values)).local
    assert len({bytes(b) for b in comm.allgather(total.tobytes())}) == 1
    wide = xp.sum(xp.asarray(np.random.default_rng(3).standard_normal((8, 200_000))), axis=0)
    assert len(set(comm.allgather(wide.local.tobytes()))) == 1


def test_cumulative(comm):
    for shape, dtype in itertools.product([(1,), (7,), (0,), (5, 4, 3), (9, 1)], ["float64", "int8", "uint16", "complex64"]):
        values = values_of(shape, dtype)
        for layout in layouts(shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for axis, initial in itertools.product(range(-values.ndim, values.ndim), (False, True)):
                kind = {"i": np.int64, "u": np.uint64}.get(values.dtype.kind, values.dtype)
                for name in ("cumulative_sum", "cumulative_prod"):
                    want = getattr(np, name)(values, axis=axis, dtype=kind, include_initial=initial)
                    close(getattr(xp, name)(x, axis=axis, include_initial=initial), want)
    with pytest.raises(ValueError, match="required"):
        xp.cumulative_sum(xp.zeros((2, 2)))


def test_differences(comm):
    for shape in [(7,), (1,), (5, 4), (2, 9)]:
        values = np.random.default_rng(1).integers(0, 100, shape)
        for layout in layouts(shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for axis, n in itertools.product(range(values.ndim), (0, 1, 2)):
                same(xp.diff(x, axis=axis, n=n), np.diff(values, axis=axis, n=n))
            same(xp.diff(x, axis=0, prepend=x[:1], append=x[:1]), np.diff(values, axis=0, prepend=values[:1], append=values[:1]))


def test_a_large_result_is_divided(comm):
    """Above the bound, a result over the divided axis is not replicated."""
    from mpicluster.array import statistics

    bound, statistics.REPLICATED_UP_TO = statistics.REPLICATED_UP_TO, 64
    try:
        values = np.random.default_rng(1).integers(0, 100, (8, 50))
        x = xp.sum(xp.asarray(values), axis=0)
        assert isinstance(x.layout, xp.Block) or comm.size == 1
        same(x, values.sum(0))
    finally:
        statistics.REPLICATED_UP_TO = bound
