"""A client whose connection drops again and again: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import threading
import time
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

import mpicluster
from mpicluster.errors import ClusterStopped

TIMEOUT = 60


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Road:
    """Passes on what comes at a port, as a tunnel does, until it is cut."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._guard = threading.Lock()
        self._pairs = []
        self.open = True
        self.carried = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                with self._guard:
                    if not self.open:
                        here.close()
                        continue
                    there = socket.create_connection(("127.0.0.1", self._port))
                    self._pairs.append((here, there))
                threading.Thread(target=self._carry, args=(here, there), daemon=True).start()

    def _carry(self, here, there):
        with contextlib.suppress(OSError, ValueError):
            while True:
                for s in select.select([here, there], [], [])[0]:
                    data = s.recv(65536)
                    if not data:
                        return self._end(here, there)
                    self.carried += len(data)
                    (there if s is here else here).sendall(data)
        self._end(here, there)
        return None

    def _end(self, *pair):
        for s in pair:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def cut(self):
        """All connections drop."""
        with self._guard:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for s in pair:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(TIMEOUT)


@pytest.fixture
def road(rc4):
    road = Road(urlsplit(rc4.contact.tcp[0]).port)
    yield road
    road.close()


@pytest.fixture
def far(rc4, road):
    """A client of the same cluster, by that road."""
    contact = msgspec.structs.replace(rc4.contact, tcp=[f"tcp://127.0.0.1:{road.port}"], ipc="", through="road")
    with mpicluster.Client(contact) as client:
        yield client


@contextlib.contextmanager
def cut_now_and_then(road, seed):
    """... while the block runs: after a few milliseconds, or some hundred."""
    over = threading.Event()
    count = []

    def cut():
        rng = random.Random(seed)
        while not over.wait(rng.choice([0.02, 0.1, 0.3])):
            road.cut()
            count.append(1)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join()


def tell(i):
    print("task", i)
    return i * i


def test_it_works_as_any_other(far):
    assert far[:].apply_sync(os.getpid) == far[:].apply_sync(os.getpid)
    a = np.arange(3_000_000.0)
    far[0].push({"a": a}, block=True)
    np.testing.assert_array_equal(far[0].pull("a", block=True), a)


