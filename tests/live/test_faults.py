"""Engines, the hub and clients that die. Open MPI survives a dead rank; MPICH ends the job: both are asserted."""

from __future__ import annotations

import contextlib
import operator
import os
import signal
import time

import numpy as np
import pytest

from mpicluster import ClusterStopped, EngineError, TargetError

TIMEOUT = 60


def square_slowly(x):
    import time

    time.sleep(0.005)
    return x * x


def state(name):
    """This engine's place in the world, a name it was given, and a collective over all."""
    import mpicluster
    from mpicluster.engine import current_world

    comm = mpicluster.comm
    return comm.rank, comm.size, current_world.epoch, comm.allreduce(1)


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def kill(pid):
    with contextlib.suppress(ProcessLookupError):  # MPICH's launcher may have been faster, after the first
        os.kill(pid, signal.SIGKILL)


def assert_everyone_was_told(rc, result, engine):
    """On an MPI that cannot survive: within 5 s, and the message names the engine."""
    start = time.monotonic()
    with pytest.raises(ClusterStopped, match=rf"engine {engine} .*cannot go on with a dead rank"):
        result.get(timeout=TIMEOUT)
    assert time.monotonic() - start < 5
    with pytest.raises(ClusterStopped):
        rc.load_balanced_view().apply_sync(abs, -1)


@pytest.mark.parametrize("victims", [[2], [0], [3, 1], [1, 0]], ids=str)
def test_killing_engines_during_a_map_loses_no_task(fresh, victims):
    """One after another, rank 0 among them: every result is right, and the survivors have a sound world of their own."""
    rc = fresh(4)
    everyone = rc.direct_view()
    everyone.block = True
    everyone.push({"kept": 7})
    pids = everyone.apply(os.getpid)
    for count, victim in enumerate(victims, 1):
        result = rc.load_balanced_view().map_async(square_slowly, range(400))
        until(lambda r=result: r.progress > 40, "the map goes on")
        kill(pids[victim])
        if not rc.contact.survives:
            assert_everyone_was_told(rc, result, victim)
            return
        assert result.get(timeout=TIMEOUT) == [x * x for x in range(400)]
        until(lambda n=count: len(rc) == 4 - n, "the client knows of the death")
        alive = [i for i in range(4) if i not in victims[:count]]
        assert rc.ids == alive
        size = len(alive)
        assert everyone.apply_async(state, "kept").get(timeout=TIMEOUT) == [(r, size, count, size) for r in range(size)]
        assert everyone["kept"] == [7] * size
        everyone.execute("assert (comm.rank, comm.size) == (rank, size)")
        data = np.arange(10 * size + 1)
        everyone.scatter("part", data)
        np.testing.assert_array_equal(everyone.gather("part"), data)
        assert everyone.reduce("kept") == 7 * size
        everyone["large"] = np.arange(500_000)
        assert [int(part.sum()) for part in everyone["large"]] == [sum(range(500_000))] * size
        with pytest.raises(TargetError, match=f"no engine {victim}"):
            rc[victim]


def test_two_engines_killed_at_once(fresh):
    rc = fresh(4)
    pids = rc[:].apply_sync(os.getpid)
    result = rc.load_balanced_view().map_async(square_slowly, range(400))
    until(lambda: result.progress > 40, "the map goes on")
    kill(pids[1])
    kill(pids[2])
    if not rc.contact.survives:
        assert_everyone_was_told(rc, result, "[12]")
        return
    assert result.get(timeout=TIMEOUT) == [x * x for x in range(400)]
    until(lambda: rc.ids == [0, 3], "the client knows of the deaths")
    assert rc.direct_view().apply_async(state, "").get(timeout=TIMEOUT) == [(0, 2, 2, 2), (1, 2, 2, 2)]
    with pytest.raises(EngineError, match="2 engines are left, 4 were asked for"):
        rc.wait_for_engines(4, timeout=TIMEOUT)
    with pytest.raises(TimeoutError, match="2 of 5 engines"):  # for more than there were: they may attach
        rc.wait_for_engines(5, timeout=0.05)


@pytest.mark.parametrize(
    "verb", ["allreduce(1)", "reduce(1)", "bcast(1)", "allgather(1)", "scan(1)", "Barrier()", "alltoall([1] * comm.size)"]
)
def test_nobody_waits_for_a_dead_rank_in_a_collective_of_objects(fresh, verb):
    """Whichever way the MPI for Python takes inside: all that wait are freed."""
    rc = fresh(4)
    pids = rc[:].apply_sync(os.getpid)
    result = rc[:].execute(f"world = comm\nwhile True: world.{verb}", block=False)
    until(lambda: all(e["state"] == "busy" for e in rc.status()["engines"]), "all are in MPI")
    kill(pids[3])
    if not rc.contact.survives:
        assert_everyone_was_told(rc, result, 3)
        return
    assert any("engine 3" in str(e) for e in result.exception(timeout=TIMEOUT).errors), "the cause is told"
    assert rc.direct_view().apply_async(state, "").get(timeout=TIMEOUT) == [(r, 3, 1, 3) for r in range(3)]


