"""Calls, maps, results and errors, as a person meets them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import itertools
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import mpicluster
from mpicluster import AsyncResult, Client, ClosedError, CompositeError, NoCluster, RemoteError, TargetError, TaskAborted

TIMEOUT = 30


class Odd(Exception):
    """An exception with arguments of its own."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code

    def __reduce__(self):
        return Odd, (self.code, "again")


def fail_with(kind, *args):
    raise kind(*args)


def sleep_until_told(path):
    import os
    import time

    deadline = time.monotonic() + 120
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return path


def test_reprs(rc4):
    assert repr(rc4.direct_view()) == "<DirectView all>"
    assert repr(rc4[::2]) == "<DirectView [0, 2]>"
    assert repr(rc4[-1]) == "<DirectView 3>"
    assert repr(rc4.load_balanced_view()) == "<LoadBalancedView None>"
    result = rc4[:].apply_async(math.sqrt, 2)
    result.wait(TIMEOUT)
    assert repr(result) == "<AsyncResult: finished>"
    assert "4 engines" in repr(rc4)


def test_views_by_index(rc4):
    assert [view.targets for view in rc4] == [0, 1, 2, 3]
    assert rc4[[2, 0]].apply_sync(lambda: 1) == [1, 1]
    assert rc4[1].apply_sync(math.sqrt, 4) == 2
    for wrong in (7, [0, 9], -5):
        with pytest.raises(TargetError):
            rc4[wrong]
    with pytest.raises(TypeError):
        rc4["all"]
    with pytest.raises(TypeError, match="to choose engines, index the client"):
        rc4[:][0]
    with pytest.raises(TargetError, match="twice"):
        rc4[[1, 1]]


def test_namespace(rc):
    view = rc[:]
    view.block = True
    view.update({"a": 1, "b": [1, 2]})
    assert view.pull(["a", "b"]) == [[1, [1, 2]]] * len(rc)
    assert view.get("a") == [1] * len(rc)
    view.execute("class C: pass\nc = C()")
    view["c.x"] = 5
    assert view["c.x"] == [5] * len(rc)
    assert view["rank"] == list(range(len(rc)))
    assert view["size"] == [len(rc)] * len(rc)
    view.execute("total = comm.allreduce(rank)")
    assert view["total"] == [sum(range(len(rc)))] * len(rc)
    view.clear()
    with pytest.raises(NameError):
        view["a"]
    assert view["rank"] == list(range(len(rc)))


def test_execute_runs_cells(rc):
    view = rc[:]
    result = view.execute("%cd -q /\nimport os\nprint(os.getcwd())\nfor i in range(2):\n    print(i)", block=True)
    assert result.stdout == ["/\n0\n1\n"] * len(rc)
    with pytest.raises(SyntaxError):
        view.execute("this is no python", block=True)
    with pytest.raises(ZeroDivisionError) as caught:
        view.execute("1 / 0", block=True)
    assert caught.value.render_traceback()[0] == f"[{','.join(map(str, rc.ids))}:execute]:"
    assert view.execute("pass", targets=0, block=True).get().status == "ok"


