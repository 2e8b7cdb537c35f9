"""A view as a `concurrent.futures.Executor`, for code that takes one."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from mpicluster.client.balanced import LoadBalancedView
from mpicluster.client.mapped import AsyncMapResult
from mpicluster.client.result import AsyncResult

if TYPE_CHECKING:
    from mpicluster.client.view import View

__all__ = ["ViewExecutor", "executor_of"]


#: guards that a view has one
_making = threading.Lock()


def executor_of(view: View) -> ViewExecutor:
    """The executor of a view: always the same one, until it is shut down."""
    with _making:
        executor = view._executor
        if executor is None or executor.closed:
            executor = view._executor = ViewExecutor(view)
        return executor


class ViewExecutor(Executor):
    """An executor whose workers are the engines of a view. Thread-safe.

    On a load-balanced view a call runs on one engine. On a direct view it runs on all of them, and its future gives the list. Futures
    are `AsyncResult`.

    Shutting it down ends the executor, never the engines.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        #: guards what follows; what is pickled may itself submit
        self._lock = threading.RLock()
        self._closed = False
        #: what was submitted; those under way are kept by the client
        self._results: weakref.WeakSet[AsyncResult] = weakref.WeakSet()

    @property
    def closed(self) -> bool:
        """Whether it was shut down."""
        return self._closed

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Run ``fn(*args, **kwargs)`` there.

        Raises
        ------
        RuntimeError
            this executor was shut down, or its client closed.
        """
        result: AsyncResult = self._noted(lambda: self.view.apply_async(fn, *args, **kwargs))
        return result

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """``map(fn, *iterables)``: submits at once, and gives the values in order as they come.

        Leaving the iterator early, by an error too, takes back what has not begun.

        Parameters
        ----------
        timeout
            seconds from this call within which a value must be there, else the iterator raises `TimeoutError`.
        chunksize
            items in one task. A direct view divides the items among its engines, whatever this says.
        buffersize
            tasks whose values have not been taken yet; items are drawn only as fast as values are taken. By default all are drawn at once.

        Raises
        ------
        RuntimeError
            this executor was shut down, or its client closed.
        ValueError
            ``chunksize`` or ``buffersize`` is less than 1.
        """
        for name, number in (("chunksize", chunksize), ("buffersize", buffersize)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, is {number}")
        until = None if timeout is None else time.monotonic() + timeout
        if not iterables:
            return iter(())
        if buffersize is None:
            whole = self._map(fn, zip(*iterables, strict=False), chunksize)
            return _values(deque([whole]), iter(()), until)
        items = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
        parts = (self._map(fn, chunk, chunksize) for chunk in chunks)
        return _values(deque(itertools.islice(parts, buffersize)), parts, until)

    def _map(self, fn: Callable[..., Any], items: Iterable[tuple[Any, ...]], chunksize: int) -> AsyncMapResult:
        options = {"chunksize": chunksize} if isinstance(self.view, LoadBalancedView) else {}
        sequences = list(zip(*items, strict=True)) or [()]
        result: AsyncMapResult = self._noted(lambda: self.view.map_async(fn, *sequences, **options))
        return result

    def _noted(self, submit: Callable[[], Any]) -> Any:
        with self._lock:
            if self._closed:
                raise RuntimeError("this executor was shut down; ask its view for another: view.executor")
            result = submit()
            self._results.add(result)
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; with ``wait``, return when all that was submitted has ended.

        ``cancel_futures``
            take back what has not begun.
        """
        with self._lock:
            self._closed = True
            pending = [result for result in self._results if not result.done()]
        if cancel_futures and pending:
            self.view.client._withdraw(task for result in pending for task in result._tasks())
        if wait:
            self.view.client.wait(pending)

    def interrupt(self) -> None:
        """End what was submitted and has not ended: what has not begun does not begin, and what runs gets a KeyboardInterrupt.

        Raises
        ------
        ClusterError, TimeoutError
            there is no cluster any more, or it does not answer.
        """
        with self._lock:
            pending = [result for result in self._results if not result.done()]
        if pending:
            self.view.client._interrupt(task for result in pending for task in result._tasks())

    def __repr__(self) -> str:
        return f"<ViewExecutor of {self.view!r}{', shut down' if self._closed else ''}>"


def _values(under_way: deque[AsyncMapResult], more: Iterator[AsyncMapResult], until: float | None) -> Iterator[Any]:
    """The values of some maps, in order; a generator that keeps none of them."""
    try:
        while under_way:
            for slot in range(under_way[0].slots):
                values = under_way[0]._take_slot(slot, None if until is None else max(0.0, until - time.monotonic()))
                while values:
                    yield values.popleft()
            under_way.popleft()
            under_way.extend(itertools.islice(more, 1))
    finally:
        for result in under_way:
            if not result.done():
                result._client._withdraw(result._tasks())
