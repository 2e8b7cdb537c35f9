"""The array object: what it tells, how it becomes other things, and what other libraries' blocks can do."""

from __future__ import annotations

import copy
import operator
import pickle
import subprocess
import sys

import array_api_strict as strict
import numpy as np
import pytest
from against_numpy import layouts, same

import mpicluster.array as xp

pytestmark = pytest.mark.spmd


def test_what_it_tells(comm):
    for shape in ((), (0,), (7,), (2, 9), (3, 0, 2)):
        for layout in layouts(shape, comm.size):
            x = xp.zeros(shape, dtype=xp.complex64, layout=layout)
            values = np.zeros(shape, "complex64")
            assert (x.shape, x.ndim, x.size, x.dtype) == (values.shape, values.ndim, values.size, values.dtype)
            assert (x.itemsize, x.nbytes, x.device) == (values.itemsize, values.nbytes, "cpu")
            assert x.comm.size == comm.size
            assert x.mesh.members == tuple(range(comm.size))
            assert x.to_device("cpu") is x
    with pytest.raises(ValueError):
        x.to_device("gpu")
    with pytest.raises(AttributeError, match="namespace"):
        x.sum()
    assert not hasattr(x, "flat")


def test_as_numbers_of_python(comm):
    for value in (True, 3, 2.5, 1 + 2j, float("nan"), float("inf")):
        x, y = xp.asarray(value), np.asarray(value)
        for function in (bool, int, float, complex, operator.index, str, lambda v: v.item(), lambda v: v.tolist()):
            try:
                theirs = function(y)
            except (TypeError, ValueError, OverflowError):
                with pytest.raises((TypeError, ValueError, OverflowError)):
                    function(x)
                continue
            ours = function(x)
            assert type(ours) is type(theirs)
            assert ours == theirs or ours != ours
    one = xp.ones((1, 1))
    assert bool(one)
    assert one.item() == 1.0
    assert list(range(5))[xp.asarray(2) : xp.asarray(4)] == [2, 3]
    for function in (int, float, complex, operator.index):
        with pytest.raises(TypeError):
            function(one)
    for x in (xp.ones(2), xp.ones(0)):
        with pytest.raises(ValueError, match="ambiguous"):
            bool(x)
        with pytest.raises(ValueError):
            x.item()
    with pytest.raises(TypeError):
        hash(one)


def test_as_a_sequence(comm):
    values = np.arange(12).reshape(4, 3)
    x = xp.asarray(values)
    assert len(x) == 4
    for ours, theirs in zip(x, values, strict=True):
        same(ours, theirs)
    assert 5 in x
    assert 12 not in x
    assert x.tolist() == values.tolist()
    first, *_ = xp.arange(3)
    assert int(first) == 0
    for function in (len, iter, list):
        with pytest.raises(TypeError):
            function(xp.asarray(1))


def test_as_an_array_of_numpy(comm):
    values = np.arange(12.0).reshape(4, 3)
    for layout in layouts((4, 3), comm.size):
        x = xp.asarray(values, layout=layout, copy=True)
        for made in (np.asarray(x), np.array(x), np.asarray(x, "float32"), x.__array__(copy=True)):
            np.testing.assert_array_equal(made, values)
            assert type(made) is np.ndarray
        assert np.shares_memory(np.asarray(x), x.local) == isinstance(layout, xp.Replicated)
        assert not np.shares_memory(np.array(x, copy=True), x.local)
        if isinstance(layout, xp.Replicated):
            assert np.array(x, copy=False) is x.local
        else:
            with pytest.raises(ValueError):
                np.array(x, copy=False)


def test_what_is_shown(comm):
    x = xp.asarray(np.arange(12).reshape(4, 3))
    text = repr(x)
    assert text.startswith("DistArray(shape=(4, 3), dtype=int64, Block(0)")
    if comm.size > 1:
        lo, hi = (c for c in x.layout.bounds(x.shape, comm.size)[comm.rank : comm.rank + 2])
        assert f"rank {comm.rank} of {comm.size} has [{lo}:{hi}]" in text
        assert str(x) == text
    else:
        assert str(x) == str(np.arange(12).reshape(4, 3))
    assert text.partition("\n")[2] == np.array2string(x.local, separator=", ")
    assert f"rank {comm.rank} of {comm.size} has [:, " in repr(xp.ones((2, 9), layout=xp.Block(1))) or comm.size == 1
    for layout in layouts((200, 300), comm.size):
        x = xp.zeros((200, 300), layout=layout)
        x.mesh.traffic.clear()
        assert len(repr(x)) < 900
        assert len(str(x)) < 900
        assert x.mesh.traffic.messages == {}
    assert str(xp.sum(xp.ones(4))) == "4.0"
    assert f"{xp.sum(xp.ones(4)):.3f}|{xp.asarray(7):>3}|{xp.asarray(2.5)}" == "4.000|  7|2.5"
    one = xp.asarray([2.5])
    assert str(one) == "[2.5]" if one.local.size else "shape=(1,)" in str(one)
    assert str(xp.replicate([1, 2])) == "[1 2]"
    assert str(xp.zeros(0)) == "[]"


def test_copies_are_apart(comm):
    for layout in layouts((5, 2), comm.size):
        x = xp.zeros((5, 2), layout=layout)
        for make in (copy.copy, copy.deepcopy, lambda x: x.copy(), lambda x: copy.deepcopy([x])[0]):
            y = make(x)
            assert y.layout == x.layout
            y += 1
            same(y, np.ones((5, 2)))
        same(x, np.zeros((5, 2)))


