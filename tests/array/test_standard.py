"""The array API standard, function by function, against `array_api_strict`, from a client of one engine and of three.

Every function of the standard has a case here, or a reason in ``docs/array-api-gaps.md``.
"""

from __future__ import annotations

import enum
import inspect
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from hypothesis.extra.array_api import make_strategies_namespace

from mpicluster.client.arrays import signatures

with warnings.catch_warnings():
    warnings.simplefilter("ignore", HypothesisWarning)
    xps = make_strategies_namespace(strict)

GAPS = Path(__file__).parents[2] / "docs" / "array-api-gaps.md"
#: Not functions of arrays, or of the oracle itself.
NOT_FUNCTIONS = {"Device", "newaxis", "e", "inf", "nan", "pi", "ArrayAPIStrictFlags", "__version__", "__array_api_version__"}
NOT_FUNCTIONS |= {"get_array_api_strict_flags", "set_array_api_strict_flags", "reset_array_api_strict_flags", "__array_namespace_info__"}
TYPES = {"bool", "complex64", "complex128", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}

BOOL = ["bool"]
SIGNED = ["int8", "int32", "int64"]
INTEGRAL = [*SIGNED, "uint8", "uint64"]
REAL = ["float32", "float64"]
COMPLEX = ["complex64", "complex128"]
FLOATING = [*REAL, *COMPLEX]
NUMERIC = [*INTEGRAL, *FLOATING]
ORDERED = [*INTEGRAL, *REAL]
ALL = [*BOOL, *NUMERIC]

SHAPES = xps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def elements(kind: str, *, tame: bool = False) -> Any:
    """Values of a type; ``tame`` ones are neither huge, nor infinite or NaN."""
    dtype = np.dtype(kind)
    if kind == "bool":
        return st.booleans()
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return st.integers(max(info.min, -9), min(info.max, 9)) if tame else st.integers(int(info.min), int(info.max))
    if dtype.kind == "f":
        width = 32 if kind == "float32" else 64
        return st.floats(-8, 8, width=width) if tame else st.floats(width=width)
    width = 64 if kind == "complex64" else 128
    if tame:
        return st.complex_numbers(max_magnitude=8, width=width, allow_nan=False, allow_infinity=False)
    return st.complex_numbers(width=width, allow_nan=False, allow_infinity=False, max_magnitude=1e10)


class Drawing:
    """Draws operands for both namespaces."""

    def __init__(self, data: Any, xp: Any) -> None:
        self.data = data
        self.xp = xp

    def __call__(self, strategy: Any) -> Any:
        return self.data.draw(strategy)

    def values(self, kinds: Any, shape: Any = SHAPES, *, tame: bool = False) -> np.ndarray[Any, Any]:
        """An array of one of these types."""
        kind = self(st.sampled_from(kinds)) if isinstance(kinds, list) else kinds
        shape = shape if isinstance(shape, tuple) else self(shape)
        drawn = self(st.lists(elements(kind, tame=tame), min_size=math.prod(shape), max_size=math.prod(shape)))
        return np.array(drawn, dtype=kind).reshape(shape)

    def axis(self, ndim: int) -> int:
        return self(st.integers(-ndim, ndim - 1))

    def axes(self, ndim: int) -> Any:
        if not ndim:
            return None
        several = st.lists(st.integers(0, ndim - 1), min_size=1, max_size=ndim, unique=True).map(tuple)
        return self(st.one_of(st.none(), st.integers(-ndim, ndim - 1), several))

    def broadcasting(self, number: int) -> list[tuple[int, ...]]:
        return list(self(xps.mutually_broadcastable_shapes(number, max_dims=3, max_side=4)).input_shapes)


def both(xp: Any, value: Any) -> tuple[Any, Any]:
    """An operand for the oracle, and for us."""
    if isinstance(value, np.ndarray):
        return strict.asarray(value), xp.asarray(value)
    if isinstance(value, np.dtype):
        return getattr(strict, value.name), value
    if isinstance(value, list | tuple):
        pairs = [both(xp, v) for v in value]
        return type(value)(p[0] for p in pairs), type(value)(p[1] for p in pairs)
    return value, value


def as_numpy(value: Any) -> np.ndarray[Any, Any]:
    return np.asarray(value)


