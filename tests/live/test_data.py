"""Data of every kind keep their type on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mpicluster import Client, RemoteError
from mpicluster.client.transfers import Ring, Transfers

TIMEOUT = 30
DTYPES = ["?", "i1", "u8", ">i4", "f2", "f4", ">f8", "c8", "M8[ns]", "m8[s]", "S4", "U4", "O", "V3", "i4,f8"]


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dtype_survives_scatter_and_gather(rc, dtype, dist):
    for shape in ((0,), (1,), (9,), (5, 2), (3, 2, 2)):
        array = np.zeros(shape, dtype)
        rc[:].scatter("a", array, dist=dist, block=False).get(timeout=TIMEOUT)
        back = rc[:].gather("a", dist=dist, block=False).get(timeout=TIMEOUT)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("limit", [1 << 18, 1 << 20, 1 << 24])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_bytes_around_a_limit(rc, limit, more):
    data = bytes(limit + more)
    rc[:].push({"d": data}, block=False).get(timeout=TIMEOUT)
    assert rc[:].pull("d", block=False).get(timeout=TIMEOUT) == [data] * len(rc)


@pytest.mark.parametrize("targets", [[0, 2], [2, 0]], ids=str)
def test_reduce_goes_in_the_order_of_the_targets(rc4, targets):
    view = rc4[targets]
    view.execute("s = str(rank)", block=False).get(timeout=TIMEOUT)
    result = view.reduce("s", lambda a, b: a + b, block=False)
    assert result.get(timeout=TIMEOUT) == "".join(map(str, targets))


def test_an_operation_that_raises_is_told(rc4):
    rc4[:].execute("s = 1", block=False).get(timeout=TIMEOUT)
    with pytest.raises(ZeroDivisionError):
        rc4[:].reduce("s", lambda a, b: a // 0, block=False).get(timeout=TIMEOUT)
    assert rc4[:].reduce("s", block=False).get(timeout=TIMEOUT) == 4


NESTED = np.dtype([("id", "<u2"), ("place", [("x", "f4"), ("when", "M8[s]")]), ("grid", "i1", (2, 3))], align=True)
PADDED = np.dtype({"names": ["a", "b"], "formats": ["i1", ">f8"], "offsets": [3, 8], "itemsize": 24})


def some(dtype, shape):
    """An array of that dtype with arbitrary values in it; no bytes that stand for NaN."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    numbers = np.random.default_rng(count).integers(0, 63, count * dtype.itemsize, np.uint8)
    return numbers.view(dtype).reshape(shape)


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("dtype", [NESTED, PADDED, "V5", "g", "G", ">c16", "<U3"], ids=str)
def test_a_composed_dtype_survives(rc, dtype, dist):
    """Sub-arrays, alignment and foreign byte orders included."""
    array = np.array(["a", "xyz", ""] * 4).astype(dtype) if dtype == "<U3" else some(dtype, (12,))
    rc[:].scatter("a", array, dist=dist, block=True)
    back = rc[:].gather("a", dist=dist, block=True)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    rc[:].push({"a": array}, block=True)
    for copy in rc[:]["a"]:
        assert copy.dtype == array.dtype
        np.testing.assert_array_equal(copy, array)


@pytest.mark.parametrize("rows", [5, 300_000])
def test_foreign_dates_keep_their_values(rc, rows):
    """NumPy's own pickle makes their byte order native."""
    array = (np.datetime64("2020-01-01", "s") + np.arange(rows)).astype(">M8[s]")
    rc[:].scatter("a", array, block=True)
    np.testing.assert_array_equal(np.concatenate(rc[:]["a"]), array)
    np.testing.assert_array_equal(rc[:].gather("a", block=True), array)
    np.testing.assert_array_equal(rc[-1].apply_sync(np.copy, array), array)


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize(
    "array",
    [
        np.rec.array([(i, i / 2) for i in range(7)], names="a,b"),
        np.ma.masked_array(np.arange(14.0).reshape(7, 2), np.arange(14).reshape(7, 2) % 3 == 0),
        np.array([[1], "a", None, {}, 5, [6], 7], object),
    ],
    ids=["record array", "masked array", "objects"],
)
def test_a_kind_of_array_survives(rc, array, dist):
    rc[:].scatter("a", array, dist=dist, block=True)
    parts = rc[:]["a"]
    assert all(type(part) is type(array) for part in parts)
    back = rc[:].gather("a", dist=dist, block=True)
    assert type(back) is type(array)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    if isinstance(array, np.ma.MaskedArray):
        np.testing.assert_array_equal(back.mask, array.mask)