@pytest.mark.parametrize("seed", range(3))
def test_tasks_while_the_connection_drops(far, road, seed):
    """Each is run once, and each answer comes, with all of its output."""
    with cut_now_and_then(road, seed) as cuts:
        results = []
        end = time.monotonic() + 3
        while time.monotonic() < end or len(cuts) < 5:
            results.append(far.load_balanced_view().map_async(tell, range(20), chunksize=1))
            results.append(far[:].apply_async(tell, 7))
            time.sleep(0.01)
        values = [r.get(timeout=TIMEOUT) for r in results]
    assert values == [[i * i for i in range(20)], [49] * 4] * (len(results) // 2)
    for r in results:
        until(lambda r=r: all(r.stdout), "all output is here")
    assert [r.stdout for r in results[:-1:2]] == [[f"task {i}\n" for i in range(20)]] * (len(results) // 2)


def test_large_values_while_the_connection_drops(far, road):
    a = np.random.default_rng(1).random(1_000_000)
    for _ in range(5):
        sent = far[:].push({"a": a}, block=False)
        until(lambda c=road.carried: road.carried > c + 2_000_000, "some of it is there")
        road.cut()
        sent.get(timeout=TIMEOUT)
        back = far[:].pull("a", block=False)
        until(lambda c=road.carried: road.carried > c + 2_000_000, "some of it is back")
        road.cut()
        for value in back.get(timeout=TIMEOUT):
            np.testing.assert_array_equal(value, a)


def test_arrays_while_the_connection_drops(far, road):
    with cut_now_and_then(road, 5):
        x = far.xp.zeros(8)
        for i in range(300):
            x = x + 1
            if i % 50 == 0:
                assert float(x[0]) == i + 1
        assert np.asarray(x).tolist() == [300.0] * 8


def test_what_ends_meanwhile_is_told(far, road, gate):
    """While it is away, tasks go on, and what is asked for waits. It can be interrupted, and waited for with a limit."""
    result = far[:].apply_async(gate.pass_through)
    road.open = False
    road.cut()
    until(lambda: far._connection.away, "it has noticed")
    later = far[:].apply_async(tell, 3)
    with pytest.raises(TimeoutError):
        later.get(timeout=0.1)
    gate.open()
    with pytest.raises(TimeoutError):
        result.get(timeout=0.1)
    road.open = True
    assert len(result.get(timeout=TIMEOUT)) == 4
    assert later.get(timeout=TIMEOUT) == [9] * 4


def test_a_client_that_is_closed_while_it_is_away(rc4, road):
    contact = msgspec.structs.replace(rc4.contact, tcp=[f"tcp://127.0.0.1:{road.port}"], ipc="", through="road")
    client = mpicluster.Client(contact)
    road.open = False
    road.cut()
    until(lambda: client._connection.away, "it has noticed")
    begin = time.monotonic()
    with pytest.warns(RuntimeWarning, match="connection was down"):
        client.close()
    assert time.monotonic() - begin < 10
    with pytest.raises(mpicluster.errors.ClosedError):
        client[:].apply_sync(os.getpid)


def test_the_cluster_ends_while_it_is_away(fresh):
    rc = fresh(2)
    road = Road(urlsplit(rc.contact.tcp[0]).port)
    contact = msgspec.structs.replace(rc.contact, tcp=[f"tcp://127.0.0.1:{road.port}"], ipc="", through="road")
    far = mpicluster.Client(contact, away=2)
    result = far[:].apply_async(time.sleep, 600)
    road.open = False
    road.cut()
    until(lambda: far._connection.away, "it has noticed")
    rc.shutdown()
    with pytest.raises(ClusterStopped, match="could not be had again within 2 s"):
        result.get(timeout=TIMEOUT)
    road.close()


def test_how_long_it_may_be_away_is_its_own_choice(rc4, road):
    """The hub waits as long, and then drops what it has not begun."""
    before = rc4.status()
    contact = msgspec.structs.replace(rc4.contact, tcp=[f"tcp://127.0.0.1:{road.port}"], ipc="", through="road")
    far = mpicluster.Client(contact, away=0.5)
    never = far.load_balanced_view().map_async(time.sleep, [0.01] * 20_000)
    until(lambda: rc4.status()["tasks"]["waiting"] > 0, "they wait for engines")
    road.open = False
    road.cut()
    with pytest.raises(ClusterStopped, match=r"within 0\.5 s"):
        never.get(timeout=TIMEOUT)

    def forgotten():
        now = rc4.status()
        return now["clients"] == before["clients"] and now["tasks"]["waiting"] == now["tasks"]["assigned"] == 0

    until(forgotten, "the hub has forgotten it")


@pytest.mark.parametrize("away", [0, -1.0, float("nan"), float("inf"), 7 * 86400 + 1])
def test_no_time_that_it_may_be_away(rc4, away):
    with pytest.raises(ValueError, match="away is a number of seconds"):
        mpicluster.Client(rc4.contact, away=away)


def test_a_direct_connection_is_never_away(rc4):
    with pytest.raises(ValueError, match="direct"):
        mpicluster.Client(rc4.contact, away=60)


def test_a_client_that_was_forgotten(fresh):
    """The hub does not know it any more: it is told so, and not left to wait."""
    rc = fresh(1)
    road = Road(urlsplit(rc.contact.tcp[0]).port)
    contact = msgspec.structs.replace(rc.contact, tcp=[f"tcp://127.0.0.1:{road.port}"], ipc="", through="road")
    far = mpicluster.Client(contact)
    far._connection.name = "another"  # as if it had been away for hours
    result = far[:].apply_async(time.sleep, 600)
    road.cut()
    with pytest.raises(ClusterStopped, match="away for too long"):
        result.get(timeout=TIMEOUT)
    road.close()
