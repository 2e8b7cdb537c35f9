"""How clients end, and what becomes of what they asked for; connections that break; callers that are interrupted."""

from __future__ import annotations

import asyncio
import gc
import operator
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from mpicluster import AsyncResult, Client, ClosedError, ClusterStopped, EngineError
from mpicluster.client import transfers

TIMEOUT = 30


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def over_tcp(contact):
    """The contact as another host has it."""
    return msgspec.structs.replace(contact, host="elsewhere")


# -- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poll", ["wait", "get", "client"])
def test_a_caller_may_poll(rc, poll):
    """Without a pause, and without giving others a chance to read."""
    result = rc[0].apply_async(time.sleep, 0.05)
    deadline = time.monotonic() + TIMEOUT
    while not (rc.wait(result, timeout=0) if poll == "client" else result.wait(0) if poll == "wait" else _had(result)):
        assert time.monotonic() < deadline


def _had(result):
    try:
        result.get(timeout=0)
    except TimeoutError:
        return False
    return True


HANDLER = """
import mpicluster, os, signal, sys, threading, time
rc = mpicluster.Client()
def handler(number, frame):
    {action}
    print("handled", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, handler)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
rc[0].apply_sync(time.sleep, 20)
"""


@pytest.mark.parametrize("action", ["rc.close()", "assert rc[1].apply_sync(abs, -1) == 1", "assert rc[0].apply_async(abs, 1).cancel()"])
def test_a_signal_handler_may_use_the_client(fresh, monkeypatch, action):
    """While the main thread waits for a result."""
    rc = fresh(2)
    script = HANDLER.format(action=action).replace("mpicluster.Client()", f"mpicluster.Client(profile={rc.contact.profile!r})")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.stdout, done.returncode) == ("handled\n", 7), done.stderr


def test_cancelling_an_await_does_not_stop_the_event_loop(rc4, monkeypatch):
    def never(*args):
        raise AssertionError("waited for the hub in the event loop")

    busy = rc4[0].apply_async(time.sleep, 0.3)
    queued = rc4[0].apply_async(abs, -1)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_value(queued), 0.01)

    monkeypatch.setattr(rc4, "_ask", never)
    asyncio.run(main())
    until(queued.done, "it was taken back")
    assert queued.cancelled()
    assert busy.wait(TIMEOUT)


async def _value(result):
    return await result


# -- forgotten clients -------------------------------------------------------------------------------------------------


def test_a_forgotten_client_goes_away(rc4):
    """With its thread, its sockets and its place at the hub."""
    before = rc4.status()["clients"]
    descriptors, threads = open_descriptors(), threading.active_count()
    gone = []
    for _ in range(3):
        other = Client(rc4.contact)
        assert other[:].apply_sync(operator.neg, 1) == [-1] * 4
        gone.append(weakref.ref(other))
        del other
    gc.collect()
    assert all(reference() is None for reference in gone)
    until(lambda: rc4.status()["clients"] == before, "the hub has seen them leave")
    until(lambda: threading.active_count() <= threads, "their threads have ended")
    until(lambda: open_descriptors() <= descriptors, "their sockets are closed")


def test_a_callback_comes_even_if_everything_else_was_forgotten(rc4):
    came = threading.Event()
    Client(rc4.contact)[0].apply_async(time.sleep, 0.1).add_done_callback(lambda _: came.set())
    gc.collect()
    assert came.wait(TIMEOUT)


def test_a_client_whose_cluster_has_ended_keeps_nothing(fresh):
    rc = fresh(1)
    others = [Client(rc.contact) for _ in range(3)]
    descriptors, threads = open_descriptors(), threading.active_count()
    rc.shutdown()
    until(lambda: threading.active_count() <= threads - 3, "their threads have ended")
    until(lambda: open_descriptors() < descriptors - 15, "their sockets are closed")
    for other in others:
        with pytest.raises(ClusterStopped):
            other[:].apply(abs, 1)