def test_large_payloads_at_the_same_time_are_not_mixed(rc4):
    """In both directions, from several threads and clients: more than the memory that is shared for them holds."""
    clients = [Client(rc4.contact) for _ in range(2)]

    def work(number):
        rc = clients[number % 2]
        for turn in range(3):
            data = np.full(2_500_000, number * 10 + turn, np.int64)
            back = rc.load_balanced_view().map_async(np.negative, [data] * 4).get(timeout=TIMEOUT)
            assert all((b == -data).all() for b in back)
            assert (rc[number % 4].apply_async(np.copy, data).get(timeout=TIMEOUT) == data).all()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for number in range(6)]:
            done.result(TIMEOUT * 4)
    for client in clients:
        client.close()


def test_a_client_killed_while_it_receives_costs_nobody_a_thing(rc4):
    """What it had not read is free for others."""
    script = f"""
import mpicluster, numpy as np, os, signal, threading
rc = mpicluster.Client(profile={rc4.contact.profile!r})
def stop():
    os.kill(os.getpid(), signal.SIGKILL)
rc._transfers.receive = lambda message, frame, connection: stop()
rc[0].apply_async(np.zeros, 10_000_000).get()
"""
    before = rc4.status()["clients"]
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", script], timeout=TIMEOUT, check=False).returncode == -signal.SIGKILL
    deadline = time.monotonic() + TIMEOUT
    while rc4.status()["clients"] != before:
        assert time.monotonic() < deadline
    ring = rc4[0].apply_async(_slots_taken).get(timeout=TIMEOUT)
    assert ring == 0
    data = np.arange(5_000_000)
    assert (rc4[0].apply_async(np.copy, data).get(timeout=TIMEOUT) == data).all()


def _slots_taken():
    """Slots of this engine's ring that nobody has given back."""
    import gc

    from mpicluster.serial import ring

    (mine,) = [o for o in gc.get_objects() if isinstance(o, ring.Ring)]
    return sum(mine._memory[ring._RELEASED + i] != mine._uses[i] and i not in mine._reclaimed for i in range(ring.RING_SLOTS))


@pytest.mark.parametrize("side", ["client", "engines"])
def test_without_shared_memory_payloads_go_by_message(rc4, monkeypatch, side):
    """As they do from another host."""
    if side == "client":
        monkeypatch.setattr(Ring, "make", lambda: None)
    monkeypatch.setattr(Transfers, "_reader", lambda self, place: None)
    with Client(rc4.contact) as rc:
        data = np.arange(3_000_000)
        rc[:].push({"x": data}, block=True)
        assert [int(x.sum()) for x in rc[:].pull("x", block=True)] == [int(data.sum())] * 4
        rc[:].scatter("y", data, block=True)
        np.testing.assert_array_equal(rc[:].gather("y", block=True), data)


def test_what_comes_back_may_be_changed(rc):
    for size in (3, 3_000, 300_000):
        array = np.arange(float(size))
        array.flags.writeable = False
        rc[:].scatter("a", array, block=True)
        whole = rc[:].gather("a", block=True)
        whole += 1
        rc[:].execute("a += 1", block=True)
        for part in rc[:]["a"]:
            part += 1
        assert rc[:].gather("a", block=True).sum() == array.sum() + size


