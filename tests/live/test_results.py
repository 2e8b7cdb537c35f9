"""What a result knows, before and after it is there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from pathlib import Path

import pytest

TIMEOUT = 30


def wait_for_file(path):
    deadline = time.monotonic() + 120
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return path


def test_waiting_ends_with_the_result(rc, tmp_path):
    gate = tmp_path / "gate"
    result = rc[:].apply_async(wait_for_file, str(gate))
    assert not result.ready()
    assert result.elapsed >= 0
    for ask in (lambda: result.serial_time, lambda: result.wall_time, lambda: result[0], lambda: result.get(timeout=0)):
        with pytest.raises(TimeoutError):
            ask()
    with pytest.raises(RuntimeError, match="not ready"):
        result.successful()
    gate.touch()
    assert result.wait(timeout=TIMEOUT)
    assert result.successful()
    assert result.get_dict() == result.result_dict == dict.fromkeys(rc.ids, str(gate))
    assert result.elapsed == result.wall_time


def test_callbacks_come_before_and_after_the_end(rc):
    result = rc[0].apply_async(abs, -3)
    said = [concurrent.futures.Future(), concurrent.futures.Future()]
    result.add_done_callback(lambda r: said[0].set_result(r.result()))
    assert said[0].result(timeout=TIMEOUT) == 3
    result.add_done_callback(lambda r: said[1].set_result(r.result()))
    assert said[1].result(timeout=TIMEOUT) == 3


def test_answers_that_come_one_by_one_after_a_caller_has_read_for_itself(rc4, tmp_path, monkeypatch):
    """The listening thread stays aside for a caller's next call; not if somebody is to be told of what comes."""
    monkeypatch.setattr("mpicluster.client.connection._ASIDE", 10 * TIMEOUT)
    gates = [tmp_path / str(i) for i in rc4.ids]
    assert rc4[0].apply_sync(abs, -1) == 1  # the caller reads
    result = rc4[:].map_async(wait_for_file, list(map(str, gates)))
    told = threading.Event()
    result.add_done_callback(lambda _: told.set())
    for i, gate in enumerate(gates):
        gate.touch()
        end = time.monotonic() + TIMEOUT
        while result.progress <= i:
            assert time.monotonic() < end
            time.sleep(0.002)
    assert told.wait(TIMEOUT)


def test_results_are_futures(rc):
    results = [rc[0].apply_async(abs, -i) for i in range(5)]
    done, rest = concurrent.futures.wait(results, timeout=TIMEOUT)
    assert (len(done), len(rest)) == (5, 0)

    async def one():
        return await asyncio.wait_for(asyncio.wrap_future(rc[:].apply_async(abs, -2)), TIMEOUT)

    assert asyncio.run(one()) == [2] * len(rc)


def test_a_failed_result_is_done_but_not_successful(rc):
    result = rc[0].apply_async(divmod, 1, 0)
    assert result.wait(timeout=TIMEOUT)
    assert not result.successful()
    assert isinstance(result.exception(timeout=TIMEOUT), ZeroDivisionError)
    assert result.status == "error"
    with pytest.raises(AttributeError):
        _ = result.nothing


class Gate:
    """Holds tasks on the engines until it is opened, and knows how many have come."""

    def __init__(self, folder):
        self.folder = str(folder)

    def pass_through(self, value=None):
        import time

        with open(f"{self.folder}/came-{os.getpid()}-{time.monotonic_ns()}", "w"):
            pass
        wait_for_file(f"{self.folder}/open")
        return value

    def came(self):
        return len(list(Path(self.folder).glob("came*")))

    def wait_until_came(self, count):
        import time

        deadline = time.monotonic() + TIMEOUT
        while self.came() < count:
            assert time.monotonic() < deadline
            os.sched_yield()

    def open(self):
        open(f"{self.folder}/open", "w").close()


def test_results_come_as_they_come(rc4, gate):
    """Progress counts them, and iteration gives those that are there."""
    held = rc4[3].apply_async(gate.pass_through)
    result = rc4[:].apply_async(abs, -7)
    values = iter(result)
    assert [next(values) for _ in range(3)] == [7, 7, 7]
    assert (result.progress, len(result), result.ready()) == (3, 4, False)
    assert result.status == ["ok", "ok", "ok", None]
    assert result.metadata[3]["completed"] is None
    with pytest.raises(TimeoutError, match="3 of 4 done"):
        result.get(timeout=0)
    gate.open()
    assert next(values) == 7
    assert held.wait(timeout=TIMEOUT)
    assert result.get(timeout=TIMEOUT) == [7] * 4