def alike(ours: Any, theirs: Any, tolerance: float = 0.0) -> None:
    """Both gave the same: shapes, types, and values up to rounding."""
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            alike(a, b, tolerance)
        return
    if not isinstance(theirs, type(strict.asarray(0))):
        assert ours == theirs
        return
    want, got = as_numpy(theirs), as_numpy(ours)
    assert ours.shape == got.shape == want.shape
    assert ours.dtype == got.dtype == want.dtype
    if want.dtype.kind not in "fc" or tolerance == 0.0:
        np.testing.assert_array_equal(got, want)
        return
    rounding = np.finfo(want.dtype).eps
    np.testing.assert_allclose(got, want, rtol=tolerance * rounding, atol=tolerance * rounding, equal_nan=True)


Case = Callable[[Drawing], tuple[tuple[Any, ...], dict[str, Any]]]
CASES: dict[str, tuple[Case, float]] = {}


def case(*names: str, tolerance: float = 0.0) -> Callable[[Case], Case]:
    def keep(function: Case) -> Case:
        for name in names:
            CASES[name] = function, tolerance
        return function

    return keep


# -- elementwise -----------------------------------------------------------------------------------------------------------------------


def unary(kinds: list[str], *, tame: bool = False) -> Case:
    return lambda d: ((d.values(kinds, tame=tame),), {})


def binary(kinds: list[str], *, tame: bool = False, positive: bool = False) -> Case:
    def make(d: Drawing) -> Any:
        kind = d(st.sampled_from(kinds))
        one, other = d.broadcasting(2)
        a, b = d.values(kind, one, tame=tame), d.values(kind, other, tame=tame)
        if positive:
            b = np.where(b == 0, np.ones((), b.dtype), np.abs(b)).astype(b.dtype)
        if d(st.booleans()) and b.size:
            return (a, b.flat[0].item()), {}
        return (a, b), {}

    return make


for _names, _kinds in {
    "acos acosh asin asinh atan atanh cos cosh exp expm1 log log10 log1p log2 sin sinh sqrt tan tanh": FLOATING,
    "abs negative positive square sign": NUMERIC,
    "ceil floor trunc round": ORDERED,
    "isfinite isinf isnan": NUMERIC,
    "conj imag": COMPLEX,
    "real": FLOATING,
    "reciprocal": FLOATING,
    "signbit": REAL,
    "logical_not": BOOL,
    "bitwise_invert": [*BOOL, *INTEGRAL],
}.items():
    for _name in _names.split():
        CASES[_name] = unary(_kinds, tame=_kinds is FLOATING), 16.0 if _kinds is FLOATING else 0.0
for _names, _kinds in {
    "add subtract multiply": NUMERIC,
    "equal not_equal": ALL,
    "less less_equal greater greater_equal maximum minimum": ORDERED,
    "logical_and logical_or logical_xor": BOOL,
    "bitwise_and bitwise_or bitwise_xor": [*BOOL, *INTEGRAL],
    "atan2 copysign hypot logaddexp nextafter": REAL,
}.items():
    for _name in _names.split():
        CASES[_name] = binary(_kinds, tame=_name in ("atan2", "hypot", "logaddexp")), 8.0
CASES["divide"] = binary(FLOATING, tame=True, positive=True), 16.0
CASES["pow"] = binary(REAL, tame=True, positive=True), 16.0
for _name in ("floor_divide", "remainder"):
    CASES[_name] = binary(["int8", "int64", "uint8", "float64"], tame=True, positive=True), 0.0


@case("bitwise_left_shift", "bitwise_right_shift")
def _shifts(d: Drawing) -> Any:
    one, other = d.broadcasting(2)
    kind = d(st.sampled_from(INTEGRAL))
    return (d.values(kind, one), np.asarray(d.values("uint8", other) % 7, kind)), {}


@case("clip")
def _clip(d: Drawing) -> Any:
    x = d.values(ORDERED, tame=True)
    lo = d(st.one_of(st.none(), st.integers(0, 3)))
    return (x, lo, d(st.one_of(st.none(), st.integers(4, 6)))), {}


@case("where")
def _where(d: Drawing) -> Any:
    a, b, c = d.broadcasting(3)
    kind = d(st.sampled_from(ALL))
    return (d.values("bool", a), d.values(kind, b), d.values(kind, c)), {}


# -- creation --------------------------------------------------------------------------------------------------------------------------


@case("zeros", "ones")
def _new(d: Drawing) -> Any:
    return (d(SHAPES),), {"dtype": np.dtype(d(st.sampled_from(ALL)))}


