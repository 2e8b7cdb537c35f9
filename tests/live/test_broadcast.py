"""Answers of all engines that come back together."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import numpy as np
import pytest

import mpicluster
from mpicluster.errors import CompositeError, EngineError

TIMEOUT = 60


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def me():
    print("I am", mpicluster.comm.rank)
    return mpicluster.comm.rank


@pytest.fixture(params=[False, True], ids=["each for itself", "together"])
def view(request, rc):
    return rc.broadcast_view(is_coalescing=request.param)


def test_each_answer_keeps_its_place_and_all_that_is_known_of_it(rc, view):
    result = view.apply_async(me)
    assert result.get(timeout=TIMEOUT) == list(range(len(rc)))
    assert result.engine_id == rc.ids
    assert result.stdout == [f"I am {i}\n" for i in rc.ids]
    assert all(a <= b for a, b in zip(result.started, result.completed, strict=True))
    assert len(set(result.msg_ids)) == len(rc)


def test_answers_in_the_order_of_the_targets(rc4):
    view = rc4.broadcast_view([2, 0, 3], is_coalescing=True)
    assert view.apply_sync(me) == [2, 0, 3]


@pytest.mark.parametrize("size", [10, 20_000, 1_000_000])
def test_arguments_and_answers_of_any_size(view, size):
    data = np.arange(size)
    answers = view.apply_sync(lambda x: x + 1, data)
    assert all((a == data + 1).all() for a in answers)


def test_code_and_names(rc, view):
    view.execute("x = rank * 2", block=True)
    assert view["x"] == [2 * i for i in rc.ids]
    view["y"] = 5
    assert view["y"] == [5] * len(rc)
    assert view.map_sync(abs, range(-10, 0)) == list(range(10, 0, -1))


def test_it_is_remembered_by_the_hub(rc, view):
    result = view.apply_async(me)
    result.get(timeout=TIMEOUT)
    assert rc.get_result(result.msg_ids).get(timeout=TIMEOUT) == list(range(len(rc)))


def test_one_fails(rc4):
    def trips():
        if mpicluster.comm.rank == 2:
            raise ZeroDivisionError
        return mpicluster.comm.rank

    result = rc4.broadcast_view(is_coalescing=True).apply_async(trips)
    with pytest.raises(ZeroDivisionError):
        result.get(timeout=TIMEOUT)
    assert result.get(return_exceptions=True)[:2] == [0, 1]


def test_one_fails_while_others_wait_for_it(rc4):
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: tests/live/test_spmd.py")

    def trips():
        if mpicluster.comm.rank == 2:
            raise ZeroDivisionError
        mpicluster.comm.Barrier()

    view = rc4.broadcast_view(is_coalescing=True)
    with pytest.raises(ZeroDivisionError) as caught:
        view.apply_async(trips).get(timeout=TIMEOUT)
    assert isinstance(caught.value, CompositeError)
    assert view.apply_async(me).get(timeout=TIMEOUT) == [0, 1, 2, 3]


def test_an_argument_that_does_not_arrive(rc4):
    class Poison:
        def __reduce__(self):
            return os.listdir, ("/nowhere/at/all",)

    view = rc4.broadcast_view(is_coalescing=True)
    with pytest.raises(Exception, match="nowhere"):
        view.apply_async(abs, Poison()).get(timeout=TIMEOUT)
    assert view.apply_async(me).get(timeout=TIMEOUT) == [0, 1, 2, 3]


def test_one_that_cannot_be_ended_does_not_keep_the_others_answers(rc4):
    """It is interrupted and goes on; the answers of those that wait for it in MPI are told, and they come back when it does."""

    def deaf():
        if mpicluster.comm.rank != 3:
            return "done"
        print("begun")
        libc, until_ = ctypes.CDLL(None), time.monotonic() + 13
        while time.monotonic() < until_:
            try:
                libc.poll(None, 0, 13000)
            except KeyboardInterrupt:
                pass
        return None

    result = rc4.broadcast_view(is_coalescing=True).apply_async(deaf)
    until(lambda: result.stdout[3], "it has begun")
    result.interrupt()
    values = result.get(timeout=TIMEOUT, return_exceptions=True)
    assert values[:3] == ["done"] * 3 or all(isinstance(v, Exception | str) for v in values)
    assert isinstance(values[3], EngineError)

    def works():
        try:
            rc4[:].apply_async(os.getpid).get(timeout=TIMEOUT)
        except EngineError:
            return False
        return True

    until(works, "they are back")


@pytest.mark.parametrize("victim", [0, 2])
def test_an_engine_dies_meanwhile(fresh, victim, tmp_path):
    """The first one, which was to tell what all have done, or another: what the others have done is told."""
    rc = fresh(4)
    pids = rc[:].apply_sync(os.getpid)
    go = str(tmp_path / "go")

    def waits(path):
        print("begun")
        until_ = time.monotonic() + 60
        while not os.path.exists(path):
            assert time.monotonic() < until_
            time.sleep(0.005)
        return "done"

    result = rc.broadcast_view(is_coalescing=True).apply_async(waits, go)
    until(lambda: all(result.stdout), "they have met, and begun")
    os.kill(pids[victim], signal.SIGKILL)
    open(go, "w").close()
    if not rc.contact.survives:
        with pytest.raises(mpicluster.ClusterStopped):
            result.get(timeout=TIMEOUT)
        return
    values = result.get(timeout=TIMEOUT, return_exceptions=True)
    assert isinstance(values.pop(victim), EngineError)
    assert values == ["done"] * 3
    assert rc.broadcast_view(is_coalescing=True).apply_async(me).get(timeout=TIMEOUT) == [0, 1, 2]