def test_quick_results_come_while_the_next_task_runs(rc, gate):
    """They are sent in batches, but do not wait for a task that takes long."""
    results = [rc[0].apply_async(abs, -i) for i in range(20)]
    held = rc[0].apply_async(gate.pass_through)
    assert [r.get(timeout=TIMEOUT) for r in results] == list(range(20))
    assert not held.done()
    gate.open()
    assert held.wait(timeout=TIMEOUT)


def test_a_timeout_of_minus_one_is_none(rc):
    rc.wait_for_engines(len(rc), timeout=-1)
    assert rc[0].apply_async(abs, -1).get(timeout=-1) == 1
    assert rc[0].apply_async(abs, -1).wait(timeout=-1) is True
    assert rc[0].apply_async(abs, -1).exception(timeout=-1) is None


def test_wait_of_a_client_and_of_a_view(rc, gate):
    results = [rc[0].apply_async(gate.pass_through, i) for i in range(3)]
    assert rc.wait(results, timeout=0) is False
    assert rc[:].wait(results[0], timeout=0) is False
    assert rc.wait(timeout=0) is False
    gate.open()
    assert rc.wait(results, timeout=TIMEOUT) is True
    assert rc.wait(timeout=TIMEOUT) is True
    assert rc.wait() is True
    assert not rc.outstanding


def test_parts_by_index(rc4):
    result = rc4[:].apply_async(pow, 2, 3)
    assert result.wait(timeout=TIMEOUT)
    assert (result[0], result[-1], result[1:3]) == (8, 8, [8, 8])
    assert result["status"] == result.status
    with pytest.raises(IndexError):
        result[4]
    single = rc4[0].apply_async(pow, 2, 3)
    assert single.wait(timeout=TIMEOUT)
    assert (single[0], single[:]) == (8, [8])
    with pytest.raises(IndexError):
        single[1]


def test_iteration_over_one_value(rc):
    assert list(rc[0].apply_async(list, "abc")) == ["a", "b", "c"]
    with pytest.raises(TypeError, match="not iterable"):
        list(rc[0].apply_async(abs, -1))


def test_dicts_of_results(rc4):
    assert rc4[[2, 0]].apply_async(abs, -1).get_dict(timeout=TIMEOUT) == {2: 1, 0: 1}
    assert rc4[3].apply_async(list, "ab").get_dict(timeout=TIMEOUT) == {3: ["a", "b"]}
    assert rc4[[3, 1]].map_async(abs, range(5)).get_dict(timeout=TIMEOUT) == {3: [0, 1, 2], 1: [3, 4]}
    with pytest.raises(ValueError, match="more than one"):
        rc4.load_balanced_view(targets=[1]).map_async(abs, range(2)).get_dict(timeout=TIMEOUT)
    rc4[:].push({"x": [1]}, block=True)
    with pytest.raises(ValueError, match="all engines together"):
        rc4[:].gather("x", block=False).get_dict(timeout=TIMEOUT)
    with pytest.raises(ZeroDivisionError):
        rc4[0].apply_async(divmod, 1, 0).get_dict(timeout=TIMEOUT)


def test_times_are_in_order(rc4):
    result = rc4[:].apply_async(sum, range(1000))
    assert result.wait(timeout=TIMEOUT)
    for record in result.metadata:
        assert record["submitted"] <= record["started"] <= record["completed"] <= record["received"]
    assert result.serial_time >= 0
    took = max(result.completed) - min(result.submitted)
    assert result.elapsed == result.wall_time >= took.total_seconds()
    assert result.engine_id == [0, 1, 2, 3]
    assert len(set(result.msg_ids)) == 4


def test_output_of_a_task(rc):
    result = rc[:].apply_async(print, "said")
    assert result.get(timeout=TIMEOUT) == [None] * len(rc)
    assert result.stdout == ["said\n"] * len(rc)
    assert result.stderr == [""] * len(rc)
    assert result.metadata[0]["stdout"] == "said\n"


def test_callbacks_may_wait_for_other_results_and_fail(rc, caplog):
    """One that raises is logged; the next ones come all the same, one after another."""
    said = concurrent.futures.Future()
    results = [rc[0].apply_async(abs, -i) for i in range(20)]
    results[0].add_done_callback(lambda r: 1 / 0)
    order = []
    for result in results:
        result.add_done_callback(lambda r: order.append(r.result() + rc[-1].apply_sync(abs, -100)))
    results[-1].add_done_callback(lambda r: said.set_result(r.get()))
    assert said.result(timeout=TIMEOUT) == 19
    assert sorted(order) == list(range(100, 120))


