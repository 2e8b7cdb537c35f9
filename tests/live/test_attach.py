"""Engines that come later: an MPI world of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import mpicluster
from mpicluster.errors import TargetError

TIMEOUT = 60


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Attaching:
    """``mpicluster attach``, started and ended by a test."""

    def __init__(self, rc, n, log):
        self._log = log
        with log.open("w") as out:
            argv = [sys.executable, "-m", "mpicluster", "attach", "-n", str(n), "--profile", rc.contact.profile]
            self.process = subprocess.Popen([*argv, "--cluster", rc.contact.cluster], stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def said(self):
        return self._log.read_text()

    def there(self):
        until(lambda: "are attached" in self.said() or self.process.poll() is not None, "they are attached")
        assert "are attached" in self.said(), self.said()
        return self

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(TIMEOUT)


@pytest.fixture
def attached(fresh, tmp_path):
    """Two engines, to which two more have come."""
    rc = fresh(2)
    more = Attaching(rc, 2, tmp_path / "attach.log").there()
    yield rc, more
    more.end()


def where():
    return os.getpid()


def test_all_of_them_work(attached):
    """Addressed directly, small values and large ones, code, and tasks that are farmed out."""
    rc, more = attached
    assert rc.ids == [0, 1, 2, 3]
    assert rc.worlds == [[0, 1], [2, 3]]
    assert "Engines 2 to 3 are attached to cluster" in more.said()
    assert len(set(rc[:].apply_sync(where))) == 4
    a = np.random.default_rng(1).random(400_000)
    for view in (rc[:], rc[[3, 0, 2]], rc.broadcast_view(), rc.broadcast_view(is_coalescing=True), rc[3]):
        view.push({"a": a}, block=True)
        sums = view.apply_sync(lambda: float(a.sum()))
        assert set(sums if isinstance(sums, list) else [sums]) == {a.sum()}
    rc[:].execute("import os; b = rank + 10 * size", block=True)
    assert rc[:]["b"] == [20, 21, 20, 21]
    done = rc.load_balanced_view().map_async(lambda i: (time.sleep(0.01), os.getpid())[1], range(100), chunksize=1)
    rc[:].execute("import time", block=True)
    assert len(set(done.get(timeout=TIMEOUT))) == 4


def test_what_is_done_together_stays_within_one_world(attached):
    rc, _ = attached
    for world in rc.worlds:
        view = rc[world]
        assert view.spmd_sync(lambda comm: comm.allreduce(comm.rank + 1)) == [3, 3]
        view.scatter("x", np.arange(10.0), block=True)
        np.testing.assert_array_equal(view.gather("x", block=True), np.arange(10.0))
        assert float(view.xp.sum(view.xp.asarray(np.arange(5.0)))) == 10
    for attempt in (
        lambda: rc[:].spmd_sync(lambda comm: comm.size),
        lambda: rc[:].scatter("x", np.arange(4.0), block=True),
        lambda: rc[:].gather("x", block=True),
        lambda: rc.xp,
    ):
        with pytest.raises(ValueError, match=r"are of several: rc\.worlds lists them"):
            attempt()
    assert len(rc[:].apply_sync(where)) == 4


def test_they_go_and_the_cluster_goes_on(attached, tmp_path):
    rc, more = attached
    result = rc.load_balanced_view().map_async(lambda i: (__import__("time").sleep(0.02), i)[1], range(200), chunksize=1)
    until(lambda: result.progress > 20, "it is under way")
    assert more.end() == 0
    assert result.get(timeout=TIMEOUT) == list(range(200))
    until(lambda: rc.ids == [0, 1], "they are gone")
    assert rc[:].spmd_sync(lambda comm: comm.allreduce(1)) == [2, 2]
    again = Attaching(rc, 1, tmp_path / "again.log").there()
    assert rc.worlds == [[0, 1], [4]]
    assert rc[4].apply_sync(int, "3") == 3
    assert again.end() == 0


def test_each_world_heals_for_itself(attached):
    rc, _ = attached
    if not rc.contact.survives:
        pytest.skip("this MPI cannot go on with a dead rank: see test_a_world_that_cannot_heal")
    pids = rc[:].apply_sync(where)
    for victim, worlds in ((2, [[0, 1], [3]]), (0, [[1], [3]])):
        os.kill(pids[victim], signal.SIGKILL)
        until(lambda w=worlds: rc.worlds == w, "it is gone")
        for world in worlds:
            assert rc[world].spmd_sync(lambda comm: comm.allreduce(1)) == [len(world)] * len(world)
    assert rc[:].apply_sync(int, "3") == [3, 3]


def test_a_world_that_cannot_heal_is_lost_alone(attached):
    rc, _ = attached
    if rc.contact.survives:
        pytest.skip("this MPI can: see test_each_world_heals_for_itself")
    pids = rc[:].apply_sync(where)
    os.kill(pids[2], signal.SIGKILL)
    until(lambda: rc.ids == [0, 1], "its world is gone")
    assert rc[:].spmd_sync(lambda comm: comm.allreduce(1)) == [2, 2]
    with pytest.raises(TargetError, match="no engine 3"):
        rc[[3]].apply_sync(where)


def test_the_end_of_the_cluster_is_theirs(attached):
    rc, more = attached
    rc.shutdown()
    assert more.process.wait(TIMEOUT) == 0
    assert "They have ended." in more.said()


def test_without_a_cluster_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path))
    said = subprocess.run([sys.executable, "-m", "mpicluster", "attach", "-n", "1", "--timeout", "0.1"], capture_output=True, text=True)
    assert said.returncode == 1
    assert "no cluster is running under profile 'default'" in said.stderr


def test_a_client_that_comes_later_knows_the_worlds(attached):
    rc, _ = attached
    with mpicluster.Client(rc.contact) as other:
        assert other.worlds == [[0, 1], [2, 3]]
