"""Reductions are NumPy's, over divided axes and others, the same on every rank."""

from __future__ import annotations

import itertools
import math
from unittest.mock import patch

import array_api_strict
import numpy as np
import pytest
from against_numpy import close, layouts, same

import mpicluster.array as xp
from mpicluster.array import statistics

pytestmark = pytest.mark.spmd

SHAPES = [(), (1,), (7,), (2, 3), (5, 1, 3)]


def axes_of(ndim):
    return [None, *range(-1, ndim), *itertools.combinations(range(ndim), 2), ()] if ndim else [None, ()]


def values_of(shape, dtype):
    values = np.random.default_rng(len(shape)).integers(0, 5, shape).astype(dtype)
    return values + np.asarray({"f": 0.25, "c": 0.25 + 0.5j}.get(values.dtype.kind, 0), dtype)


def cases(size, others):
    """Arrays of every shape and layout, of some types in one shape and few layouts, with NumPy's."""
    for shape in SHAPES:
        values = values_of(shape, np.float64)
        for layout in layouts(shape, size):
            yield values, xp.asarray(values, layout=layout)
    for dtype in others:
        values = values_of((2, 3), dtype)
        for layout in (xp.Block(0), xp.Block(1)):
            yield values, xp.asarray(values, layout=layout)


def test_sums_products_extremes_and_truth(comm):
    for values, x in cases(comm.size, ("float32", "complex128", "int8", "uint8", "bool")):
        for i, axis in enumerate(axes_of(values.ndim)):
            options = {"axis": axis, "keepdims": i % 2 == 0}
            close(xp.sum(x, **options), np.sum(values, **options))
            same(xp.max(x, **options), np.max(values, **options))
            same(xp.count_nonzero(x, **options), np.sum(values != 0, **options))
        for axis in (None, -1) if values.ndim else (None, ()):
            close(xp.prod(x, axis=axis), np.prod(values, axis=axis))
            same(xp.min(x, axis=axis), np.min(values, axis=axis))
            same(xp.all(x, axis=axis), np.all(values, axis=axis))
            same(xp.any(x, axis=axis), np.any(values, axis=axis))


def test_means_and_variances(comm):
    for values, x in cases(comm.size, ("float32", "complex64", "int8", "bool")):
        for axis in axes_of(values.ndim):
            close(xp.mean(x, axis=axis), np.mean(values, axis=axis))
            close(xp.var(x, axis=axis, correction=0.5), np.var(values, axis=axis, ddof=0.5))
            close(xp.std(x, axis=axis, keepdims=True), np.std(values, axis=axis, keepdims=True))
    with np.errstate(all="ignore"):
        x = xp.asarray([1.0, 2.0])
        same(xp.var(x, correction=2), np.asarray(np.inf))
        same(xp.var(x[:1], correction=1), np.asarray(np.nan))


def test_a_variance_is_exact_far_from_zero(comm):
    """Relative error below kappa u, kappa = mean / deviation = 5e8, where the sum of squares less that of the sum has no digit left."""
    values = 1e9 + np.arange(1000) % 7
    np.testing.assert_allclose(float(xp.var(xp.asarray(values))), np.var(np.arange(1000) % 7), rtol=5e8 * 2.0**-53)


