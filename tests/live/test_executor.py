"""The executor of a view does what `concurrent.futures` says of executors, on both kinds of view."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import operator
import os
import threading
import time
import weakref
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, Future
from pathlib import Path

import pytest
from test_results import Gate

import mpicluster

TIMEOUT = 30


def settled(*, cancelled: bool = False, error: BaseException | None = None) -> Future:
    future = Future()
    if cancelled:
        future.cancel()
        future.set_running_or_notify_cancel()
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(42)
    return future


def capture(*args, **kwargs):
    return args, kwargs


def until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


class Thing:
    def method(self):
        return None


def make_thing(_):
    return Thing()


@pytest.fixture(params=["balanced", "one engine", "all engines"])
def view(request, rc4):
    if request.param == "balanced":
        return rc4.load_balanced_view()
    return rc4[0] if request.param == "one engine" else rc4[:]


def expected(view, value):
    """A direct view of several engines gives what each of them gives."""
    return [value] * len(view) if isinstance(getattr(view, "targets", None), list) else value


@pytest.fixture
def balanced(rc4):
    with rc4.executor() as executor:
        yield executor


def test_submit(view):
    executor = view.executor
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, mpicluster.AsyncResult)
    assert future.result(timeout=TIMEOUT) == expected(view, 256)
    assert executor.submit(capture, 1, self=2, fn=3).result(timeout=TIMEOUT) == expected(view, ((1,), {"self": 2, "fn": 3}))
    with pytest.raises(TypeError):
        executor.submit(fn=capture, arg=1)
    with pytest.raises(TypeError):
        executor.submit(arg=1)


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 2])
def test_map(view, chunksize, buffersize):
    values = view.executor.map(pow, range(10), itertools.count(), chunksize=chunksize, buffersize=buffersize)
    assert iter(values) is values
    assert list(values) == list(map(pow, range(10), range(10)))
    assert list(view.executor.map(pow, [], [], chunksize=chunksize, buffersize=buffersize)) == []
    assert list(view.executor.map(pow)) == []


def test_a_map_of_endless_items_draws_only_what_is_asked_for(view):
    drawn = []

    def items():
        for i in itertools.count():
            drawn.append(i)
            yield i

    values = view.executor.map(abs, items(), buffersize=3, chunksize=2)
    assert list(itertools.islice(values, 6)) == list(range(6))
    assert len(drawn) <= 12
    values.close()
    view.executor.shutdown()


def test_bad_options_of_a_map_are_refused_at_once(view):
    for option in ({"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            view.executor.map(abs, [1], **option)


def test_a_map_gives_what_comes_before_an_error(balanced):
    values = balanced.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(values), next(values)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(values)
    with pytest.raises(StopIteration):
        next(values)


def test_a_map_is_lazy_and_submitted_at_once(balanced, gate):
    values = balanced.map(gate.pass_through, range(4))
    gate.wait_until_came(4)  # nobody has asked for a value
    gate.open()
    assert list(values) == list(range(4))


def test_a_map_that_takes_too_long(balanced, gate):
    """Its timeout counts from the call; what has not begun is taken back."""
    values = balanced.map(gate.pass_through, range(50), timeout=0.01)
    with pytest.raises(TimeoutError, match="not there in time"):
        list(values)
    gate.wait_until_came(4)
    until(lambda: len(balanced.view.client.outstanding) == 4)
    gate.open()
    balanced.shutdown()
    assert gate.came() == 4


def test_leaving_a_map_takes_back_the_rest(rc4, gate):
    values = rc4.load_balanced_view(targets=[1]).executor.map(gate.pass_through, range(50))
    gate.wait_until_came(1)
    gate.open()
    assert next(values) == 0
    values.close()
    assert rc4.wait(timeout=TIMEOUT)
    assert list(values) == []


def test_a_map_whose_values_are_dropped_is_done_all_the_same(rc4, gate):
    """As the standard library has it: who never asked for a value has not left early."""
    executor = rc4.executor()
    executor.map(gate.pass_through, range(8))
    gate.open()
    executor.shutdown()
    assert gate.came() == 8


def test_map_on_a_direct_view_divides_the_items(rc4):
    pids = list(rc4[:].executor.map(lambda _: os.getpid(), range(8), chunksize=5))
    assert pids == [pid for pid in rc4[:].apply_sync(os.getpid) for _ in range(2)]


def test_shutdown(view):
    with view.executor as executor:
        futures = [executor.submit(pow, 2, i) for i in range(20)]
    assert executor.closed
    assert all(f.done() for f in futures)
    executor.shutdown()
    for call in (lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1])):
        with pytest.raises(RuntimeError, match="shut down"):
            call()
    assert view.executor is not executor
    assert view.executor is view.executor
    assert view.executor.submit(abs, -1).result(timeout=TIMEOUT) == expected(view, 1)  # the engines are there


def test_shutdown_waits_also_for_what_nobody_kept(view, gate):
    executor = view.executor
    executor.submit(gate.pass_through)
    gate.wait_until_came(1)
    executor.shutdown(wait=False)
    ended = threading.Thread(target=executor.shutdown)
    ended.start()
    assert ended.is_alive()
    gate.open()
    ended.join(TIMEOUT)
    assert not ended.is_alive()


def test_shutdown_may_cancel(view, gate):
    executor = view.executor
    futures = [executor.submit(gate.pass_through) for _ in range(50)]
    gate.wait_until_came(1)
    executor.shutdown(wait=False, cancel_futures=True)
    until(lambda: sum(f.cancelled() for f in futures) > 20)
    gate.open()
    executor.shutdown()
    others = [f for f in futures if not f.cancelled()]
    assert others
    for f in others:
        assert f.done()
        if type(view).__name__ == "LoadBalancedView":
            assert f.exception() is None


def test_an_error_in_the_block_is_the_callers(rc4):
    """It is not replaced; the context manager waits first."""
    executor = rc4.executor()
    with pytest.raises(ZeroDivisionError, match="division by zero"), executor:
        1 / 0  # noqa: B018
    assert executor.closed
    assert rc4[:].apply_sync(abs, -1) == [1] * 4


def test_cancelled_right_before_shutdown(rc4, gate):
    executor = rc4[0].executor
    held = executor.submit(gate.pass_through)
    gate.wait_until_came(1)
    queued = executor.submit(abs, 1)
    assert queued.cancel()
    assert queued.cancelled()
    assert not held.cancel()
    gate.open()
    executor.shutdown()
    with pytest.raises(CancelledError):
        queued.result()
    assert held.result() is None


def test_errors_have_their_types(view):
    future = view.executor.submit(divmod, 1, 0)
    with pytest.raises(ZeroDivisionError):
        future.result(timeout=TIMEOUT)
    assert isinstance(future.exception(timeout=TIMEOUT), ZeroDivisionError)
    with pytest.raises(mpicluster.RemoteError):
        future.result()


def test_callbacks(view):
    said = Future()
    future = view.executor.submit(abs, -5)
    future.add_done_callback(said.set_result)
    assert said.result(timeout=TIMEOUT) is future


def test_wait(balanced, gate):
    done, rest = concurrent.futures.wait(
        [settled(), settled(cancelled=True), balanced.submit(abs, -1), balanced.submit(divmod, 1, 0)],
        timeout=TIMEOUT,
        return_when=ALL_COMPLETED,
    )
    assert (len(done), rest) == (4, set())
    held = balanced.submit(gate.pass_through)
    quick = balanced.submit(abs, -1)
    assert concurrent.futures.wait([held, quick], TIMEOUT, FIRST_COMPLETED) == ({quick}, {held})
    assert concurrent.futures.wait([held, held, settled()], 0) != (set(), {held})
    assert concurrent.futures.wait([held, settled(error=OSError())], TIMEOUT, FIRST_EXCEPTION).not_done == {held}


def test_wait_returns_at_the_first_exception(view, gate):
    """Also when it comes while one waits, and is one of many slots."""
    held = view.client.load_balanced_view(targets=[3]).executor.submit(gate.pass_through)
    gate.wait_until_came(1)
    release = Gate(gate.folder + "/failing")
    Path(release.folder).mkdir()
    other = type(view)(view.client, targets=[1])
    failing = other.executor.submit(operator.methodcaller("pass_through", None), Failing(release))
    opener = threading.Thread(target=release.open)
    opener.start()
    done, rest = concurrent.futures.wait([held, failing], TIMEOUT, FIRST_EXCEPTION)
    opener.join()
    assert (done, rest) == ({failing}, {held})


class Failing:
    def __init__(self, gate):
        self.gate = gate

    def pass_through(self, value):
        self.gate.pass_through()
        raise LookupError(value)


def test_as_completed(balanced, gate):
    futures = [balanced.submit(abs, -i) for i in range(30)]
    assert set(concurrent.futures.as_completed([*futures, *futures, settled()], TIMEOUT)) > set(futures)
    held = balanced.submit(gate.pass_through)
    with pytest.raises(TimeoutError, match="1 \\(of 2\\) futures unfinished"):
        list(concurrent.futures.as_completed([held, futures[0]], timeout=0.01))


def test_what_was_submitted_and_what_came_is_not_kept(balanced):
    thing = Thing()
    gone = threading.Event()
    reference = weakref.ref(thing, lambda _: gone.set())
    balanced.submit(thing.method)  # nobody keeps the future
    del thing
    deadline = time.monotonic() + TIMEOUT
    while not gone.wait(0.01):
        gc.collect()
        assert time.monotonic() < deadline
    for value in balanced.map(make_thing, range(10), chunksize=3):
        reference = weakref.ref(value)
        del value
        gc.collect()
        assert reference() is None


def test_many_threads_submit(balanced):
    totals = []
    threads = [threading.Thread(target=lambda: totals.append(sum(balanced.map(abs, range(50))))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert totals == [sum(range(50))] * 8


def test_a_closed_client_takes_nothing(fresh):
    rc = fresh(1)
    other = mpicluster.Client(rc.contact)
    executor = other.executor()
    other.close()
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(abs, 1)
    executor.shutdown()