UNPICKLE = """
import pickle, sys
sys.modules["mpi4py"] = None
part = pickle.load(sys.stdin.buffer)
print(type(part).__name__, part.shape, part.members, part.rank, part.layout, part.values.tolist())
print(part)
assert type(pickle.loads(pickle.dumps(part))) is type(part)
assert "mpicluster.array.mesh" not in sys.modules
"""


def test_pickled_it_is_this_ranks_part(comm):
    """On its ranks it is the array again; a process without MPI, and another rank, gets the part."""
    x = xp.asarray(np.arange(10.0).reshape(5, 2))
    for layout in layouts((5, 2), comm.size):
        y = pickle.loads(pickle.dumps(x.redistribute(layout)))
        assert y.layout == layout.settled((5, 2), comm.size)
        same(y + 1, np.arange(10.0).reshape(5, 2) + 1)
        assert y.mesh is x.mesh
    sent = comm.bcast(x, root=0)
    assert type(sent) is (xp.DistArray if comm.rank == 0 else xp.Part)
    assert comm.rank == 0 or np.array_equal(sent.values, np.arange(10.0).reshape(5, 2)[: len(sent.values)])
    same(comm.bcast(xp.replicate([1, 2]), root=0), np.array([1, 2]))
    if comm.rank == comm.size - 1:
        told = subprocess.run([sys.executable, "-c", UNPICKLE], input=pickle.dumps(x), capture_output=True, check=True).stdout.decode()
        first, second, _ = told.split("\n")
        assert first == f"Part (5, 2) {x.mesh.members} {comm.rank} Block(axis=0, sizes=None) {x.local.tolist()}"
        assert second.startswith("<part of an array of shape (5, 2)")


# -- blocks of another library ---------------------------------------------------------------------------------------------------------


def foreign(values, axis=0):
    """An array of blocks of the strict library."""
    x = xp.asarray(values, layout=xp.Block(axis))
    return xp.from_local(strict.asarray(x.local), axis=axis)


def is_foreign(x, values, tolerance=1e-14):
    assert isinstance(x.local, type(strict.asarray(0))), type(x.local)
    assert x.shape == np.shape(values)
    assert str(x.dtype).endswith(f".{np.asarray(values).dtype}")
    np.testing.assert_allclose(np.asarray(x), values, rtol=tolerance, atol=tolerance)


def test_elementwise_functions_of_another_librarys_blocks(comm):
    a, b = np.arange(1.0, 13).reshape(4, 3), np.arange(12.0).reshape(4, 3)[::-1].copy()
    x, y = foreign(a), foreign(b)
    is_foreign(xp.sqrt(x), np.sqrt(a))
    is_foreign(x + y * 2.0 - x, a + b * 2 - a)
    is_foreign(x + b, a + b)
    is_foreign(b[0] * x, a * b[0])
    is_foreign(1.0 / x, 1 / a)
    is_foreign(x**2.0, a**2)
    is_foreign(x + foreign(b, 1), a + b)
    is_foreign(x + xp.asarray(b), a + b)
    is_foreign(xp.asarray(b) + x, a + b)
    is_foreign(x + strict.asarray(2.0), a + 2)
    is_foreign(xp.where(x > 3.0, x, y), np.where(a > 3, a, b))
    is_foreign(xp.clip(x, 2.0, 5.0), np.clip(a, 2, 5))
    is_foreign(xp.astype(x, strict.float32), a.astype("float32"))
    is_foreign(xp.tril(x), np.tril(a))
    is_foreign(xp.zeros_like(x), np.zeros_like(a))
    is_foreign(xp.full_like(x, 2.0), np.full_like(a, 2))
    is_foreign(np.exp(x), np.exp(a))
    is_foreign(np.hypot(x, b), np.hypot(a, b))
    is_foreign(x.copy(), a)
    z = x
    z += y
    assert z is x
    is_foreign(x, a + b)
    np.multiply(x, 2, out=x)
    is_foreign(x, (a + b) * 2)
    with pytest.raises(TypeError):
        xp.sqrt(foreign(np.arange(3)))
    assert xp.result_type(x, strict.float32) == strict.float64
    assert xp.finfo(x).bits == 64


def test_another_librarys_blocks_travel_and_are_reduced(comm):
    a = np.arange(12.0).reshape(4, 3)
    x = foreign(a)
    for layout in layouts((4, 3), comm.size):
        is_foreign(x.redistribute(layout), a)
    is_foreign(xp.sum(x), a.sum())
    is_foreign(xp.sum(x, axis=0), a.sum(axis=0))
    is_foreign(xp.max(x, axis=1), a.max(axis=1))
    is_foreign(xp.mean(x, axis=0), a.mean(axis=0))
    is_foreign(xp.permute_dims(x, (1, 0)), a.T)
    assert float(xp.sum(x)) == a.sum()
    assert bool(xp.all(x >= 0.0))
    assert x.tolist() == a.tolist()
    np.testing.assert_array_equal(np.asarray(x), a)
    assert repr(x).startswith("DistArray(shape=(4, 3), dtype=array_api_strict.float64, Block(0")
    assert x.device == x.local.device
    same(pickle.loads(pickle.dumps(x)), a)