def test_a_direct_task_on_the_dead_engine_fails_and_the_others_are_freed(fresh):
    """Those that wait for it inside MPI get an error instead of waiting for ever."""
    rc = fresh(3)
    pids = rc[:].apply_sync(os.getpid)
    rc[:].execute("world_of_three = comm", block=True)
    result = rc[:].execute("while True: world_of_three.allreduce(1)", block=False)
    until(lambda: all(e["state"] == "busy" for e in rc.status()["engines"]), "all are in MPI")
    kill(pids[1])
    if not rc.contact.survives:
        assert_everyone_was_told(rc, result, 1)
        return
    with pytest.raises(Exception, match=r"engine 1 \(rank 1, pid \d+ on \S+\) died"):
        result.get(timeout=TIMEOUT)
    causes = [e for e in result.exception().errors if isinstance(e, EngineError)]
    assert len(causes) == 1, "the death itself; whoever noticed it in MPI before being freed has an error of its own beside it"
    assert rc.direct_view().apply_async(state, "").get(timeout=TIMEOUT) == [(0, 2, 1, 2), (1, 2, 1, 2)]


def test_a_collective_whose_target_dies_before_it_enters_is_given_up(fresh):
    rc = fresh(3)
    pids = rc[:].apply_sync(os.getpid)
    busy = rc[1].apply_async(square_slowly, np.zeros(3))
    endless = rc[1].execute("while True: pass", block=False)
    gather = rc[:].push({"a": np.zeros(10**6)}, block=False)
    kill(pids[1])
    if not rc.contact.survives:
        assert_everyone_was_told(rc, gather, 1)
        return
    for lost in (endless, gather):
        with pytest.raises(EngineError, match="engine 1"):
            lost.get(timeout=TIMEOUT)
    busy.wait(timeout=TIMEOUT)
    assert rc.direct_view().apply_async(state, "").get(timeout=TIMEOUT) == [(0, 2, 1, 2), (1, 2, 1, 2)]


def exit_of_a_library():
    import ctypes

    ctypes.CDLL(None).exit(3)


@pytest.mark.parametrize("leave", [lambda: os._exit(1), lambda: os.abort(), exit_of_a_library], ids=["_exit", "abort", "exit of C"])
def test_an_engine_that_exits_takes_no_other_along(fresh, leave):
    """Whatever its status: it is dead, not the job."""
    rc = fresh(2)
    waiting = rc[0].apply_async(time.sleep, 0.5)
    with pytest.raises(EngineError, match=r"engine 1 \(rank 1, pid \d+ on \S+\) died"):
        rc[1].apply_async(leave).get(timeout=TIMEOUT)
    if not rc.contact.survives:
        assert_everyone_was_told(rc, waiting, 1)
        return
    until(lambda: rc.ids == [0], "the client knows of the death")
    assert waiting.get(timeout=TIMEOUT) is None
    assert rc.direct_view().apply_async(state, "").get(timeout=TIMEOUT) == [(0, 1, 1, 1)]


def test_all_engines_killed(fresh):
    rc = fresh(2)
    result = rc[:].execute("while True: pass", block=False)
    for pid in [e["pid"] for e in rc.status()["engines"]]:
        kill(pid)
    with pytest.raises((ClusterStopped, EngineError), match="engine"):
        result.get(timeout=TIMEOUT)
    until(lambda: repr(rc).startswith("<Client: the last engine is gone") or not rc.contact.survives, "the cluster has ended")


def test_a_dead_hub_ends_every_wait(fresh):
    rc = fresh(2)
    result = rc[:].execute("while True: pass", block=False)
    until(lambda: all(e["state"] == "busy" for e in rc.status()["engines"]), "both are busy")
    kill(rc.contact.hub_pid)
    with pytest.raises(ClusterStopped, match="connection to the hub was lost"):
        result.get(timeout=TIMEOUT)
    with pytest.raises(ClusterStopped):
        rc[:].apply(operator.neg, 1)


def test_the_hub_stays_as_large_as_it_was(fresh):
    """Its memory is flat over many tasks and large payloads."""
    rc = fresh(4)
    view = rc.load_balanced_view()
    view.map_sync(abs, range(1000))
    before = rc.status()["hub"]["rss"]
    for _ in range(4):
        assert view.map_sync(abs, range(-25_000, 0)) == list(range(25_000, 0, -1))
    data = np.ones(10_000_000)
    for _ in range(10):
        rc[:].push({"data": data}, block=True)
    assert rc.status()["hub"]["rss"] - before < 50e6
