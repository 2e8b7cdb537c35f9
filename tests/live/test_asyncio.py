"""Results and clients in an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

import mpicluster

TIMEOUT = 30


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, TIMEOUT))


async def until(condition):
    """Others in the loop have their turn at least once: a task that was just made begins."""
    await asyncio.sleep(0)
    while not condition():
        await asyncio.sleep(0)


def test_many_are_awaited_without_threads(rc4):
    view = rc4.load_balanced_view()

    async def main():
        before = set(threading.enumerate())
        values = await asyncio.gather(*(view.apply_async(abs, -i) for i in range(1000)))
        assert not [t for t in set(threading.enumerate()) - before if "callbacks" not in t.name]
        return values

    assert run(main()) == list(range(1000))


def test_awaiting_the_same_result_twice_and_again(rc):
    async def main():
        result = rc[:].apply_async(abs, -1)
        assert await asyncio.gather(result, result) == [[1] * len(rc)] * 2
        return await result

    assert run(main()) == [1] * len(rc)


def test_errors_are_raised_in_the_awaiting_task(rc4):
    async def main():
        results = await asyncio.gather(*(rc4.load_balanced_view().apply_async(divmod, 1, i) for i in (0, 1, 0)), return_exceptions=True)
        assert [type(x) is tuple for x in results] == [False, True, False]
        assert all(isinstance(x, ZeroDivisionError) for x in results[::2])
        with pytest.raises(ZeroDivisionError):
            async for _ in rc4.load_balanced_view().map_async(divmod, [1, 1], [0, 1]):
                pass
        with pytest.raises(mpicluster.CompositeError):
            await rc4[:].apply_async(divmod, 1, 0)

    run(main())


def test_a_user_callback_that_waits_holds_nobody_up(rc4):
    """Callbacks have a thread; the event loop is woken without it."""
    release = threading.Event()

    async def main():
        rc4[0].apply_async(abs, -1).add_done_callback(lambda _: release.wait(TIMEOUT))
        value = await rc4[0].apply_async(abs, -2)
        release.set()
        return value

    assert run(main()) == 2


def test_a_timeout_takes_back_what_has_not_begun(rc4, gate):
    async def main():
        held = rc4[0].apply_async(gate.pass_through, 1)
        await until(gate.came)
        queued = rc4[0].apply_async(gate.pass_through, 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queued, 0.01)
        await until(queued.done)
        assert queued.cancelled()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held, 0.01)
        gate.open()
        return await held

    assert run(main()) == 1
    assert gate.came() == 1


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("count", [0, 1, 10, 500])
def test_iteration_over_a_map(rc, count, ordered, chunksize):
    async def main():
        return [x async for x in rc.load_balanced_view().map_async(abs, range(count), ordered=ordered, chunksize=chunksize)]

    values = run(main())
    assert (values if ordered else sorted(values)) == list(range(count))


def test_values_come_as_they_come(rc4, gate):
    view = rc4.load_balanced_view(targets=[0, 1])

    async def main():
        order = []
        async for i in view.map_async(gated(gate), range(6), ordered=False):
            order.append(i)
            if len(order) == 5:
                gate.open()
        return order

    order = run(main())
    assert order[-1] == 0
    assert sorted(order) == list(range(6))


def gated(gate):
    def f(i):
        return gate.pass_through(i) if i == 0 else i

    return f


def test_iteration_over_engines_and_over_one_value(rc4, gate):
    async def main():
        held = rc4[3].apply_async(gate.pass_through)
        values = aiter(rc4[:].apply_async(abs, -7))
        assert [await anext(values) for _ in range(3)] == [7, 7, 7]
        gate.open()
        assert await anext(values) == 7
        with pytest.raises(StopAsyncIteration):
            await anext(values)
        await held
        return [x async for x in rc4[0].apply_async(list, "abc")]

    assert run(main()) == ["a", "b", "c"]


def test_leaving_the_loop_early_leaves_the_map(rc4):
    async def main():
        result = rc4.load_balanced_view().map_async(abs, range(100))
        async for i in result:
            if i == 3:
                break
        return await result

    assert run(main()) == list(range(100))


def test_a_cancelled_iteration_takes_back_the_rest(rc4, gate):
    async def main():
        result = rc4.load_balanced_view(targets=[0]).map_async(gate.pass_through, range(50))

        async def consume():
            async for _ in result:
                pass

        consumer = asyncio.create_task(consume())
        await until(gate.came)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        await until(lambda: result.progress == 49)
        gate.open()
        await until(result.done)

    run(main())
    assert gate.came() == 1


def test_others_in_the_loop_have_their_turn(rc4):
    async def main():
        result = rc4.load_balanced_view().map_async(abs, range(5000), chunksize=100)
        await result
        turns = 0
        going = True

        async def other():
            nonlocal turns
            while going:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async for _ in result:
            pass
        going = False
        await task
        return turns

    assert run(main()) > 10


def test_wrapped_futures_and_cancelling(rc4, gate):
    async def main():
        assert await asyncio.wrap_future(rc4[0].apply_async(abs, -1)) == 1
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(rc4[0].apply_async(divmod, 1, 0))
        held = rc4[0].apply_async(gate.pass_through)
        await until(gate.came)
        queued = rc4[0].apply_async(abs, 1)
        assert queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wrap_future(queued)
        with pytest.raises(mpicluster.TaskAborted):  # this task of the loop is not cancelled
            await queued
        gate.open()
        await held

    run(main())


def test_the_loop_may_be_closed_before_the_answer(rc4, gate):
    async def main():
        held = rc4[0].apply_async(gate.pass_through, 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held, 0.01)
        return held

    held = asyncio.run(main())
    gate.open()
    assert held.get(timeout=TIMEOUT) == 5


def test_connecting_in_a_loop(rc4):
    async def main():
        async with mpicluster.Client.connect(rc4.contact) as rc:
            assert rc.ids == [0, 1, 2, 3]
            assert await rc[:].apply_async(abs, -1) == [1] * 4
        with pytest.raises(mpicluster.ClosedError):
            rc[0]
        other = await mpicluster.Client.connect(rc4.contact, timeout=TIMEOUT)
        try:
            return await other[0].apply_async(abs, -3)
        finally:
            other.close()

    assert run(main()) == 3


def test_connecting_to_nothing(tmp_path):
    async def main():
        with pytest.raises(mpicluster.NoCluster):
            async with mpicluster.Client.connect(tmp_path / "nothing.json"):
                pass
        with pytest.raises(TypeError):
            await mpicluster.Client.connect(no_such_option=1)

    run(main())


def test_a_connection_that_nobody_waits_for_is_closed(rc4):
    """Cancelled while it is made: it leaves, as the hub sees."""

    def clients():
        return rc4.status()["clients"]

    before = clients()

    async def main():
        connecting = asyncio.ensure_future(mpicluster.Client.connect(rc4.contact).__aenter__())
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        while [t for t in threading.enumerate() if t.name == "mpicluster-connect"]:
            await asyncio.sleep(0)

    run(main())
    assert clients() == before


def test_the_loop_goes_on_while_a_client_is_made_and_closed(rc4):
    async def main():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async with mpicluster.Client.connect(rc4.contact):
            made, turns = turns, 0
        task.cancel()
        return made, turns

    made, closed = run(main())
    assert made > 1
    assert closed > 1


def test_a_client_that_is_closed_meanwhile(rc4, gate):
    """Whoever waits for its results is told."""

    async def consume(result):
        return [x async for x in result]

    async def wait(result):
        return await result

    async def main():
        async with mpicluster.Client.connect(rc4.contact) as rc:
            waiting = [
                asyncio.create_task(wait(rc[0].apply_async(gate.pass_through))),
                asyncio.create_task(consume(rc.load_balanced_view().map_async(gate.pass_through, range(20)))),
                asyncio.create_task(consume(rc.load_balanced_view().map_async(gate.pass_through, range(20), ordered=False))),
            ]
            await until(lambda: gate.came() >= 4)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(x) for x in outcomes] == [mpicluster.ClosedError] * 3

    run(main())
    gate.open()