@case("full")
def _full(d: Drawing) -> Any:
    return (d(SHAPES), d(st.one_of(st.integers(-5, 5), st.booleans(), st.floats(-2, 2), st.just(1 + 2j)))), {}


@case("zeros_like", "ones_like")
def _like(d: Drawing) -> Any:
    return (d.values(ALL),), {}


@case("full_like")
def _full_like(d: Drawing) -> Any:
    return (d.values(NUMERIC), 3), {}


@case("arange")
def _arange(d: Drawing) -> Any:
    start, stop = d(st.integers(-20, 20)), d(st.integers(-20, 20))
    return (start, stop, d(st.sampled_from([-3, -1, 1, 2, 0.5, -0.25]))), {}


@case("linspace", tolerance=4.0)
def _linspace(d: Drawing) -> Any:
    ends = st.one_of(st.integers(-20, 20), st.floats(-20, 20))
    return (d(ends), d(ends), d(st.integers(0, 12))), {"endpoint": d(st.booleans())}


@case("eye")
def _eye(d: Drawing) -> Any:
    n = st.integers(0, 5)
    return (d(n), d(st.one_of(st.none(), n))), {"k": d(st.integers(-6, 6)), "dtype": np.dtype(d(st.sampled_from(NUMERIC)))}


@case("tril", "triu")
def _triangles(d: Drawing) -> Any:
    return (d.values(NUMERIC, xps.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=5)),), {"k": d(st.integers(-6, 6))}


@case("asarray")
def _asarray(d: Drawing) -> Any:
    pairs = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=1)
    return (d(st.one_of(st.integers(-5, 5), st.booleans(), st.lists(st.floats(-2, 2)), pairs)),), {}


@case("meshgrid")
def _meshgrid(d: Drawing) -> Any:
    kind = d(st.sampled_from(NUMERIC))
    return tuple(d.values(kind, (n,)) for n in d(st.lists(st.integers(1, 4), min_size=1, max_size=3))), {
        "indexing": d(st.sampled_from(["xy", "ij"]))
    }


@case("astype")
def _astype(d: Drawing) -> Any:
    kind = d(st.sampled_from(["int8", "uint8", "float32", "bool"]))
    return (d.values(kind, tame=True), np.dtype(d(st.sampled_from(["int64", "float64", "complex128", "bool"])))), {}


# -- manipulation ----------------------------------------------------------------------------------------------------------------------


@case("broadcast_to")
def _broadcast_to(d: Drawing) -> Any:
    shapes = d(
        xps.mutually_broadcastable_shapes(
            1, base_shape=d(xps.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4)), max_dims=3, max_side=4
        )
    )
    return (d.values(ALL, shapes.input_shapes[0]), shapes.result_shape), {}


@case("broadcast_arrays")
def _broadcast_arrays(d: Drawing) -> Any:
    return tuple(d.values(ALL, shape) for shape in d.broadcasting(2)), {}


@case("broadcast_shapes")
def _broadcast_shapes(d: Drawing) -> Any:
    return tuple(d.broadcasting(2)), {}