def test_parts_without_rows_keep_their_shape(rc4):
    rc4[:].scatter("a", np.ones((2, 3), "f4"), block=True)
    assert [(part.shape, part.dtype) for part in rc4[:]["a"]] == [((1, 3), "f4"), ((1, 3), "f4"), ((0, 3), "f4"), ((0, 3), "f4")]
    rc4[:].scatter("a", np.ones((4, 0)), block=True)
    assert [part.shape for part in rc4[:]["a"]] == [(1, 0)] * 4
    assert rc4[:].gather("a", block=True).shape == (4, 0)


@pytest.mark.parametrize("targets", [0, [2], [3, 1], [1, 2, 0]], ids=str)
def test_collectives_over_some_of_the_engines(rc4, targets):
    """By a view and by ``targets=``; the order of the targets is the order of the parts."""
    order = [targets] if isinstance(targets, int) else targets
    array = np.arange(23).reshape(23, 1)
    rc4[:].scatter("a", array, targets=targets, block=True)
    parts = rc4[order]["a"]
    for part, expected in zip(parts, np.array_split(array, len(order)), strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(rc4[targets].gather("a", block=True), array)
    rc4[targets].push({"big": np.ones(400_000)}, block=True)
    rc4[:].execute("mine = [rank]", targets=targets, block=True)
    assert rc4[targets].gather("mine", block=True) == rc4[targets].reduce("mine", block=True) == order


def test_flatten(rc):
    n = len(rc)
    for dist in "br":
        rc[:].scatter("a", np.arange(n * 2.0).reshape(n, 2), dist=dist, flatten=True, block=True)
        assert [part.tolist() for part in rc[:]["a"]] == [[2.0 * i, 2 * i + 1] for i in range(n)]
        rc[:].scatter("a", [{"i": i} for i in range(n)], dist=dist, flatten=True, block=True)
        assert rc[:]["a"] == [{"i": i} for i in range(n)]
    rc[:].scatter("a", np.arange(n), flatten=True, block=True)
    assert rc[:].gather("a", block=True) == list(range(n))


@pytest.mark.parametrize("nbytes", [(1 << 18) - 1, 1 << 18, (1 << 18) + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 3])
def test_parts_of_any_size(rc, nbytes):
    """Around the sizes at which data ride in a message, are broadcast, and fill a chunk."""
    data = some("u1", (nbytes,))
    for sent in (data, data.tobytes()):
        rc[:].scatter("a", sent, block=True)
        back = rc[:].gather("a", block=True)
        assert bytes(back) == data.tobytes()
    share = data[: nbytes // len(rc) + 1]
    rc[:].push({"b": share}, block=True)
    assert all(np.array_equal(x, share) for x in rc[:]["b"])


def test_an_object_of_many_arrays(rc):
    """Again and again: MPICH left the root waiting for a rank that had gone, in one push of thirty."""
    arrays = [np.full(2_500, i) for i in range(400)]
    for _ in range(20):
        rc[:].push({"l": arrays}, block=False).get(timeout=TIMEOUT)
    assert all(all(np.array_equal(x, y) for x, y in zip(back, arrays, strict=True)) for back in rc[:]["l"])


def test_more_rows_than_mpi_can_count(rc):
    """Those are sent in pieces; here every count is too large."""
    where = "import mpicluster.engine.collective as c\n"
    rc[:].execute(where + "kept = c._INT_MAX, c._GIB\nc._INT_MAX, c._GIB = 0, 1000", block=True)
    try:
        for array in (np.arange(10_007), some(NESTED, (31,)), np.arange(2), np.empty((0, 2))):
            rc[:].scatter("a", array, block=True)
            for part, expected in zip(rc[:]["a"], np.array_split(array, len(rc)), strict=True):
                np.testing.assert_array_equal(part, expected)
            np.testing.assert_array_equal(rc[:].gather("a", block=True), array)
    finally:
        rc[:].execute(where + "c._INT_MAX, c._GIB = kept", block=True)


def test_parts_of_several_kinds_come_as_they_are(rc4):
    view = rc4[:]
    view.execute("import numpy as np\nx = [np.arange(2), [1], 'a', 5][rank]", block=True)
    parts = view.gather("x", block=True)
    assert parts[0].tolist() == [0, 1]
    assert parts[1:] == [[1], "a", 5]
    view.execute("x = np.ones(1, ['i4', 'f8', '?', '>i2'][rank])", block=True)
    assert view.gather("x", block=True).tolist() == [1, 1, 1, 1]
    view.execute("x = np.ones((rank + 1, rank + 1))", block=True)
    with pytest.raises(ValueError, match="dimensions"):
        view.gather("x", block=True)
    assert view.apply_sync(abs, -1) == [1] * 4


def test_a_part_that_one_engine_cannot_receive_fails_there_alone(rc4):
    rc4[:3].execute("import sys, types\nm = types.ModuleType('only_some')\nsys.modules['only_some'] = m\nclass A: pass", block=True)
    rc4[:3].execute("A.__module__ = 'only_some'\nA.__qualname__ = 'A'\nm.A = A\na = A()", block=True)
    code = rc4[0].apply_sync(lambda: __import__("pickle").dumps(__import__("__main__").a))

    class Sent:
        def __reduce__(self):
            import pickle

            return pickle.loads, (code,)

    result = rc4[:].scatter("s", [Sent() for _ in range(4)], block=False)
    error = result.exception(timeout=TIMEOUT)
    assert isinstance(error, TypeError)
    assert error.engine_info["engine_id"] == 3
    assert "only_some" in str(error)
    assert rc4[:3].apply_sync(eval, "len(__import__('__main__').s)") == [1] * 3


def test_a_part_whose_pickling_exits_frees_the_others(rc4):
    rc4[:].execute("class Bad:\n    def __reduce__(self):\n        raise SystemExit(5)\nx = Bad() if rank == 2 else [rank]", block=True)
    for collective in (rc4[:].gather, rc4[:].reduce):
        with pytest.raises(RemoteError, match="SystemExit: 5") as caught:
            collective("x", block=False).get(timeout=TIMEOUT)
        assert caught.value.engine_info["engine_id"] == 2
    assert rc4[:].reduce("rank", block=False).get(timeout=TIMEOUT) == 6


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_an_operation_that_ends_half_way_leaves_nothing_behind(rc4, error):
    """Later parts are still received, and not by the next call."""
    rc4[:].execute(f"import numpy as np\nx = np.arange(200_000) + rank\nerror = {error}", block=True)

    def exits(a, b):
        raise __import__("__main__").error("no more")

    result = rc4[:].reduce("x", exits, block=False)
    assert result.exception(timeout=TIMEOUT).errors[0].ename == error
    assert rc4[:].reduce("rank", lambda a, b: a * 10 + b, block=False).get(timeout=TIMEOUT) == 123


def test_an_operation_that_is_too_large_is_refused(rc):
    table = np.zeros(5_000_000)
    with pytest.raises(TypeError, match="do not fit into one message"):
        rc[:].reduce("rank", lambda a, b: a + b + table[0], block=False).get(timeout=TIMEOUT)
    assert not rc.outstanding
    assert rc[:].reduce("rank", block=False).get(timeout=TIMEOUT) == sum(rc.ids)


VALUES = {
    "int": ("rank + 1", {"sum": int, "prod": int, "min": int, "max": int, "band": int, "bor": int, "bxor": int}),
    "large int": ("2**70 + rank", {"sum": int, "max": int, "bxor": int}),
    "float": ("rank / 2", {"sum": float, "min": float}),
    "bool": ("rank == 1", {"max": bool, "band": bool, "land": np.bool_, "lxor": np.bool_}),
    "str": ("str(rank)", {"sum": str, "min": str, "max": str}),
    "fraction": ("__import__('fractions').Fraction(rank + 1, 3)", {"sum": None, "prod": None, "max": None}),
    "list": ("[rank]", {"sum": list, "max": list}),
    "set": ("{rank, 9}", {"bor": set, "band": set}),
    "date": ("__import__('datetime').date(2020, 1, rank + 1)", {"min": None}),
    "numpy scalar": ("np.float32(rank)", {"sum": np.float32, "min": np.float32, "lor": np.bool_}),
    "numpy datetime": ("np.datetime64('2020-01-01') + rank", {"max": np.datetime64}),
    "0-d": ("np.array(rank)", {"sum": np.ndarray, "max": np.ndarray}),
    "long double": ("np.longdouble(rank) + np.longdouble(2) ** -60", {"sum": np.longdouble, "max": np.longdouble}),
}
PYTHONS = {
    "sum": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "min": min,
    "max": max,
    "band": lambda a, b: a & b,
    "bor": lambda a, b: a | b,
    "bxor": lambda a, b: a ^ b,
    "land": np.logical_and,
    "lor": np.logical_or,
    "lxor": np.logical_xor,
}


@pytest.mark.parametrize("name", VALUES)
def test_reduce_of_values_of_every_kind(rc, name):
    """As Python's operators do it, and of the same type whatever the number of engines."""
    code, ops = VALUES[name]
    rc[:].execute(f"import numpy as np\nx = {code}", block=True)
    values = rc[:]["x"]
    for op, kind in ops.items():
        expected = values[0]
        for value in values[1:]:
            expected = PYTHONS[op](expected, value)
        result = rc[:].reduce("x", op, block=False).get(timeout=TIMEOUT)
        assert result == (bool(expected) if op[0] == "l" else expected)
        if kind is not None:
            assert type(result) is kind, op


@pytest.mark.parametrize("dtype", ["f4", "f8", "g", "c8", "f2"])
def test_nan_wins_wherever_it_is(rc, dtype):
    for place in rc.ids:
        rc[:].execute(f"import numpy as np\nx = np.array([1, np.nan if rank == {place} else 2], '{dtype}')", block=True)
        for op in ("min", "max"):
            result = rc[:].reduce("x", op, block=False).get(timeout=TIMEOUT)
            assert result.dtype == np.dtype(dtype)
            assert np.isnan(result).tolist() == [False, True]


@pytest.mark.parametrize(
    "value",
    [
        "np.empty((0, 3))",
        "np.arange(24.0).reshape(2, 3, 4).T * (rank + 1)",
        "np.asfortranarray(np.arange(6).reshape(2, 3)) + rank",
        "np.arange(20)[::-3] * (rank + 1)",
        "np.arange(3, dtype='i1') + np.int8(100)",
        "np.ma.masked_array([1, 2, 3], [0, rank == 0, 0])",
        "np.arange(3, dtype=['i4', 'f8', '>i2', 'u1'][rank])",
        "np.arange(rank % 2 * 2 + 1)",
        "np.array([[rank], None, 'a'][:1], object)",
        "np.array([(rank, 1.0)], 'i4,f8')['f0']",
    ],
)
def test_reduce_of_arrays_of_every_shape(rc, value):
    """What NumPy's addition of the parts gives, in the order of the engines."""
    rc[:].execute(f"import numpy as np\nx = {value}", block=True)
    parts = rc[:]["x"]
    expected = parts[0]
    for part in parts[1:]:
        expected = expected + part
    result = rc[:].reduce("x", block=False).get(timeout=TIMEOUT)
    assert type(result) is type(expected)
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)


def test_a_reduce_that_python_cannot_do_fails_and_harms_nothing(rc4):
    view = rc4[:]
    for value, op in (("{}", "sum"), ("object()", "max"), ("np.zeros(rank + 2)", "prod"), ("1.5", "band"), ("np.zeros(2)", "bxor")):
        view.execute(f"import numpy as np\nx = {value}", block=True)
        with pytest.raises((TypeError, ValueError)):
            view.reduce("x", op, block=False).get(timeout=TIMEOUT)
    assert view.reduce("rank", block=False).get(timeout=TIMEOUT) == 6