def test_run_sends_a_script(rc, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("x = 5\ndef double(y): return 2 * y\n")
    rc[:].run(str(script), block=True)
    assert rc[:]["x"] == [5] * len(rc)
    assert rc[0]["double"](4) == 8


def test_sync_imports_keep_their_aliases(rc, capsys):
    view = rc[:]
    with view.sync_imports():
        import decimal as d
        import os.path
        from math import pi as three
    assert d
    assert os.path
    assert three
    view.execute("x = (d.Decimal(1), os.path.sep, round(three, 2))", block=True)
    assert rc[0]["x"][1:] == ("/", 3.14)
    assert "importing decimal on engine(s)" in capsys.readouterr().out


SCRIPT = """
import mpicluster, sys, functools
data = 10
class Point:
    def __init__(self, x): self.x = x
    def double(self): return helper(self.x)
def helper(x): return 2 * x
def fact(n): return 1 if n < 2 else n * fact(n - 1)
def uses(x): return Point(x).double()
def needs_data(x): return x + data
def adder(n):
    def add(x): return x + n
    return add
with mpicluster.Cluster(n=2) as rc:
    v = rc[:]; v.block = True
    assert v.apply(fact, 5) == [120, 120]
    assert v.apply(uses, 4) == [8, 8]
    try: v.apply(needs_data, 1)
    except NameError as e: assert "hint: 'data' is looked up on the engine" in e.traceback
    else: raise SystemExit("data must not travel")
    v["data"] = 100
    assert v.apply(needs_data, 1) == [101, 101]
    def helper(x): return 3 * x
    assert v.apply(uses, 4) == [12, 12], "a changed helper is seen"
    assert v.apply(adder(5), 1) == [6, 6]
    assert v.apply(lambda x, *, y=2: x * y, 3) == [6, 6]
    assert v.apply(functools.partial(helper, 5)) == [15, 15]
    assert [p.x for p in v.apply(Point, 3)] == [3, 3] and isinstance(v.apply(Point, 3)[0], Point)
    assert v.apply(Point(6).double) == [18, 18]
    v.scatter("part", list(range(4)))
    def mine(): return sum(part)
    assert v.apply(mine) == [1, 5]
    big = list(range(200000))
    assert rc.load_balanced_view().map_sync(lambda i, big=big: big[i], range(5)) == list(range(5))
print("fine")
"""


def test_functions_of_a_session(tmp_path, monkeypatch):
    """They see the engine's names; functions and classes travel with them, data do not."""
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_direct_map(rc):
    view = rc[:]
    for items in (range(11), [], [1], np.arange(7)):
        assert view.map_sync(abs, items) == [abs(x) for x in items]
    assert view.map_sync(pow, range(5), (2, 2, 2, 2, 2, 2)) == [0, 1, 4, 9, 16]
    assert list(view.map_async(math.sqrt, (x * x for x in range(9)))) == list(range(9))
    rows = list(np.ones((8, 300_000)))
    assert view.map_sync(np.sum, rows) == [300_000.0] * 8


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_balanced_map(rc, chunksize, ordered):
    view = rc.load_balanced_view()
    result = view.map(abs, range(-20, 1), chunksize=chunksize, ordered=ordered)
    values = list(result)
    assert sorted(values) == list(range(21))
    if ordered:
        assert values == list(range(20, -1, -1))
    assert result.get(timeout=TIMEOUT) == list(range(20, -1, -1))
    assert len(result) == result.progress == 21
    assert view.map_sync(abs, []) == []
    assert view.map_sync(pow, range(4), itertools.repeat(2)) == [0, 1, 4, 9]


def test_many_small_tasks(rc):
    view = rc.load_balanced_view()
    assert view.map_sync(abs, range(20_000)) == list(range(20_000))


def test_large_tasks_and_results(rc):
    view = rc.load_balanced_view()
    arrays = [np.full(400_000, i) for i in range(6)]
    for i, back in enumerate(view.map_sync(np.negative, arrays)):
        np.testing.assert_array_equal(back, -arrays[i])


def test_imap_takes_no_more_than_it_needs(rc):
    """Infinite input is fine; what was not wanted is taken back."""
    taken = itertools.count()
    values = rc.load_balanced_view().imap(abs, taken, max_outstanding=8)
    assert [next(values) for _ in range(20)] == list(range(20))
    values.close()
    assert next(taken) <= 40
    assert sorted(rc.load_balanced_view().imap(abs, range(30), ordered=False)) == list(range(30))


def test_targets_and_retries(rc4, tmp_path):
    view = rc4.load_balanced_view(targets=[1, 3])
    assert set(view.map_sync(lambda i: __import__("mpicluster.engine").engine.current_world.id, range(40))) <= {1, 3}

    def stubborn(path):
        import mpicluster.engine

        me = mpicluster.engine.current_world.id
        with open(path, "a") as f:
            f.write(f"{me}\n")
        if len(open(path).readlines()) < 3:
            raise RuntimeError("not yet")
        return me

    view = rc4.load_balanced_view(retries=2)
    view.apply_sync(stubborn, str(tmp_path / "tries"))
    tries = (tmp_path / "tries").read_text().split()
    assert len(tries) == 3
    assert tries[0] != tries[1]  # another engine first
    assert tries[1] != tries[2]
    view.retries = 0
    with pytest.raises(RuntimeError, match="not yet"):
        view.apply_sync(stubborn, str(tmp_path / "more"))


def test_cancel_takes_back_what_has_not_begun(rc, tmp_path):
    """It says the truth: what has begun runs to its end, the rest never runs."""
    gate, trace = str(tmp_path / "gate"), str(tmp_path / "trace")
    blockers = rc[:].apply_async(sleep_until_told, gate)

    def mark(path):
        open(path, "a").write("x")

    queued = rc[:].apply_async(mark, trace)
    balanced = rc.load_balanced_view().map_async(mark, [trace] * 50)
    assert queued.cancel() is True
    assert balanced.cancel() is True
    assert queued.cancelled()
    with pytest.raises(TaskAborted):
        queued.get(timeout=TIMEOUT)
    with pytest.raises(concurrent.futures.CancelledError):
        balanced.get(timeout=TIMEOUT)
    open(gate, "w").close()
    assert blockers.get(timeout=TIMEOUT) == [gate] * len(rc)
    assert blockers.cancel() is False
    rc[:].apply_sync(abs, 1)
    assert not os.path.exists(trace)
    with pytest.raises(RuntimeError, match="is done"):
        blockers.abort()


def test_what_a_result_knows(rc):
    n = len(rc)
    result = rc[:].apply_async(math.sqrt, 4)
    assert isinstance(result, AsyncResult)
    assert isinstance(result, concurrent.futures.Future)
    assert result.get(timeout=TIMEOUT) == result.r == result.result() == [2.0] * n
    assert result.ready()
    assert result.done()
    assert result.successful()
    assert result.progress == len(result) == n
    assert list(result) == [2.0] * n
    assert result[0] == 2.0
    assert result[-1:] == [2.0]
    assert result.get_dict() == dict.fromkeys(rc.ids, 2.0)
    assert result.engine_id == rc.ids
    assert [x["status"] for x in result.metadata] == ["ok"] * n
    assert result.wall_time >= 0
    assert result.elapsed >= 0
    assert result.serial_time >= 0
    assert result.exception() is None
    assert rc[0].apply_async(math.sqrt, 4).get(timeout=TIMEOUT) == 2.0


def test_a_result_that_is_not_ready(rc, tmp_path):
    gate = tmp_path / "gate"
    result = rc[0].apply_async(sleep_until_told, str(gate))
    with pytest.raises(TimeoutError, match="0 of 1"):
        result.get(timeout=0.01)
    assert result.wait(0) is False
    assert not result.ready()
    with pytest.raises(RuntimeError):
        result.successful()
    with pytest.raises(TimeoutError):
        result[0]
    with pytest.raises(TimeoutError):
        _ = result.wall_time
    gate.touch()
    assert result.get(timeout=TIMEOUT) == str(gate)


def test_results_are_futures(rc):
    """They work with asyncio and concurrent.futures, and a callback may wait for another result."""
    view = rc.load_balanced_view()
    results = [view.apply_async(abs, -i) for i in range(10)]
    assert {r.result() for r in concurrent.futures.as_completed(results, timeout=TIMEOUT)} == set(range(10))
    said: concurrent.futures.Future[int] = concurrent.futures.Future()
    view.apply_async(abs, -3).add_done_callback(lambda r: said.set_result(r.result() + view.apply_sync(abs, -4)))
    assert said.result(timeout=TIMEOUT) == 7

    async def several():
        return await asyncio.gather(*(asyncio.wrap_future(view.apply_async(abs, -i)) for i in range(5))), await view.apply_async(abs, -9)

    assert asyncio.run(several()) == ([0, 1, 2, 3, 4], 9)


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (ZeroDivisionError, ("zero",)),
        (KeyError, ("k",)),
        (FileNotFoundError, (2, "nothing there", "f")),
        (UnicodeDecodeError, ("utf-8", b"\xff", 0, 1, "bad")),
        (Odd, (7, "odd")),
        (KeyboardInterrupt, ()),
        (SystemExit, (3,)),
        (StopIteration, (1,)),
        (ExceptionGroup, ("g", [ValueError(1)])),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_an_exception_keeps_its_type(rc, kind, args):
    """On one engine and on all; and the engine goes on."""
    with pytest.raises(RemoteError) as caught:
        rc[0].apply_sync(fail_with, kind, *args)
    assert caught.value.ename == kind.__name__
    kept = issubclass(kind, Exception)
    assert isinstance(caught.value, kind) == kept
    assert caught.value.engine_info["engine_id"] == 0
    assert "in fail_with(kind)" in caught.value.traceback
    if len(rc) > 1:
        with pytest.raises(CompositeError) as caught:
            rc[:].apply_sync(fail_with, kind, *args)
        assert any(line.endswith(":apply]:") and "1" in line for line in caught.value.render_traceback())
        assert isinstance(caught.value, kind) == kept or kind is ExceptionGroup
    assert rc[:].apply_sync(abs, -2) == [2] * len(rc)


def test_what_cannot_travel_is_told_and_harms_nothing_else(rc):
    with pytest.raises(TypeError, match="the arguments of abs"):
        rc[:].apply_sync(abs, threading.Lock())
    with pytest.raises(TypeError, match="the result of apply"):
        rc[0].apply_sync(lambda: __import__("threading").Lock())
    with pytest.raises(TypeError, match="not callable"):
        rc[:].apply_sync(5)

    class Bad(Exception):
        def __init__(self):
            super().__init__("bad one")
            self.lock = __import__("threading").Lock()

    with pytest.raises(RemoteError, match="bad one"):
        rc[0].apply_sync(functools.partial(fail_with, Bad))
    results = rc.load_balanced_view().map(lambda x: 1 / x, [1, 0, 2])
    with pytest.raises(ZeroDivisionError):
        results.get(timeout=TIMEOUT)
    assert rc[:].apply_sync(abs, -2) == [2] * len(rc)


def test_a_closed_client_says_so(rc):
    with Client(rc.contact) as other:
        assert other.ids == rc.ids
        view = other[:]
        pending = view.execute("while not globals().get('go'): break", block=False)
        pending.wait(TIMEOUT)
    for call in (lambda: view.apply_sync(abs, 1), lambda: other[:], lambda: other.status()):
        with pytest.raises(ClosedError):
            call()
    assert rc[:].apply_sync(abs, -1) == [1] * len(rc)


def test_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path))
    with pytest.raises(NoCluster, match="mpicluster start -n 4"):
        mpicluster.Client()