def test_large_sums_are_as_exact_as_documented_and_warn_as_numpy_does(comm):
    n = 70_001 * comm.size
    values = np.random.default_rng(5).standard_normal((n, 3)) * 10.0 ** np.arange(-8, 10, 6)
    bound = (2048 + np.log2(values.size)) * np.finfo(float).eps * np.abs(values).sum()
    for layout in (xp.Block(0), xp.BlockCyclic(0, 7), xp.Replicated()):
        x = xp.asarray(values, layout=layout)
        for each in (x, x.T, x[:, ::2]):
            exact = math.fsum(np.asarray(each).ravel())
            assert abs(float(xp.sum(each)) - exact) <= bound
            assert abs(float(xp.mean(each)) - exact / each.size) <= bound / each.size
            assert xp.sum(each, keepdims=True).shape == (1, 1)
    assert xp.sum(x, dtype=xp.float32).dtype == np.float32
    for special, kind in ((np.inf, "inf"), (-np.inf, "-inf"), (np.nan, "nan"), (-0.0, "0.0")):
        flat = np.full(n, -0.0)
        flat[n // 2] = special
        assert str(float(xp.sum(xp.asarray(flat)))) == kind == str(float(flat.sum()))
    huge = xp.full(n, 1e308)
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert float(xp.sum(huge)) == np.inf


def test_types_of_sums(comm):
    for kind, total in [("int8", "int64"), ("uint16", "uint64"), ("bool", "int64"), ("float32", "float32"), ("complex64", "complex64")]:
        x = xp.ones(300, dtype=kind)
        assert xp.sum(x).dtype == xp.prod(x).dtype == xp.cumulative_sum(x).dtype == xp.cumulative_prod(x).dtype == np.dtype(total)
        assert complex(xp.sum(x)) == 300
    assert xp.sum(xp.ones(3, dtype="int8"), dtype=xp.float32).dtype == np.float32


def test_nan_and_infinity(comm):
    values = np.array([1.0, np.nan, np.inf, -np.inf, 2.0, 0.0])
    x = xp.asarray(values)
    assert np.isnan(float(xp.max(x)))
    assert np.isnan(float(xp.min(x)))
    assert np.isnan(float(xp.sum(x)))
    assert float(xp.max(x[2:])) == np.inf
    assert float(xp.min(x[2:])) == -np.inf
    with np.errstate(all="ignore"):
        assert np.isnan(float(xp.var(x[2:])))


def test_nothing_to_reduce(comm):
    for layout in layouts((0, 3), comm.size):
        x = xp.zeros((0, 3), layout=layout)
        assert float(xp.sum(x)) == 0
        assert float(xp.prod(x)) == 1
        assert bool(xp.all(x))
        assert not bool(xp.any(x))
        same(xp.sum(x, axis=0), np.zeros(3))
        same(xp.max(x, axis=1), np.zeros(0))
        same(xp.mean(x, axis=0), np.full(3, np.nan))
        same(xp.var(x, axis=0), np.full(3, np.nan))
        same(xp.std(xp.astype(x, xp.complex64)), np.asarray(np.nan, np.float32))
        same(xp.var(x, axis=1), np.zeros(0))
        for f in (xp.max, xp.min):
            with pytest.raises(ValueError, match="zero-size array"):
                f(x)
            with pytest.raises(ValueError, match="zero-size array"):
                f(x, axis=0)
    with pytest.raises(ValueError, match="zero-size array"):  # also where some ranks have rows
        xp.max(xp.zeros((2, 0)), axis=1)


def test_what_is_wrong_is_wrong_on_every_rank(comm):
    x = xp.ones((3, 2))
    for axis, error in [(2, np.exceptions.AxisError), ((0, 0), ValueError), ((0, 1, 2), ValueError)]:
        for f in (xp.sum, xp.max, xp.var, xp.count_nonzero):
            with pytest.raises(error):
                f(x, axis=axis)
    with pytest.raises(ValueError, match="needs an axis"):
        xp.cumulative_sum(x)
    with pytest.raises(ValueError, match="at least one dim"):
        xp.diff(xp.asarray(1.0))
    with pytest.raises(ValueError, match="non-negative"):
        xp.diff(x, n=-1)
    assert float(xp.sum(x)) == 6


def test_every_rank_has_the_same_bits(comm):
    values = np.random.default_rng(3).standard_normal((8, 200_000))
    for result in (xp.sum(xp.asarray(values[0])), xp.sum(xp.asarray(values), axis=0), xp.var(xp.asarray(values[:, :5000]), axis=0)):
        assert isinstance(result.layout, xp.Replicated)
        assert len(set(comm.allgather(result.local.tobytes()))) == 1


def test_one_message_where_the_divided_axis_goes_and_none_where_it_stays(comm):
    for layout in (xp.Block(0), xp.Block(0, (0,) * (comm.size - 1) + (9,)), xp.BlockCyclic(0, 2)):
        x = xp.ones((9, 4), layout=layout)
        for function in (xp.sum, xp.max, xp.mean, xp.var, xp.argmax if isinstance(layout, xp.Block) else xp.any):
            x.mesh.traffic.clear()
            function(x, axis=0)
            function(x) if function is not xp.argmax else None
            assert x.mesh.traffic.messages == ({"allgather": 1 + (function is not xp.argmax)} if comm.size > 1 else {})
    for x in (xp.ones((9, 4)), xp.ones((4, 9)).T):
        x.mesh.traffic.clear()
        axis = 1 - x.layout.axis
        for function in (xp.sum, xp.max, xp.mean, xp.var, xp.argmax, xp.sort, xp.argsort, xp.cumulative_sum, xp.diff):
            function(x, axis=axis)
        assert not x.mesh.traffic.messages


def test_a_large_result_is_divided(comm):
    """Above the bound, a result over the divided axis is not replicated; ranks without elements have no say in it."""
    values = np.random.default_rng(1).integers(-9, -1, (8, 50))
    with patch.object(statistics, "REPLICATED_UP_TO", 64):
        for layout in (xp.Block(0), xp.Block(0, (8,) + (0,) * (comm.size - 1)), xp.Block(0, (0,) * (comm.size - 1) + (8,))):
            x = xp.asarray(values, layout=layout)
            for result, expected in [
                (xp.sum(x, axis=0), values.sum(0)),
                (xp.max(x, axis=0), values.max(0)),
                (xp.argmax(x, axis=0, keepdims=True), values.argmax(0, keepdims=True)),
                (xp.argmin(x, axis=0), values.argmin(0)),
            ]:
                assert isinstance(result.layout, xp.Block) or comm.size == 1
                same(result, expected)
            close(xp.var(x, axis=0), values.var(0))


def test_a_long_fold_leaves_out_ranks_without_elements(comm):
    x = xp.asarray(-np.ones((1, 200_000)), layout=xp.Block(0))
    assert float(xp.max(xp.max(x, axis=0))) == -1


def test_cumulative(comm):
    shapes = [((1,), "int8"), ((7,), "float64"), ((0,), "float64"), ((9,), "uint16"), ((3, 4, 2), "float64"), ((9, 1), "complex64")]
    for bound, (shape, dtype) in itertools.product((0, 1 << 20), shapes):
        values = values_of(shape, dtype)
        for layout in layouts(shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for axis, initial in itertools.product(range(values.ndim), (False, True)):
                with patch.object(statistics, "REPLICATED_UP_TO", bound):
                    for name in ("cumulative_sum", "cumulative_prod"):
                        result = getattr(xp, name)(x, axis=axis - values.ndim, include_initial=initial)
                        close(result, getattr(np, name)(values, axis=axis, include_initial=initial))
                        assert getattr(result.layout, "sizes", None) is None
    x = xp.arange(2_000_000, dtype=xp.int32)
    x.mesh.traffic.clear()
    assert int(xp.cumulative_sum(x)[-1]) == 1_999_999 * 1_000_000
    assert sum(x.mesh.traffic.nbytes.values()) < 100


def test_differences(comm):
    for shape in [(7,), (1,), (5, 4), (2, 9), (0, 2)]:
        values = np.random.default_rng(1).integers(0, 100, shape)
        for layout in layouts(shape, comm.size):
            x = xp.asarray(values, layout=layout)
            for axis, n in itertools.product(range(values.ndim), (0, 1, 2, 9)):
                same(xp.diff(x, axis=axis, n=n), np.diff(values, axis=axis, n=n))
            ends = values[:1], values[:2]
            same(xp.diff(x, axis=0, prepend=x[:1], append=ends[1]), np.diff(values, axis=0, prepend=ends[0], append=ends[1]))
            same(xp.diff(x, prepend=3), np.diff(values, prepend=3))
    same(xp.diff(xp.asarray([True, False, False])), np.array([True, False]))
    with pytest.raises(ValueError, match="dimension"):
        xp.diff(xp.ones((3, 4)), prepend=xp.ones((2, 1)))
    x = xp.arange(1000.0)
    x.mesh.traffic.clear()
    xp.diff(x, n=3)
    assert sum(x.mesh.traffic.nbytes.values()) <= 2 * 3 * 8


def test_blocks_of_another_library_stay_of_it(comm):
    values = np.arange(5 * comm.size, dtype=np.float64)
    x = xp.from_local(array_api_strict.asarray(values[5 * comm.rank : 5 * comm.rank + 5]))
    results = {
        f: f(x)
        for f in (xp.sum, xp.max, xp.mean, xp.var, xp.std, xp.any, xp.count_nonzero, xp.argmax, xp.sort, xp.argsort, xp.cumulative_sum)
    }
    for f in (xp.diff, xp.unique_values):
        results[f] = f(x)
    for f, result in results.items():
        assert isinstance(result.local, type(x.local)), f
    assert float(results[xp.sum]) == values.sum()
    np.testing.assert_array_equal(np.asarray(results[xp.cumulative_sum]), np.cumsum(values))
