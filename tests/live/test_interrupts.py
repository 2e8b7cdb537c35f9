"""Ending what runs: by ``interrupt``, by a signal, by Ctrl-C, by a time limit."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import mpicluster
from mpicluster.errors import RemoteError, TaskAborted
from mpicluster.wire.contact import profile_dir
from mpicluster.wire.messages import Terms

TIMEOUT = 60


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def busy(rc):
    return {e["id"] for e in rc.status()["engines"] if e["state"] == "busy"}


def sleeps():
    print("begun")
    time.sleep(1000)


def spins():
    print("begun")
    while True:
        pass


def begun(result):
    """All parts of it run: an engine that is called busy may not have got that far."""
    texts = [result.stdout] if isinstance(result.stdout, str) else result.stdout
    return all(texts)


def waits_in_mpi():
    print("begun")
    mpicluster.comm.recv(source=mpicluster.comm.rank, tag=99)


def cleans_up(path):
    try:
        open(f"{path}-begun", "w").close()
        time.sleep(1000)
    finally:
        open(path, "w").close()


def assert_interrupted(result):
    error = result.exception(timeout=TIMEOUT)
    assert isinstance(error, RemoteError)
    assert not isinstance(error, KeyboardInterrupt), "it ends no program of the client's"
    for e in getattr(error, "errors", [error]):
        assert e.ename == "KeyboardInterrupt"


@pytest.mark.parametrize("code", [sleeps, spins])
def test_interrupt_of_a_running_task(rc, code):
    result = rc[:].apply_async(code)
    until(lambda: begun(result), "all have begun")
    assert result.interrupt()
    assert_interrupted(result)
    assert rc[:].apply_async(os.getpid).get(timeout=TIMEOUT)
    assert not result.interrupt(), "it has ended"


def test_interrupt_of_the_first_cells(fresh):
    """While the shell is being made, it comes when that is done."""
    rc = fresh(4)
    for _ in range(10):
        result = rc[:].execute("while True: pass", block=False)
        until(lambda: busy(rc) == set(rc.ids), "all have it")
        assert result.interrupt()
        error = result.exception(timeout=TIMEOUT)
        for e in getattr(error, "errors", [error]):
            assert isinstance(e, TaskAborted) or e.ename == "KeyboardInterrupt"
    rc[:].execute("%precision 3\na = 2", block=False).get(timeout=TIMEOUT)
    assert rc[:]["a"] == [2] * 4


def test_interrupt_while_all_wait_in_mpi(rc4):
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: tests/live/test_spmd.py")
    result = rc4[:].apply_async(waits_in_mpi)
    until(lambda: begun(result), "all have begun")
    assert result.interrupt()
    error = result.exception(timeout=TIMEOUT)
    assert any(e.ename == "KeyboardInterrupt" for e in error.errors)
    assert rc4[:].apply_async(lambda: mpicluster.comm.allreduce(1)).get(timeout=TIMEOUT) == [4] * 4


def test_interrupt_of_a_gang_that_waits(rc4):
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: tests/live/test_spmd.py")
    result = rc4[:].spmd_async(lambda comm: comm.recv(source=(comm.rank + 1) % comm.size))
    until(lambda: busy(rc4) == set(rc4.ids), "all have begun")
    assert result.interrupt()
    assert result.exception(timeout=TIMEOUT) is not None
    assert rc4[:].spmd_async(lambda comm: comm.allreduce(1)).get(timeout=TIMEOUT) == [4] * 4


def test_interrupt_of_a_map_ends_what_runs_and_drops_the_rest(rc):
    result = rc.load_balanced_view().map_async(lambda _: sleeps(), range(100))
    until(lambda: sum(map(bool, result.stdout)) == len(rc), "each engine has begun one")
    assert result.interrupt()
    assert result.wait(timeout=TIMEOUT)
    statuses = [record["status"] for record in result.metadata]
    assert statuses.count("error") == len(rc)
    assert statuses.count("aborted") == 100 - len(rc)


def test_an_interrupted_task_is_not_tried_again(rc):
    view = rc.load_balanced_view(retries=5)
    result = view.apply_async(sleeps)
    until(lambda: begun(result), "it has begun")
    assert result.interrupt()
    assert_interrupted(result)
    assert not busy(rc)


def test_user_code_may_clean_up(rc4, tmp_path):
    path = str(tmp_path / "cleaned")
    result = rc4[0].apply_async(cleans_up, path)
    until(lambda: os.path.exists(f"{path}-begun"), "it has begun")
    result.interrupt()
    assert_interrupted(result)
    assert os.path.exists(path)


def test_what_is_queued_does_not_begin(rc4, tmp_path):
    first = rc4[0].apply_async(sleeps)
    path = str(tmp_path / "ran")
    second = rc4[0].apply_async(lambda p: open(p, "w").close(), path)
    assert second.interrupt()
    with pytest.raises(TaskAborted):
        second.get(timeout=TIMEOUT)
    first.interrupt()
    assert_interrupted(first)
    assert rc4[0].apply_sync(os.path.exists, path) is False


@pytest.mark.parametrize("sig", ["SIGINT", signal.SIGINT, int(signal.SIGINT)])
def test_send_signal_interrupts(rc, sig):
    result = rc[:].apply_async(sleeps)
    until(lambda: begun(result), "all have begun")
    rc.send_signal(sig)
    assert_interrupted(result)


def test_an_engine_that_does_nothing_ignores_an_interrupt(rc):
    pids = rc[:].apply_sync(os.getpid)
    rc.send_signal("SIGINT")
    assert rc[:].apply_async(os.getpid).get(timeout=TIMEOUT) == pids


def test_other_signals_do_what_they_do(rc4, session):
    run = """
        import signal
        seen = []
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    """
    rc4[1].execute(textwrap.dedent(run), block=True)
    rc4.send_signal("SIGUSR1", targets=1)
    until(lambda: rc4[1]["seen"] == [signal.SIGUSR1], "the handler was called")


@pytest.mark.parametrize("sig", ["SIGNOTHING", 0, -1, 1000, None, 1.5])
def test_a_signal_that_does_not_exist(rc4, sig):
    with pytest.raises(ValueError, match="no signal"):
        rc4.send_signal(sig)


def test_ctrl_c_in_a_blocking_call_ends_the_tasks(rc4):
    """As a person presses it: in a process of its own."""
    script = """
        import os, signal, sys, threading, time
        import mpicluster
        rc = mpicluster.Client(sys.argv[1])
        def press():
            while sum(e["state"] == "busy" for e in rc.status()["engines"]) < len(rc):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        for call in (
            lambda: rc[:].apply_sync(time.sleep, 1000),
            lambda: rc.load_balanced_view(block=True).map(time.sleep, [1000] * 50),
            lambda: rc.load_balanced_view(block=True).map(time.sleep, [1000] * 40_000),
            lambda: rc[:].execute("import time; time.sleep(1000)", block=True),
            lambda: rc[:].spmd_sync(time.sleep, 1000),
        ):
            thread = threading.Thread(target=press)
            thread.start()
            try:
                call()
            except KeyboardInterrupt:
                print("interrupted", rc[:].apply_async(abs, -1).get(timeout=30) == [1] * len(rc), flush=True)
            thread.join()
    """
    path = str(profile_dir(rc4.contact.profile, create=False) / f"{rc4.contact.cluster}.json")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path], capture_output=True, text=True, timeout=TIMEOUT * 2, check=False
    )
    assert done.stdout.splitlines() == ["interrupted True"] * 5, done.stderr


def limited(rc, f, limit, target=None, retries=0):
    """A task with a time limit, on one engine."""
    from mpicluster.client.result import AsyncResult
    from mpicluster.serial.payload import encode

    result = AsyncResult(rc, "limited", 1, single=True)
    data, fn = encode(((), {}), 10**6).data, encode(f, 10**6).data
    allowed = [] if target is None else [target]
    rc._submit(result, 0, "apply", targets=None, allowed=allowed, data=[data], fn=fn, retries=retries, terms=Terms(time_limit=limit))
    return result


@pytest.mark.parametrize("code", [sleeps, spins])
def test_a_task_that_runs_too_long(rc, code):
    result = limited(rc, code, 0.2)
    with pytest.raises(Exception, match=r"time limit of 0\.2 s"):
        result.get(timeout=TIMEOUT)
    assert rc[:].apply_async(os.getpid).get(timeout=TIMEOUT)


def test_a_task_that_is_done_in_time(rc):
    assert limited(rc, os.getpid, 30.0).get(timeout=TIMEOUT) in rc[:].apply_sync(os.getpid)


def test_a_task_that_swallows_its_interrupts(rc):
    def stubborn():
        until_ = time.monotonic() + 1.2
        while time.monotonic() < until_:
            try:
                time.sleep(0.05)
            except KeyboardInterrupt:
                pass
        return "done after all"

    result = limited(rc, stubborn, 0.1)
    assert result.get(timeout=TIMEOUT) == "done after all", "it ended before it was given up"


def test_code_that_cannot_be_interrupted_is_given_up(rc4):
    """The client hears of it; what is queued behind it goes elsewhere or fails; the engine works again when it comes back."""

    def deaf():
        ctypes.PyDLL(None).usleep(100)
        libc = ctypes.CDLL(None)
        until_ = time.monotonic() + 6
        while time.monotonic() < until_:
            try:
                libc.poll(None, 0, 6000)
            except KeyboardInterrupt:
                pass

    result = limited(rc4, deaf, 0.1, target=2)
    until(lambda: busy(rc4) == {2}, "it has begun")
    behind = rc4[2].apply_async(os.getpid)
    with pytest.raises(Exception, match="cannot be interrupted"):
        result.get(timeout=TIMEOUT)
    with pytest.raises(Exception, match="cannot take work"):
        behind.get(timeout=TIMEOUT)
    assert len(rc4.load_balanced_view().map_async(abs, range(20)).get(timeout=TIMEOUT)) == 20

    def works_again():
        try:
            rc4[2].apply_async(os.getpid).get(timeout=TIMEOUT)
        except mpicluster.EngineError:
            return False
        return True

    until(works_again, "it is back")


def test_interrupts_at_any_moment(rc4):
    """Whether it comes before the task, in it or after it: the engine goes on."""
    view = rc4[0]
    for i in range(200):
        result = view.apply_async(time.sleep, 0.0005)
        if i % 2:
            time.sleep(0.0002 * (i % 5))
        threading.Thread(target=result.interrupt).run()
        result.wait(timeout=TIMEOUT)
    assert view.apply_async(abs, -1).get(timeout=TIMEOUT) == 1