def _several(d: Drawing, *, axis: bool) -> Any:
    kind = d(st.sampled_from(NUMERIC))
    shape = d(xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    at = d(st.integers(0, len(shape) - 1))
    number = d(st.integers(1, 3))
    lengths = [d(st.integers(0, 4)) if axis else shape[at] for _ in range(number)]
    return [d.values(kind, tuple(n if i == at else m for i, m in enumerate(shape))) for n in lengths], at, shape


@case("concat")
def _concat(d: Drawing) -> Any:
    parts, at, _ = _several(d, axis=True)
    return (parts,), {"axis": d(st.sampled_from([at, None]))}


@case("stack")
def _stack(d: Drawing) -> Any:
    parts, _, shape = _several(d, axis=False)
    return (parts,), {"axis": d.axis(len(shape) + 1)}


@case("unstack")
def _unstack(d: Drawing) -> Any:
    x = d.values(ALL, xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    return (x,), {"axis": d.axis(x.ndim)}


@case("expand_dims")
def _expand_dims(d: Drawing) -> Any:
    x = d.values(ALL)
    return (x,), {"axis": d.axis(x.ndim + 1)}


@case("squeeze")
def _squeeze(d: Drawing) -> Any:
    x = d.values(ALL, d(xps.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=2)))
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    assume(ones)
    return (x, d(st.sampled_from([*ones, tuple(ones)]))), {}


@case("flip")
def _flip(d: Drawing) -> Any:
    x = d.values(ALL)
    return (x,), {"axis": d.axes(x.ndim)}


@case("roll")
def _roll(d: Drawing) -> Any:
    x = d.values(ALL)
    axis = d.axes(x.ndim)
    shift = d(st.integers(-5, 5)) if not isinstance(axis, tuple) else tuple(d(st.integers(-5, 5)) for _ in axis)
    return (x, shift), {"axis": axis}


@case("permute_dims")
def _permute_dims(d: Drawing) -> Any:
    x = d.values(ALL)
    return (x, tuple(d(st.permutations(range(x.ndim))))), {}


@case("moveaxis")
def _moveaxis(d: Drawing) -> Any:
    x = d.values(ALL, xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    return (x, d.axis(x.ndim), d.axis(x.ndim)), {}


@case("reshape")
def _reshape(d: Drawing) -> Any:
    x = d.values(ALL)
    return (x, d(st.sampled_from([(x.size,), (x.size, 1), (1, x.size), (1, 1, x.size), x.shape[::-1]]))), {}


@case("repeat")
def _repeat(d: Drawing) -> Any:
    x = d.values(ALL, xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    axis = d(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    n = x.size if axis is None else x.shape[axis]
    return (x, d(st.one_of(st.integers(0, 3), st.just(np.array([d(st.integers(0, 2)) for _ in range(n)], np.int64))))), {"axis": axis}


@case("tile")
def _tile(d: Drawing) -> Any:
    return (d.values(ALL), tuple(d(st.lists(st.integers(0, 3), max_size=4)))), {}


@case("matrix_transpose", "linalg.matrix_transpose")
def _matrix_transpose(d: Drawing) -> Any:
    return (d.values(ALL, xps.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4)),), {}


# -- statistics ------------------------------------------------------------------------------------------------------------------------


def reduction(kinds: list[str], *, empty: bool = True) -> Case:
    def make(d: Drawing) -> Any:
        x = d.values(kinds, SHAPES if empty else xps.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4), tame=True)
        return (x,), {"axis": d.axes(x.ndim), "keepdims": d(st.booleans())}

    return make


for _name in ("sum", "prod"):
    CASES[_name] = reduction(NUMERIC), 1000.0
for _name in ("all", "any", "count_nonzero"):
    CASES[_name] = reduction(ALL), 0.0
for _name in ("max", "min"):
    CASES[_name] = reduction(ORDERED, empty=False), 0.0
CASES["mean"] = reduction(FLOATING, empty=False), 100.0


@case("var", "std", tolerance=100.0)
def _spread(d: Drawing) -> Any:
    (x,), options = reduction(REAL, empty=False)(d)
    axis = options["axis"]
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    number = math.prod(x.shape[a] for a in axes)
    return (x,), {**options, "correction": d(st.sampled_from([0, 1])) if number > 1 else 0}


@case("cumulative_sum", "cumulative_prod", tolerance=1e4)
def _cumulative(d: Drawing) -> Any:
    x = d.values(NUMERIC, xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4), tame=True)
    return (x,), {"axis": d.axis(x.ndim), "include_initial": d(st.booleans())}


@case("diff")
def _diff(d: Drawing) -> Any:
    x = d.values(INTEGRAL, xps.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    return (x,), {"axis": d.axis(x.ndim), "n": d(st.integers(0, 2))}


# -- searching, sorting, sets ----------------------------------------------------------------------------------------------------------


@case("argmax", "argmin")
def _extreme_index(d: Drawing) -> Any:
    x = d.values(ORDERED, xps.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    return (x,), {"axis": d(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1))), "keepdims": d(st.booleans())}


@case("nonzero")
def _nonzero(d: Drawing) -> Any:
    return (d.values(ALL, xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4), tame=True),), {}


@case("searchsorted")
def _searchsorted(d: Drawing) -> Any:
    kind = d(st.sampled_from(["int64", "float64"]))
    table = np.sort(d.values(kind, (d(st.integers(1, 6)),), tame=True))
    return (table, d.values(kind, tame=True)), {"side": d(st.sampled_from(["left", "right"]))}


@case("sort", "argsort")
def _sort(d: Drawing) -> Any:
    x = d.values(ORDERED, xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5), tame=True)
    return (x,), {"axis": d.axis(x.ndim), "descending": d(st.booleans()), "stable": True}


