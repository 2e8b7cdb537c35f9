"""Elementwise functions give what NumPy gives, for operands in any layouts."""

from __future__ import annotations

import itertools
import operator

import array_api_strict as strict
import numpy as np
import pytest
from against_numpy import layouts, same

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

TYPES = "bool int8 int16 int64 uint8 uint64 float32 float64 complex64 complex128".split()
UNARY = (
    "abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite isinf isnan log log10 log1p log2 "
    "logical_not negative positive real reciprocal round sign signbit sin sinh sqrt square tan tanh trunc"
).split()
BINARY = (
    "add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide equal floor_divide greater "
    "greater_equal hypot less less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow "
    "remainder subtract"
).split()


def values(kind, shape, seed=0):
    """Among them zeros of both signs, and what is no number."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0, 7, shape).astype(kind)
    x = np.asarray(rng.standard_normal(shape) * 2)
    if dtype.kind == "c":
        x = np.asarray(x + 1j * rng.standard_normal(shape))
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])
    x.reshape(-1)[: len(special)] = special[: x.size] if x.ndim else 0.5
    return x.astype(kind)


def tried(function, *operands):
    """What a function gives, or the type of its error."""
    with np.errstate(all="ignore"):
        try:
            return function(*operands)
        except (TypeError, ValueError, OverflowError) as e:
            return type(e)


def alike(ours, theirs):
    """The same result, or an error in both."""
    if isinstance(theirs, type):
        assert isinstance(ours, type), (ours, theirs)
    else:
        same(ours, theirs)


def test_functions_of_one_array_of_every_type(comm):
    for name, kind, shape in itertools.product(UNARY, [*TYPES[::2], "float32", "complex128"], [(), (7, 3)]):
        x = values(kind, shape)
        numpys = getattr(np, name)
        for layout in layouts(shape, comm.size)[:: 2 if comm.size > 2 else 1]:
            alike(tried(getattr(xp, name), xp.asarray(x, layout=layout)), tried(numpys, x))


def test_functions_of_two_arrays_of_every_type(comm):
    for name, kind in itertools.product(BINARY, TYPES):
        x, y = values(kind, (7, 3)), values(kind, (7, 3), 1)
        theirs = tried(getattr(np, name), x, y)
        for one, other in ((xp.Block(0), xp.Block(0)), (xp.Block(1), xp.Replicated()), (xp.BlockCyclic(0, 2), xp.Block(0))):
            alike(tried(getattr(xp, name), xp.asarray(x, layout=one), xp.asarray(y, layout=other)), theirs)


def test_types_promote_as_numpys_do(comm):
    for one, other in itertools.product(TYPES, TYPES):
        x, y = values(one, (5,)), values(other, (5,), 1)
        for name in ("add", "maximum", "less", "pow"):
            alike(tried(getattr(xp, name), xp.asarray(x), xp.asarray(y)), tried(getattr(np, name), x, y))
    for kind, number in itertools.product(TYPES, (True, 3, -1, 300, 2**70, 2.5, np.inf, 1j, np.float32(2.5), np.int8(3), np.array(2))):
        x = values(kind, (5,))
        for function in (operator.add, operator.mul, operator.lt, operator.pow):
            alike(tried(function, xp.asarray(x), number), tried(function, x, number))
            alike(tried(function, number, xp.asarray(x)), tried(function, number, x))


def test_types_promote_as_the_standard_asks(comm):
    """For all that it allows."""
    for one, other in itertools.product(TYPES, TYPES):
        x, y = (np.ones(3, kind) for kind in (one, other))
        theirs = tried(strict.add, strict.asarray(x), strict.asarray(y))
        if not isinstance(theirs, type):
            same(xp.add(xp.asarray(x), xp.asarray(y)), np.asarray(theirs))


def test_operands_of_any_layout_and_shape_broadcast(comm):
    shapes = [
        ((7, 5), (7, 5)),
        ((7, 5), (5,)),
        ((7, 1), (1, 5)),
        ((7, 5), ()),
        ((1,), (7, 5)),
        ((3, 1, 5), (4, 1)),
        ((0, 5), (1, 5)),
        ((1, 1), (1,)),
    ]
    for one, other in shapes:
        x, y = values("float64", one, 2), values("float64", other, 3)
        with np.errstate(all="ignore"):
            theirs = x - y
        for mine, yours in itertools.product(layouts(one, comm.size), layouts(other, comm.size)):
            a, b = xp.asarray(x, layout=mine), xp.asarray(y, layout=yours)
            with np.errstate(all="ignore"):
                same(a - b, theirs)
                same(y - a, y - x)
                same(b - x, y - x)
        with np.errstate(all="ignore"):
            same(xp.where(xp.asarray(x) > 0, xp.asarray(y), xp.asarray(x)), np.where(x > 0, y, x))


def test_operands_of_one_layout_exchange_no_message(comm):
    x, row = xp.ones((8, 3)), xp.replicate([1.0, 2.0, 3.0])
    x.mesh.traffic.clear()
    z = xp.clip(xp.where(x > 0.5, xp.exp(x * 2 + row) / x, np.ones(3)), 1.0, row)
    z += x
    z **= 2
    assert x.mesh.traffic.messages == {}
    assert z.layout == x.layout


def test_numbers_sequences_and_arrays_of_numpy_are_operands(comm):
    x, plain = xp.arange(5), np.arange(5)
    for other in (3, 2.5, [1, 2, 3, 4, 5], (1,), plain, plain[1:2], np.int16(4), np.float64(2), True):
        for function in (operator.add, operator.sub, operator.eq, operator.floordiv):
            with np.errstate(all="ignore"):
                theirs, reflected = (
                    function(plain, other),
                    function(other if not isinstance(other, tuple | list) else np.array(other), plain),
                )
                same(function(x, other), theirs)
                same(function(other, x), reflected)
    same(xp.add(2, 3), np.array(5))
    same(xp.sqrt(4.0), np.array(2.0))
    same(xp.where(True, 1, 2.5), np.array(1.0))
    same(xp.where(x > 2, [5, 4, 3, 2, 1], 0), np.where(plain > 2, [5, 4, 3, 2, 1], 0))
    for other in (None, "a", object(), {1}):
        assert (x == other) is False
        assert (x != other) is True
        for function in (operator.add, operator.lt, operator.matmul, operator.iadd):
            with pytest.raises(TypeError):
                function(x, other)
    with pytest.raises(TypeError):
        xp.add(x, None)


def test_integers_to_negative_powers_are_refused_on_all_ranks(comm):
    x = xp.arange(8)
    for exponent in (-1, xp.arange(8) - 1, xp.asarray(-1), np.arange(-1, 7)):
        for function in (xp.pow, operator.ipow, np.power):
            with pytest.raises(ValueError, match="negative integer powers"):
                function(x, exponent)
    with pytest.raises(ValueError, match="negative integer powers"):
        2 ** (xp.arange(8) - 7)
    same(x, np.arange(8))
    same(x ** xp.arange(8), np.arange(8) ** np.arange(8))
    same(2**x, 2 ** np.arange(8))
    same((x + 1.0) ** -1, (np.arange(8) + 1.0) ** -1)


def test_clipping_keeps_the_type(comm):
    x = np.arange(-5, 6)
    cases = [
        ("int64", 2.5, None), ("int64", -1.5, 2.5), ("int8", -1000, 1000), ("int8", None, 3), ("uint8", -3, 300.5), ("float64", -1, 2),
        ("float32", 0.1, np.inf), ("float64", np.nan, None), ("int64", -np.inf, np.inf), ("float64", None, None), ("int16", 3, -3),
    ]  # fmt: skip
    for kind, low, high in cases:
        data = x.astype(kind)
        made = xp.clip(xp.asarray(data), low, high)
        limits = [np.inf if b is None and i else -np.inf if b is None else b for i, b in enumerate((low, high))]
        if data.dtype.kind == "f":
            same(made, np.clip(data, *np.array(limits, kind)))
        else:
            same(made, np.clip(data.astype(float), np.ceil(limits[0]), np.floor(limits[1])).astype(kind))
    data = xp.asarray(x.astype("int8"))
    low, high = np.linspace(-4.5, 300, 11), np.full((2, 1), 3, "int64")
    for bounds in ((low, high), (xp.asarray(low), xp.asarray(high)), (low, None), (None, xp.asarray(high, layout=xp.Block(0)))):
        limits = [np.asarray(b) if b is not None else None for b in bounds]
        expected = np.clip(x.astype("int8").astype(float), None if limits[0] is None else np.minimum(np.ceil(limits[0]), 127), limits[1])
        same(xp.clip(data, *bounds), expected.astype("int8"))
    same(xp.clip(data, np.full(11, np.nan), None), x.astype("int8"))
    np.testing.assert_array_equal(low, np.linspace(-4.5, 300, 11))
    assert not np.shares_memory(xp.clip(data).local, data.local)
    for error, bounds in (
        (OverflowError, (200, None)),
        (OverflowError, (None, -200.5)),
        (ValueError, (np.nan, None)),
        (ValueError, (1j, 2)),
    ):
        with pytest.raises(error):
            xp.clip(data, *bounds)
    with pytest.raises(OverflowError):
        xp.where(data > 0, data, 300)


def test_in_place_an_array_keeps_its_type_its_layout_and_its_memory(comm):
    operations = [
        operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow, operator.iand,
        operator.ior, operator.ixor, operator.ilshift, operator.irshift,
    ]  # fmt: skip
    others = [2, 2.5, 1j, "row", "int8", "grown"]
    for kind, operation, other in itertools.product(("bool", "int32", "float64", "complex64"), operations, others):
        data = values(kind, (6, 4), 5)
        if kind == "float64":
            data[:] = np.abs(np.where(np.isfinite(data), data, 1)) + 1
        operand = {"row": np.array([3, 1, 2, 1]), "grown": np.ones((2, 6, 4), "int8")}.get(other, other)
        if other == "int8":
            operand = np.full((6, 4), 2, other)
        for layout, another in ((xp.Block(0), xp.Block(0)), (xp.BlockCyclic(0, 2), xp.Block(1)), (xp.Replicated(), xp.Block(0))):
            expected = data.copy()
            theirs = tried(operation, expected, operand)
            x = xp.asarray(data, layout=layout, copy=True)
            block = x.local
            fits = isinstance(operand, np.ndarray) and operand.ndim == 2
            ours = tried(operation, x, xp.asarray(operand, layout=another) if fits else operand)
            if isinstance(theirs, type):
                assert isinstance(ours, type), (kind, operation, other)
            else:
                assert ours is x
                assert x.local is block
                assert x.layout == layout.settled((6, 4), comm.size)
            same(x, expected)


def test_in_place_on_memory_that_must_not_be_written(comm):
    values = np.arange(6.0)
    values.flags.writeable = False
    x = xp.asarray(values, copy=False)
    x += 1
    same(x, np.arange(1.0, 7))
    same(values * xp.asarray(1), np.arange(6.0))
    y = xp.ones((6, 6))
    y += y.T
    y @= xp.eye(6)
    same(y, np.full((6, 6), 2.0))
    with pytest.raises(TypeError, match="same_kind"):
        y -= 1j
    with pytest.raises(ValueError, match="non-broadcastable output operand"):
        x += xp.ones((2, 6))


def test_shapes_that_do_not_fit_are_told_as_numpy_does(comm):
    for one, other in (((3,), (4,)), ((2, 3), (3, 2)), ((0,), (2,))):
        expected = f"operands could not be broadcast together with shapes {one} {other}".replace(" ", "")
        for function in (operator.add, xp.less, xp.atan2, np.add):
            with pytest.raises(ValueError) as e:
                function(xp.zeros(one), xp.zeros(other))
            assert str(e.value).replace(" ", "") == expected
    for function, kind in ((operator.invert, "float64"), (operator.neg, "bool"), (xp.floor, "complex128")):
        with pytest.raises(TypeError):
            function(xp.zeros(0, dtype=kind))
    same(xp.zeros(3) + 1, np.ones(3))


def test_operators_are_the_functions_of_their_meaning(comm):
    x, y = np.arange(1, 7), np.array([2, 3, 1, 2, 5, 2])
    a, b = xp.asarray(x), xp.asarray(y)
    for function in (
        operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow, operator.and_,
        operator.or_, operator.xor, operator.lshift, operator.rshift, operator.lt, operator.le, operator.gt, operator.ge, operator.eq,
        operator.ne,
    ):  # fmt: skip
        same(function(a, b), function(x, y))
        same(function(7, b), function(7, y))
        same(function(x, b), function(x, y))
    for function in (operator.neg, operator.pos, operator.abs, operator.invert):
        same(function(a), function(x))
    for ours, theirs in zip((*divmod(a, b), *divmod(20, b)), (*divmod(x, y), *divmod(20, y)), strict=True):
        same(ours, theirs)
    same(a @ b, x @ y)
    same(x @ b, x @ y)


def test_parts_of_complex_numbers(comm):
    z = values("complex64", (5,))
    x = xp.asarray(z)
    same(x.real, z.real)
    same(x.imag, z.imag)
    same(xp.imag(x.real), np.zeros(5, "float32"))
    y = xp.imag(xp.arange(3))
    y += 1
    same(y, np.ones(3, "int64"))
