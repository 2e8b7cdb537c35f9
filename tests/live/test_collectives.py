"""Data to and from the engines, on 1, 2, 3 and 4 of them: every dtype, order, shape and kind of sequence comes back as it was."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from mpicluster.config import CHUNK, INLINE_UP_TO, WINDOW

STRUCTURED = np.dtype([("a", "<i4"), ("b", "<f8", (2,)), ("c", [("d", "S3")])])
KINDS = ("int8", "uint8", "int16", "uint32", "int64", "uint64", "float16", "float32", "float64", "longdouble")
ARRAYS = {
    **{name: np.arange(11).astype(name) for name in KINDS},
    "complex64": np.arange(11) * np.complex64(1 + 2j),
    "bool": np.arange(11) % 2 == 0,
    "bytes": np.array([b"a", b"bcd", b""] * 3),
    "str": np.array(["a", "bcd", "\u00e9"] * 3),
    "datetime": np.arange("2020-01-01", "2020-01-12", dtype="M8[D]"),
    "timedelta": np.arange(11).astype("m8[ms]"),
    "structured": np.array([(i, (i, i + 1), (b"xyz",)) for i in range(7)], STRUCTURED),
    "big-endian": np.arange(11, dtype=">i4"),
    "object": np.array([1, "two", None, {3: 4}, 5.0], dtype=object),
    "strided": np.arange(40)[::3],
    "reversed": np.arange(40)[::-1],
    "Fortran": np.asfortranarray(np.arange(42.0).reshape(7, 6)),
    "3-D": np.arange(60).reshape(5, 3, 4),
    "transposed": np.arange(60).reshape(5, 3, 4).T,
    "empty": np.empty(0, "f4"),
    "no rows": np.empty((0, 3), "i2"),
    "no columns": np.empty((5, 0)),
    "one row": np.arange(4).reshape(1, 4),
    "masked": np.ma.masked_array(np.arange(9), np.arange(9) % 2 == 0),
}


def same(a, b):
    assert type(a) is type(b)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_from_a_scatter(rc, name, dist):
    array = ARRAYS[name]
    view = rc[:]
    view.scatter("a", array, dist=dist, block=True)
    parts = view["a"]
    expected = np.array_split(array, len(rc)) if dist == "b" else [array[i :: len(rc)] for i in range(len(rc))]
    for part, should in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(part, should)
        assert part.dtype == array.dtype
    whole = view.gather("a", dist=dist, block=True)
    same(whole, array)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_from_a_push(rc, name):
    rc[:].push({"a": ARRAYS[name]}, block=True)
    for value in rc[:]["a"]:
        same(value, ARRAYS[name])


def test_a_0d_array_is_pushed_but_not_scattered(rc):
    rc[:].push({"a": np.array(3.5)}, block=True)
    assert all(v == 3.5 and v.shape == () for v in rc[:]["a"])
    with pytest.raises(TypeError, match="0-d array"):
        rc[:].scatter("a", np.array(3.5))


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize(
    "sequence", [[], [1], list(range(10)), tuple("abcdefg"), range(3, 17, 2), "h\u00e9llo world", b"bytes", [None, {1: 2}]], ids=repr
)
def test_sequences_come_back(rc, sequence, dist):
    rc[:].scatter("s", sequence, dist=dist, block=True)
    whole = rc[:].gather("s", dist=dist, block=True)
    assert whole == (list(sequence) if isinstance(sequence, range) else sequence)


@pytest.mark.parametrize(
    "make", [lambda: deque(range(7)), lambda: (i * i for i in range(7)), lambda: {3: 1, 4: 2}], ids=["deque", "generator", "dict"]
)
def test_other_iterables_are_lists(rc, make):
    rc[:].scatter("s", make(), block=True)
    assert rc[:].gather("s", block=True) == list(make())


def test_flatten_unwraps_parts_of_length_one(rc):
    n = len(rc)
    rc[:].scatter("s", np.arange(n), flatten=True, block=True)
    assert rc[:]["s"] == list(range(n))
    rc[:].scatter("s", list(range(2 * n)), flatten=True, block=True)
    assert all(len(part) == 2 for part in rc[:]["s"])


@pytest.mark.parametrize("targets", [[0, 2], [2, 0], [3, 1, 0], [1]], ids=str)
def test_some_engines_in_any_order(rc4, targets):
    """The first target has the first part, and others have nothing."""
    view = rc4[targets]
    array = np.arange(11.0)
    view.scatter("a", array, block=True)
    for engine, part in zip(targets, np.array_split(array, len(targets)), strict=True):
        np.testing.assert_array_equal(rc4[engine]["a"], part)
    same(view.gather("a", block=True), array)
    assert view.apply_sync(lambda: "a" in globals()) == [False] * len(targets)  # a test function has its own globals
    rest = [i for i in rc4.ids if i not in targets]
    with pytest.raises(NameError):
        rc4[rest]["a"]
    view["b"] = np.zeros(10**6)
    assert view.reduce("a", lambda x, y: x if len(x) else y, block=True) is not None


@pytest.mark.parametrize(
    "nbytes",
    [1, INLINE_UP_TO - 200, INLINE_UP_TO, INLINE_UP_TO + 1, CHUNK - 1, CHUNK, CHUNK + 1, WINDOW - 1, WINDOW + 1, 3 * WINDOW // 2 + 7],
)
def test_any_size_travels(rc, nbytes):
    """Around every threshold: inline, copied, broadcast, one chunk, several, more than one window."""
    data = np.random.default_rng(nbytes).integers(0, 255, nbytes, dtype=np.uint8)
    view = rc[:]
    view.push({"d": data}, block=True)
    for back in view["d"]:
        np.testing.assert_array_equal(back, data)
    assert rc[-1].apply_sync(len, data) == nbytes
    view.scatter("d", data, block=True)
    np.testing.assert_array_equal(view.gather("d", block=True), data)


def test_arrays_on_engines_may_be_changed(rc):
    for size in (10, 10**5, 10**6):
        rc[:].push({"a": np.zeros(size)}, block=True)
        rc[:].scatter("b", np.zeros(size), block=True)
        rc[:].execute("a += 1; b += 1", block=True)
        assert all(a.sum() == size for a in rc[:]["a"])
        assert rc[:].gather("b", block=True).sum() == size


def test_a_call_that_does_not_wait_sends_what_the_data_were(rc):
    data = np.ones(2_000_000)
    busy = rc[:].execute("sum(range(10**6))", block=False)
    result = rc[:].push({"a": data}, block=False)
    data[:] = 7
    busy.get(timeout=30)
    result.get(timeout=30)
    assert all((a == 1).all() for a in rc[:]["a"])


def test_results_of_any_size_come_back(rc):
    for size in (10, 10**5, 3 * 10**6):
        for value in rc[:].apply_async(np.arange, size).get(timeout=30):
            np.testing.assert_array_equal(value, np.arange(size))


OPS = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "land": np.logical_and,
    "lor": np.logical_or,
    "lxor": np.logical_xor,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "float64", "complex128", ">f8"])
@pytest.mark.parametrize("op", [op for op in OPS if op[0] != "b"])
def test_reduce_is_numpys(rc, op, dtype):
    """Element by element in the order of the engines; sums of floats may differ in the last digits."""
    rng = np.random.default_rng(1)
    array = (rng.integers(0, 3, (len(rc), 5)) + (1j if dtype == "complex128" else 0)).astype(dtype)
    for i, engine in enumerate(rc):
        engine["v"] = array[i]
    result = rc[:].reduce("v", op, block=True)
    with np.errstate(all="ignore"):
        native = array.astype(array.dtype.newbyteorder("="))
        expected = OPS[op].reduce(native != 0 if op[0] == "l" else native, axis=0, dtype=native.dtype if op in ("sum", "prod") else None)
    np.testing.assert_allclose(result, expected, rtol=1e-3 if dtype == "float16" else 1e-6)
    assert result.dtype.newbyteorder("=") == expected.dtype


@pytest.mark.parametrize("op", ["band", "bor", "bxor"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32"])
def test_reduce_by_bits(rc, op, dtype):
    array = np.random.default_rng(2).integers(0, 2, (len(rc), 6)).astype(dtype)
    for i, engine in enumerate(rc):
        engine["v"] = array[i]
    np.testing.assert_array_equal(rc[:].reduce("v", op, block=True), OPS[op].reduce(array, axis=0))


def test_reduce_of_what_mpi_does_not_know(rc):
    """NaN is passed on, bool is counted, Python's integers do not overflow, objects use their own operators."""
    n = len(rc)
    view = rc[:]
    view.block = True
    view.execute("import numpy as np")
    view.execute("x = np.array([np.nan, 1.0]) if rank == 0 else np.array([1.0, np.nan])")
    assert np.isnan(view.reduce("x", "max")).tolist() == [True, n > 1]
    view.execute("x = np.array([True, False])")
    assert view.reduce("x").tolist() == [n, 0]
    view.execute("x = 2**62")
    assert view.reduce("x") == n * 2**62
    view.execute("x = [rank]")
    assert view.reduce("x") == list(range(n))
    view.execute("x = str(rank)")
    assert view.reduce("x", lambda a, b: a + b) == "".join(map(str, range(n)))
    view.execute("x = np.datetime64('2020-01-01') + rank")
    assert view.reduce("x", "max") == np.datetime64("2020-01-01") + n - 1
    view.execute("x = np.zeros(rank + 2)")
    if n > 1:
        with pytest.raises(ValueError, match="broadcast"):
            view.reduce("x")
    assert view.reduce("rank", "max") == n - 1
    with pytest.raises(ValueError, match="op must be"):
        view.reduce("x", "mean")