@case("unique_values", "unique_counts", "unique_inverse", "unique_all")
def _unique(d: Drawing) -> Any:
    return (d.values([*BOOL, *ORDERED], tame=True),), {}


@case("take")
def _take(d: Drawing) -> Any:
    x = d.values(ALL, xps.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    axis = d.axis(x.ndim)
    index = d(st.lists(st.integers(-x.shape[axis], x.shape[axis] - 1), max_size=5))
    return (x, np.array(index, np.int64)), {"axis": axis}


@case("take_along_axis")
def _take_along_axis(d: Drawing) -> Any:
    x = d.values(ALL, xps.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    axis = d.axis(x.ndim)
    shape = tuple(d(st.integers(0, 4)) if i == axis % x.ndim else n for i, n in enumerate(x.shape))
    drawn = d(st.lists(st.integers(0, x.shape[axis] - 1), min_size=math.prod(shape), max_size=math.prod(shape)))
    return (x, np.array(drawn, np.int64).reshape(shape)), {"axis": axis}


# -- products --------------------------------------------------------------------------------------------------------------------------


@case("matmul", "linalg.matmul", tolerance=1000.0)
def _matmul(d: Drawing) -> Any:
    kind = d(st.sampled_from(NUMERIC))
    m, k, n = (d(st.integers(0, 4)) for _ in range(3))
    batch = d.broadcasting(2) if d(st.booleans()) else [(), ()]
    left, right = d(
        st.sampled_from([((*batch[0], m, k), (*batch[1], k, n)), ((k,), (*batch[1], k, n)), ((*batch[0], m, k), (k,)), ((k,), (k,))])
    )
    return (d.values(kind, left, tame=True), d.values(kind, right, tame=True)), {}


@case("vecdot", "linalg.vecdot", tolerance=1000.0)
def _vecdot(d: Drawing) -> Any:
    kind, n = d(st.sampled_from(NUMERIC)), d(st.integers(0, 4))
    one, other = d.broadcasting(2)
    return (d.values(kind, (*one, n), tame=True), d.values(kind, (*other, n), tame=True)), {"axis": -1}


@case("tensordot", "linalg.tensordot", tolerance=1000.0)
def _tensordot(d: Drawing) -> Any:
    kind = d(st.sampled_from(NUMERIC))
    axes = d(st.integers(0, 2))
    shared = tuple(d(st.integers(1, 3)) for _ in range(axes))
    left, right = tuple(d(st.lists(st.integers(0, 3), max_size=2))), tuple(d(st.lists(st.integers(0, 3), max_size=2)))
    return (d.values(kind, left + shared, tame=True), d.values(kind, shared + right, tame=True)), {"axes": axes}


@case("linalg.outer")
def _outer(d: Drawing) -> Any:
    kind = d(st.sampled_from(INTEGRAL))
    return (d.values(kind, (d(st.integers(0, 5)),)), d.values(kind, (d(st.integers(0, 5)),))), {}


@case("linalg.cross", tolerance=100.0)
def _cross(d: Drawing) -> Any:
    shape = (*d(xps.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)), 3)
    kind = d(st.sampled_from(["int64", "float64"]))
    return (d.values(kind, shape, tame=True), d.values(kind, shape, tame=True)), {}


MATRICES = xps.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4)


@case("linalg.trace", tolerance=100.0)
def _trace(d: Drawing) -> Any:
    return (d.values(NUMERIC, MATRICES, tame=True),), {"offset": d(st.integers(-4, 4))}


@case("linalg.diagonal")
def _diagonal(d: Drawing) -> Any:
    x = d.values(ALL, MATRICES)
    return (x,), {"offset": d(st.integers(-x.shape[-2], x.shape[-1]))}


@case("linalg.vector_norm", tolerance=100.0)
def _vector_norm(d: Drawing) -> Any:
    (x,), options = reduction(FLOATING, empty=False)(d)
    return (x,), {**options, "ord": d(st.sampled_from([0, 1, 2, 3, math.inf, -math.inf]))}


@case("linalg.matrix_norm", tolerance=1000.0)
def _matrix_norm(d: Drawing) -> Any:
    x = d.values(FLOATING, xps.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=4), tame=True)
    return (x,), {"ord": d(st.sampled_from(["fro", "nuc", 1, -1, 2, math.inf, -math.inf])), "keepdims": d(st.booleans())}


