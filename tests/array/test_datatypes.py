"""Types, their limits, and what the namespace says of itself."""

from __future__ import annotations

import itertools

import array_api_strict as strict
import numpy as np
import pytest
from against_numpy import layouts, same

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

TYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128".split()
KINDS = ["bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"]


def test_types_are_numpys(comm):
    for name in TYPES:
        kind = getattr(xp, name)
        assert kind == np.dtype(name)
        assert kind == getattr(np, name)
        assert xp.zeros(3, dtype=kind).dtype == kind
        assert hash(kind) == hash(np.dtype(name))


def test_casts(comm):
    values = np.array([[0, 1, 2], [3, 100, 5]])
    for source, target in itertools.product(TYPES, TYPES):
        data = values.astype(source)
        for layout in layouts(values.shape, comm.size):
            x = xp.asarray(data, layout=layout)
            if data.dtype.kind == "c" and np.dtype(target).kind in "iuf":
                with pytest.raises(TypeError, match="real"):
                    xp.astype(x, np.dtype(target))
                continue
            y = xp.astype(x, getattr(xp, target))
            same(y, data.astype(target))
            assert y.layout == x.layout
            assert y is not x
            assert not np.shares_memory(y.local, x.local)
            assert (xp.astype(x, getattr(xp, target), copy=False) is x) == (source == target)
    x = xp.asarray([0.5, -0.0, np.nan])
    same(xp.astype(x, xp.bool), np.array([True, False, True]))
    same(xp.astype(x, "float32", device=x.device), np.array([0.5, -0.0, np.nan], "float32"))
    for options in ({"device": "gpu"}, {"device": "gpu", "copy": False}):
        with pytest.raises(ValueError):
            xp.astype(x, xp.float64, **options)
    with pytest.raises(TypeError):
        xp.astype(x, object)


def test_kinds(comm):
    for name, kind in itertools.product(TYPES, KINDS):
        assert xp.isdtype(getattr(xp, name), kind) == strict.isdtype(getattr(strict, name), kind)
    assert xp.isdtype(xp.int8, ("bool", "signed integer"))
    assert xp.isdtype(xp.int8, (xp.float32, xp.int8))
    assert not xp.isdtype(xp.int8, xp.int16)
    assert xp.isdtype(xp.zeros(1).dtype, xp.float64)
    with pytest.raises((ValueError, TypeError)):
        xp.isdtype(xp.int8, "integer")


def test_what_types_promote_to(comm):
    for one, other in itertools.product(TYPES, TYPES):
        a, b = getattr(xp, one), getattr(xp, other)
        assert xp.result_type(a, b) == np.result_type(one, other)
        assert xp.result_type(xp.zeros(2, dtype=a), b) == np.result_type(one, other)
        assert xp.can_cast(a, b) == np.can_cast(one, other)
        assert xp.can_cast(xp.zeros(2, dtype=a), b) == np.can_cast(one, other)
        try:
            asked = strict.result_type(getattr(strict, one), getattr(strict, other))
        except TypeError:
            continue
        assert str(asked).endswith(f".{xp.result_type(a, b)}")
    for kind, number, result in (
        ("int8", 1, "int8"), ("float32", 2.5, "float32"), ("float32", 1, "float32"), ("float32", 1j, "complex64"), ("bool", True, "bool"),
        ("int8", 1.5, "float64"), ("complex64", 1.5, "complex64"),
    ):  # fmt: skip
        assert xp.result_type(getattr(xp, kind), number) == np.dtype(result)
        assert xp.result_type(xp.zeros((), dtype=kind), number) == np.dtype(result)
        assert (xp.ones(3, dtype=kind) * number).dtype == np.dtype(result)


def test_limits(comm):
    for name in ("float32", "float64", "complex64", "complex128"):
        theirs = strict.finfo(getattr(strict, name))
        for asked in (getattr(xp, name), xp.zeros(3, dtype=name)):
            ours = xp.finfo(asked)
            for field in ("bits", "eps", "max", "min", "smallest_normal"):
                assert getattr(ours, field) == getattr(theirs, field)
                assert type(getattr(ours, field)) is (int if field == "bits" else float)
            assert str(theirs.dtype).endswith(f".{ours.dtype}")
    for name in TYPES[1:9]:
        theirs = strict.iinfo(getattr(strict, name))
        for asked in (getattr(xp, name), xp.zeros(3, dtype=name)):
            ours = xp.iinfo(asked)
            assert (ours.bits, ours.max, ours.min) == (theirs.bits, theirs.max, theirs.min)
            assert {type(ours.bits), type(ours.max), type(ours.min)} == {int}
            assert ours.dtype == getattr(xp, name)
    for function, kind in ((xp.finfo, xp.int8), (xp.iinfo, xp.float32), (xp.finfo, xp.zeros(2, dtype=xp.bool))):
        with pytest.raises(ValueError):
            function(kind)


def test_what_the_namespace_says_of_itself(comm):
    info, theirs = xp.__array_namespace_info__(), strict.__array_namespace_info__()
    assert info.capabilities() == theirs.capabilities()
    assert info.devices() == (info.default_device(),)
    assert xp.zeros(3, device=info.default_device()).device == info.default_device()
    for kind in (None, *KINDS, ("bool", "real floating"), ()):
        ours = info.dtypes(kind=kind)
        assert set(ours) == set(theirs.dtypes(kind=kind))
        assert all(ours[name] == getattr(xp, name) for name in ours)
    defaults = info.default_dtypes(device="cpu")
    assert {k: str(v).rpartition(".")[2] for k, v in theirs.default_dtypes().items()} == {k: str(v) for k, v in defaults.items()}
    assert xp.zeros(1).dtype == defaults["real floating"]
    assert xp.asarray(1).dtype == defaults["integral"]
    assert xp.argmax(xp.ones(3)).dtype == defaults["indexing"]
    for call in (lambda: info.dtypes(kind="integer"), lambda: info.dtypes(device="gpu"), lambda: info.default_dtypes(device="gpu")):
        with pytest.raises(ValueError):
            call()


def test_the_namespace_of_an_array_is_the_module(comm):
    x = xp.zeros(3)
    assert x.__array_namespace__() is xp
    assert x.__array_namespace__(api_version="2025.12") is xp
    with pytest.raises(ValueError):
        x.__array_namespace__(api_version="1999.12")
    assert xp.__array_api_version__ == "2025.12"
    assert (xp.newaxis, xp.pi, xp.e, xp.inf) == (None, np.pi, np.e, np.inf)