def test_a_missing_name_fails_on_its_engine_alone(rc4):
    """The others do not wait for it, and the next collective works."""
    rc4[[0, 1, 3]].push({"part": 1}, block=True)
    for collective in (rc4[:].gather, rc4[:].reduce):
        with pytest.raises(NameError) as caught:
            collective("part", block=True)
        assert caught.value.engine_info["engine_id"] == 2
    rc4[2]["part"] = 1
    assert rc4[:].reduce("part", block=True) == 4


def test_a_part_that_cannot_travel_is_told(rc):
    rc[:].execute("part = (i for i in range(3))", block=True)
    for collective in (rc[:].gather, rc[:].reduce):
        with pytest.raises(TypeError, match="generator"):
            collective("part", block=True)
    assert rc[:].apply_sync(abs, -1) == [1] * len(rc)


def test_more_than_2_gib(clusters):
    """Counts above 2**31 - 1 bytes, by scatter, gather and push."""
    rc = clusters(2)
    view = rc[:]
    view.block = True
    size = 2_200_000_000
    data = np.ones(size, np.int8)
    data[::1_000_003] = 3
    total = int(data[::1_000_003].size) * 2 + size
    view.scatter("huge", data)
    view.execute("total = int(huge.sum(dtype='i8')); length = len(huge)")
    assert view["length"] == [size // 2] * 2
    assert sum(view["total"]) == total
    back = view.gather("huge")
    assert back.dtype == np.int8
    assert np.array_equal(back, data)
    del back
    view.clear()
    view.push({"huge": data})
    view.execute("total = int(huge.sum(dtype='i8'))")
    assert view["total"] == [total] * 2
    view.clear()