def _well(d: Drawing, kinds: list[str] = FLOATING, shape: Any = None) -> np.ndarray[Any, Any]:
    """A square matrix far from singular."""
    kind = np.dtype(d(st.sampled_from(kinds)))
    n = d(st.integers(1, 5))
    rng = np.random.default_rng(d(st.integers(0, 1000)))
    shape = shape or (*d(st.sampled_from([(), (2,), (0,)])), n, n)
    x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind.kind == "c" else 0)
    return np.asarray(x + 6 * np.eye(shape[-2], shape[-1]), kind)


@case("linalg.inv", "linalg.det", "linalg.slogdet", tolerance=2000.0)
def _square(d: Drawing) -> Any:
    return (_well(d),), {}


@case("linalg.solve", tolerance=2000.0)
def _solve(d: Drawing) -> Any:
    kind = d(st.sampled_from(FLOATING))
    n = d(st.integers(1, 5))
    a = _well(d, [kind], (n, n))
    return (a, d.values(kind, d(st.sampled_from([(n,), (n, 1), (n, 3)])), tame=True)), {}


@case("linalg.matrix_power", tolerance=20000.0)
def _power(d: Drawing) -> Any:
    return (_well(d), d(st.integers(-2, 3))), {}


@case("linalg.cholesky", tolerance=2000.0)
def _cholesky(d: Drawing) -> Any:
    a = _well(d)
    return (np.asarray(a @ np.conj(np.swapaxes(a, -1, -2)), a.dtype),), {"upper": d(st.booleans())}


@case("linalg.eigvalsh", tolerance=2000.0)
def _eigvalsh(d: Drawing) -> Any:
    a = _well(d)
    return (np.asarray(a + np.conj(np.swapaxes(a, -1, -2)), a.dtype),), {}


@case("linalg.svdvals", tolerance=2000.0)
def _svdvals(d: Drawing) -> Any:
    return (_well(d, shape=d(st.sampled_from([(3, 5), (5, 2), (2, 4, 3)]))),), {}


@case("linalg.pinv", tolerance=5000.0)
def _pinv(d: Drawing) -> Any:
    return (_well(d, shape=d(st.sampled_from([(3, 5), (5, 2), (2, 4, 3)]))),), {}


@case("linalg.matrix_rank")
def _matrix_rank(d: Drawing) -> Any:
    rank = d(st.integers(1, 3))
    a = _well(d, shape=(4, 3))
    b = _well(d, [a.dtype.name], (3, 5))
    return (np.asarray(a[:, :rank] @ b[:rank], a.dtype),), {}


@case("fft.fft", "fft.ifft", "fft.hfft", tolerance=100.0)
def _fft(d: Drawing) -> Any:
    x = d.values(COMPLEX, xps.array_shapes(min_dims=1, max_dims=2, min_side=2, max_side=6), tame=True)
    return (x,), {
        "axis": d.axis(x.ndim),
        "norm": d(st.sampled_from(["backward", "ortho", "forward"])),
        "n": d(st.one_of(st.none(), st.integers(2, 7))),
    }


@case("fft.irfft", tolerance=100.0)
def _irfft(d: Drawing) -> Any:
    return _fft(d)


@case("fft.rfft", "fft.ihfft", tolerance=100.0)
def _rfft(d: Drawing) -> Any:
    x = d.values(REAL, xps.array_shapes(min_dims=1, max_dims=2, min_side=2, max_side=6), tame=True)
    return (x,), {"axis": d.axis(x.ndim), "n": d(st.one_of(st.none(), st.integers(2, 7)))}


@case("fft.fftn", "fft.ifftn", "fft.irfftn", tolerance=200.0)
def _fftn(d: Drawing) -> Any:
    x = d.values(COMPLEX, xps.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=4), tame=True)
    return (x,), {"norm": d(st.sampled_from(["backward", "ortho", "forward"]))}


@case("fft.rfftn", tolerance=200.0)
def _rfftn(d: Drawing) -> Any:
    return (d.values(REAL, xps.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=4), tame=True),), {}


@case("fft.fftfreq", "fft.rfftfreq", tolerance=4.0)
def _fftfreq(d: Drawing) -> Any:
    return (d(st.integers(1, 12)),), {"d": d(st.sampled_from([1.0, 0.5]))}