# -- leaving in good order ---------------------------------------------------------------------------------------------


def test_what_was_submitted_is_done_after_the_client_has_left(rc4):
    """Small and large, direct and balanced, begun and not."""
    with Client(rc4.contact) as other:
        other[:].apply_async(time.sleep, 0.2)
        other[:].push({"small": 1, "text": "x"}, block=False)
        other[:].push({"large": np.arange(1_000_000)}, block=False)
        other.load_balanced_view().map_async(_note, range(50))
        unheard = other[:].apply_async(np.zeros, 100_000)
    with pytest.raises(ClosedError):
        unheard.get(timeout=TIMEOUT)
    assert rc4[:]["small"] == [1] * 4
    assert [int(a.sum()) for a in rc4[:]["large"]] == [sum(range(1_000_000))] * 4
    until(lambda: sorted(i for notes in rc4[:].pull("globals().get('notes', [])", block=True) for i in notes) == list(range(50)), "all ran")


def _note(i):
    __import__("__main__").__dict__.setdefault("notes", []).append(i)


def test_what_a_killed_client_had_not_begun_is_dropped(rc4):
    script = f"""
import mpicluster, os, signal, time
rc = mpicluster.Client(profile={rc4.contact.profile!r})
rc[:].apply_async(time.sleep, 0.5)
rc[:].push({{"never": 1}}, block=False)
rc.status()
os.kill(os.getpid(), signal.SIGKILL)
"""
    before = rc4.status()["clients"]
    done = subprocess.run([sys.executable, "-c", script], timeout=TIMEOUT, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: (s := rc4.status())["clients"] == before and not any(e["queued"] for e in s["engines"]), "it is forgotten")
    assert rc4[:].pull("'never' in globals()", block=True) == [False] * 4


# -- connections that break --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("large", [False, True])
def test_a_client_that_loses_one_of_its_connections_is_lost(fresh, which, large):
    """Whichever it is: nothing waits for ever, and the engines go on."""
    rc = fresh(2)
    before = rc.status()["clients"]
    with Client(over_tcp(rc.contact)) as other:
        port = int(rc.contact.tcp[0].rpartition(":")[2])
        mine = [c.fd for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]
        assert len(mine) == 2
        argument = np.zeros(60_000_000) if large else 5.0
        result = other[0].apply_async(lambda x, s=2.5: __import__("time").sleep(s), argument)
        with socket.socket(fileno=os.dup(sorted(mine)[which])) as s:
            s.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ClusterStopped, match="connection to the hub was lost"):
            result.get(timeout=TIMEOUT)
        with pytest.raises(ClusterStopped):
            other[0].apply(abs, 1)
    until(lambda: rc.status()["clients"] == before, "the hub knows")
    assert rc[:].apply_async(abs, -1).get(timeout=TIMEOUT) == [1, 1]


def test_a_result_that_does_not_fit_into_memory_fails_alone(rc4, monkeypatch):
    def of_limited_size(sizes, real=transfers.Incoming):
        if sum(sizes) > 5_000_000:
            raise MemoryError("no")
        return real(sizes)

    monkeypatch.setattr(transfers, "Incoming", of_limited_size)
    other = rc4[0].apply_async(time.sleep, 0.2)
    with pytest.raises(EngineError, match="no memory here for a result of 8"):
        rc4[1].apply_async(np.zeros, 1_000_000).get(timeout=TIMEOUT)
    assert other.get(timeout=TIMEOUT) is None
    assert len(rc4[1].apply_async(np.zeros, 100_000).get(timeout=TIMEOUT)) == 100_000


def test_a_submission_that_makes_no_sense_fails(rc4):
    """Instead of being waited for."""
    result = AsyncResult(rc4, "nonsense", 2, single=False)
    rc4._submit(result, 0, "apply", targets=[0, 1], data=[b"", b"", b""])
    with pytest.raises(EngineError, match="the hub refused this"):
        result.get(timeout=TIMEOUT)
