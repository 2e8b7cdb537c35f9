"""Results and clients in an event loop. Nothing here blocks the loop, and no thread waits for a result."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mpicluster.client.client import Client
    from mpicluster.client.result import AsyncResult

__all__ = ["Connecting", "in_thread", "value_of", "values_of"]

T = TypeVar("T")
#: Values that are there already are given so many at a time: then others in the loop have their turn.
_IN_A_ROW = 100


class _Bell:
    """Rung from any thread, heard in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        #: whether a ring is to be passed on: one is enough, and waking a loop is a system call
        self._waiting = False

    def ring(self, *_: Any) -> None:
        if self._waiting:
            self._waiting = False
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                self._loop.call_soon_threadsafe(self._rung.set)

    async def wait_for(self, there: Callable[[], bool]) -> None:
        """Wait for ``there()``, which becomes true before a ring."""
        while True:
            self._rung.clear()
            self._waiting = True  # before the look: what comes after it rings
            if there():
                return
            await self._rung.wait()


async def value_of(result: AsyncResult) -> Any:
    """``await result``. Cancelling the wait takes back what has not begun."""
    bell = _Bell()
    result._watch(bell.ring)
    await _withdrawing(result, bell.wait_for(result.done))
    return result.result()


async def values_of(result: AsyncResult) -> AsyncIterator[Any]:
    """``async for value in result``: each as it comes, in the order that ``for`` has. Cancelling it takes back what has not begun."""
    bell = _Bell()
    result._follow(bell.ring)
    try:
        given = 0
        for k in range(result.slots):
            await _withdrawing(result, bell.wait_for(lambda: result._has(k)))  # noqa: B023 - awaited here
            for value in result._values_at(k):
                yield value
                given += 1
                if given % _IN_A_ROW == 0:
                    await _withdrawing(result, asyncio.sleep(0))
    finally:
        result._unfollow(bell.ring)


async def _withdrawing(result: AsyncResult, wait: Any) -> None:
    try:
        await wait
    except asyncio.CancelledError:
        if not result.done():
            result._client._withdraw(result._tasks())
        raise


async def in_thread(call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Run a call that takes its time in a thread of its own; ``undo(value)`` if nobody waits for its value any more.

    The loop's own threads are not used: leaving the loop would wait for them.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            value = call()
        except BaseException as e:  # noqa: BLE001 - it is raised in the loop
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(e)
            return
        if outcome.set_running_or_notify_cancel():
            outcome.set_result(value)
        elif undo is not None:
            undo(value)

    threading.Thread(target=run, name="mpicluster-connect", daemon=True).start()
    return await asyncio.wrap_future(outcome)


class Connecting:
    """A client to be: ``rc = await Client.connect(...)``, or ``async with Client.connect(...) as rc``, which closes it in the end."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return in_thread(self._make, lambda client: client.close()).__await__()

    async def __aenter__(self) -> Client:
        self._client = await self
        return self._client

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._client is not None:
            await in_thread(self._client.close)