def test_a_callback_hears_of_failure_and_of_cancelling(rc, gate):
    kinds = [concurrent.futures.Future() for _ in range(2)]
    rc[0].apply_async(divmod, 1, 0).add_done_callback(lambda r: kinds[0].set_result(type(r.exception())))
    assert issubclass(kinds[0].result(timeout=TIMEOUT), ZeroDivisionError)
    held = rc[0].apply_async(gate.pass_through)
    gate.wait_until_came(1)
    queued = rc[0].apply_async(abs, -1)
    queued.add_done_callback(lambda r: kinds[1].set_result(r.cancelled()))
    assert queued.cancel() is True
    assert kinds[1].result(timeout=TIMEOUT) is True
    gate.open()
    assert held.wait(timeout=TIMEOUT)


def test_waiting_for_the_first_or_for_a_failure(rc4, gate):
    held = rc4[1].apply_async(gate.pass_through, 1)
    quick, bad = rc4[0].apply_async(abs, -2), rc4[2].apply_async(divmod, 1, 0)
    done, rest = concurrent.futures.wait([held, quick], timeout=TIMEOUT, return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, rest) == ({quick}, {held})
    done, _ = concurrent.futures.wait([held, bad], timeout=TIMEOUT, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert bad in done or bad.done()
    assert next(concurrent.futures.as_completed([held, quick], timeout=TIMEOUT)) is quick
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([held], timeout=0))
    gate.open()
    assert held.get(timeout=TIMEOUT) == 1


def test_results_are_awaited(rc4, gate):
    """Several at once, with a timeout, with an error; cancelling the waiting task cancels what has not begun."""

    async def main():
        assert await rc4[0].apply_async(abs, -3) == 3
        assert await asyncio.gather(*(rc4.load_balanced_view().apply_async(abs, -i) for i in range(50))) == list(range(50))
        with pytest.raises(ZeroDivisionError):
            await rc4[:].apply_async(divmod, 1, 0)
        held = rc4[0].apply_async(gate.pass_through, 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(held)), 0.01)
        while not gate.came():
            await asyncio.sleep(0)
        queued = rc4[0].apply_async(abs, -1)
        waiting = asyncio.ensure_future(asyncio.wrap_future(queued))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)  # asyncio tells the result a step later
        gate.open()
        assert await held == 5
        return queued

    queued = asyncio.run(asyncio.wait_for(main(), TIMEOUT))
    queued.wait(timeout=TIMEOUT)
    assert queued.cancelled()


def test_cancelling_tells_the_truth(rc4, gate):
    """True only if nothing of it ran; what was taken back never runs, what began ends."""
    held = rc4[0].apply_async(gate.pass_through, 1)
    gate.wait_until_came(1)
    queued, partly = rc4[0].apply_async(gate.pass_through, 2), rc4[:2].apply_async(gate.pass_through, 3)
    gate.wait_until_came(2)
    assert held.cancel() is False
    assert queued.cancel() is True
    assert partly.cancel() is False
    assert queued.cancelled()
    assert queued.status == "aborted"
    gate.open()
    assert held.get(timeout=TIMEOUT) == 1
    assert held.cancel() is False
    with pytest.raises(concurrent.futures.CancelledError):
        partly.get(timeout=TIMEOUT)
    assert partly.status == ["aborted", "ok"]
    assert not partly.cancelled()
    assert queued.cancel() is True
    with pytest.raises(concurrent.futures.CancelledError):
        queued.exception(timeout=TIMEOUT)
    assert rc4[0].apply_async(abs, -1).get(timeout=TIMEOUT) == 1
    assert gate.came() == 2


def test_abort_is_cancel_but_an_error_when_it_is_done(rc, gate):
    held = rc[0].apply_async(gate.pass_through)
    gate.wait_until_came(1)
    queued = rc[0].apply_async(gate.pass_through)
    queued.abort()
    assert queued.cancelled()
    gate.open()
    held.get(timeout=TIMEOUT)
    for result in (held, queued):
        with pytest.raises(RuntimeError, match="is done"):
            result.abort()


def test_many_threads_wait_for_one_result(rc, gate):
    result = rc[:].apply_async(gate.pass_through, {"a": 1})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        values = [pool.submit(result.get, TIMEOUT) for _ in range(8)]
        gate.open()
        assert all(v.result(timeout=TIMEOUT) == [{"a": 1}] * len(rc) for v in values)


def test_a_result_may_be_had_again_and_again(rc):
    result = rc[0].apply_async(list, "ab")
    assert result.get(timeout=TIMEOUT) is result.get() is result.r is result.result()
    failed = rc[0].apply_async(divmod, 1, 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as caught:
            failed.get(timeout=TIMEOUT)
    assert caught.value is failed.exception()