@pytest.mark.parametrize("meanwhile", ["pass", "import time; time.sleep(3)"], ids=["idle", "busy"])
def test_a_send_that_was_left_behind_arrives(rc4, meanwhile):
    """Though its rank has gone idle, or computes: MPI needs its help, and gets it."""
    rc4[:].execute("import numpy as np; data = np.arange(2_000_000)", block=True)
    rc4[0].execute("left = [comm.Isend(data, dest=1), comm.Isend(data, dest=2)]", block=True)
    meanwhile = rc4[0].execute(meanwhile, block=False)
    received = rc4[[1, 2]].execute("comm.Recv(data, source=0)", block=False)
    received.get(timeout=TIMEOUT)
    meanwhile.get(timeout=TIMEOUT)
    rc4[0].execute("[r.Wait() for r in left]", block=False).get(timeout=TIMEOUT)


def test_two_clients_with_eight_threads_each_get_only_their_own_results(rc4):
    with Client(rc4.contact) as other:

        def work(number):
            client = (rc4, other)[number % 2]
            view = client.load_balanced_view()
            for j in range(25):
                x = number * 1000 + j
                assert client[j % 4].apply_sync(abs, -x) == x
                assert view.map_sync(abs, range(-x - 3, -x)) == [x + 3, x + 2, x + 1]
                assert client[:].apply_async(abs, x).get(timeout=TIMEOUT) == [x] * 4
            return number

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(work, range(16))) == list(range(16))
    assert not rc4.outstanding


def test_ctrl_c_while_waiting_loses_nothing(rc4):
    """Whenever the interrupt comes, later calls get their own answers."""
    import signal

    interrupts, calls, stop = 0, 0, threading.Event()

    def storm():
        while not stop.wait(0.01):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=storm)
    background = rc4.load_balanced_view().map_async(abs, range(2000))
    thread.start()
    while True:
        try:
            while interrupts < 50:
                assert rc4[calls % 4].apply_sync(abs, -calls) == calls
                calls += 1
            stop.set()
            thread.join()
            break
        except KeyboardInterrupt:
            interrupts += 1
    assert background.get(timeout=TIMEOUT) == list(range(2000))
    assert rc4[:].apply_async(abs, -7).get(timeout=TIMEOUT) == [7] * 4