@case("fft.fftshift", "fft.ifftshift")
def _fftshift(d: Drawing) -> Any:
    x = d.values(FLOATING, xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    return (x,), {"axes": d.axes(x.ndim)}


# -- types -----------------------------------------------------------------------------------------------------------------------------


@case("can_cast")
def _can_cast(d: Drawing) -> Any:
    kinds = st.sampled_from(d(st.sampled_from([SIGNED, FLOATING, BOOL])))  # the standard says nothing of other pairs
    return (np.dtype(d(kinds)), np.dtype(d(kinds))), {}


@case("isdtype")
def _isdtype(d: Drawing) -> Any:
    kinds = ["bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"]
    return (np.dtype(d(st.sampled_from(ALL))), d(st.sampled_from(kinds))), {}


#: Where the result is not one value: what it must fulfil is tested here, and in ``tests/linalg``.
PROPERTIES: dict[str, Callable[[Drawing, Any], None]] = {}


def fulfils(name: str) -> Any:
    def keep(function: Callable[[Drawing, Any], None]) -> Callable[[Drawing, Any], None]:
        PROPERTIES[name] = function
        return function

    return keep


@fulfils("empty")
def _empty(d: Drawing, xp: Any) -> None:
    shape = d(SHAPES)
    assert np.asarray(xp.empty(shape, dtype=xp.int8)).shape == shape


@fulfils("empty_like")
def _empty_like(d: Drawing, xp: Any) -> None:
    x = d.values(ALL)
    y = xp.empty_like(xp.asarray(x))
    assert (y.shape, y.dtype) == (x.shape, x.dtype)


@fulfils("from_dlpack")
def _from_dlpack(d: Drawing, xp: Any) -> None:
    x = d.values(NUMERIC)
    np.testing.assert_array_equal(np.asarray(xp.from_dlpack(x)), x)


@fulfils("isin")
def _isin(d: Drawing, xp: Any) -> None:
    """Against NumPy: the oracle does not invert."""
    kind = d(st.sampled_from(["int8", "int64"]))
    x, among, invert = d.values(kind, tame=True), d.values(kind, tame=True), d(st.booleans())
    np.testing.assert_array_equal(np.asarray(xp.isin(xp.asarray(x), xp.asarray(among), invert=invert)), np.isin(x, among, invert=invert))


@fulfils("finfo")
def _finfo(d: Drawing, xp: Any) -> None:
    kind = d(st.sampled_from(FLOATING))
    ours, theirs = xp.finfo(np.dtype(kind)), strict.finfo(getattr(strict, kind))
    assert (ours.bits, ours.eps, ours.max, ours.min) == (theirs.bits, theirs.eps, theirs.max, theirs.min)


@fulfils("iinfo")
def _iinfo(d: Drawing, xp: Any) -> None:
    kind = d(st.sampled_from(INTEGRAL))
    ours, theirs = xp.iinfo(np.dtype(kind)), strict.iinfo(getattr(strict, kind))
    assert (ours.bits, ours.max, ours.min) == (theirs.bits, theirs.max, theirs.min)


@fulfils("result_type")
def _result_type(d: Drawing, xp: Any) -> None:
    one = d(st.sampled_from(NUMERIC))
    other = d(st.sampled_from([k for k in NUMERIC if np.dtype(k).kind == np.dtype(one).kind]))
    theirs = strict.result_type(getattr(strict, one), getattr(strict, other))
    assert getattr(strict, xp.result_type(np.dtype(one), np.dtype(other)).name) == theirs


def _near(got: Any, want: Any) -> None:
    rounding = np.finfo(np.asarray(want).dtype).eps
    np.testing.assert_allclose(np.asarray(got), want, rtol=2000 * rounding, atol=2000 * rounding)


@fulfils("linalg.qr")
def _qr(d: Drawing, xp: Any) -> None:
    a = _well(d, shape=d(st.sampled_from([(3, 5), (5, 2), (2, 4, 3), (4, 4)])))
    q, r = xp.linalg.qr(xp.asarray(a), mode=d(st.sampled_from(["reduced", "complete"])))
    _near(q @ r, a)
    _near(np.tril(np.asarray(r), -1), np.zeros(r.shape, a.dtype))
    n = q.shape[-1]
    unit = np.broadcast_to(np.eye(n, dtype=a.dtype), (*a.shape[:-2], n, n))
    _near(xp.matrix_transpose(xp.conj(q) if a.dtype.kind == "c" else q) @ q, unit)


@fulfils("linalg.svd")
def _svd(d: Drawing, xp: Any) -> None:
    a = _well(d, shape=d(st.sampled_from([(3, 5), (5, 2), (2, 4, 3), (4, 4)])))
    u, s, v = xp.linalg.svd(xp.asarray(a), full_matrices=False)
    _near((np.asarray(u) * np.asarray(s)[..., np.newaxis, :].astype(a.dtype)) @ np.asarray(v), a)
    full = xp.linalg.svd(xp.asarray(a))
    assert full.U.shape == (*a.shape[:-1], a.shape[-2])
    assert full.Vh.shape == (*a.shape[:-2], a.shape[-1], a.shape[-1])


@fulfils("linalg.eigh")
def _eigh(d: Drawing, xp: Any) -> None:
    a = _well(d)
    a = np.asarray(a + np.conj(np.swapaxes(a, -1, -2)), a.dtype)
    w, v = xp.linalg.eigh(xp.asarray(a))
    _near(a @ np.asarray(v), np.asarray(v) * np.asarray(w)[..., np.newaxis, :].astype(a.dtype))


@fulfils("linalg.eig")
def _eig(d: Drawing, xp: Any) -> None:
    a = _well(d)
    w, v = xp.linalg.eig(xp.asarray(a))
    _near(a @ np.asarray(v), np.asarray(v) * np.asarray(w)[..., np.newaxis, :])


@fulfils("linalg.eigvals")
def _eigvals(d: Drawing, xp: Any) -> None:
    a = _well(d)
    w = np.asarray(xp.linalg.eigvals(xp.asarray(a)))
    _near(np.sort_complex(w), np.sort_complex(np.linalg.eigvals(a)).astype(w.dtype))


def standard() -> list[str]:
    """All functions of the standard."""
    main = [n for n in strict.__all__ if n not in NOT_FUNCTIONS | TYPES and n not in ("linalg", "fft")]
    return sorted([*main, *(f"linalg.{n}" for n in strict.linalg.__all__), *(f"fft.{n}" for n in strict.fft.__all__)])


def find(namespace: Any, name: str) -> Any:
    for part in name.split("."):
        namespace = getattr(namespace, part)
    return namespace


def gaps() -> set[str]:
    return {line.split("`")[1] for line in GAPS.read_text().splitlines() if line.startswith("| `")}


def test_every_function_of_the_standard_is_tried_or_a_known_gap():
    assert set(CASES) | set(PROPERTIES) | gaps() >= set(standard())
    assert not (set(CASES) | set(PROPERTIES)) & gaps()


def called(signature: inspect.Signature, known: set[str]) -> list[tuple[Any, ...]]:
    """How a function is called, without the options that the standard does not know."""
    unnamed = inspect.Parameter.POSITIONAL_ONLY
    parameters = [p for p in signature.parameters.values() if p.kind is unnamed or p.name in known]
    return [(p.kind is unnamed or p.name, p.kind, None if isinstance(p.default, enum.Enum) else p.default) for p in parameters]


def test_functions_are_called_as_in_the_standard():
    for name in set(standard()) - gaps():
        wanted = inspect.signature(find(strict, name))
        given = signatures.described(name)
        assert given is not None, name
        assert given.doc, name
        assert called(given.signature, set(wanted.parameters)) == called(wanted, set(wanted.parameters)), name


@pytest.mark.parametrize("number", [1, 3], ids=lambda n: f"{n}-engines")
@pytest.mark.parametrize("name", sorted({*CASES, *PROPERTIES}))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_as_the_standard_has_it(engines, name, number):
    xp = engines(number).xp

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: Any) -> None:
        drawing = Drawing(data, xp)
        if name in PROPERTIES:
            PROPERTIES[name](drawing, xp)
            return
        make, tolerance = CASES[name]
        args, kwargs = make(drawing)
        pairs = [both(xp, a) for a in args]
        options = {k: both(xp, v) for k, v in kwargs.items()}
        theirs = find(strict, name)(*(p[0] for p in pairs), **{k: v[0] for k, v in options.items()})
        ours = find(xp, name)(*(p[1] for p in pairs), **{k: v[1] for k, v in options.items()})
        alike(ours if not isinstance(theirs, tuple) else tuple(ours), tuple(theirs) if isinstance(theirs, list) else theirs, tolerance)

    run()
