"""What direct and load-balanced views share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mpicluster.client.result import AsyncResult
from mpicluster.config import INLINE_UP_TO
from mpicluster.errors import ClusterError
from mpicluster.serial.buffers import copy
from mpicluster.serial.payload import Buffer, Payload, encode

if TYPE_CHECKING:
    from mpicluster.client.client import Client
    from mpicluster.client.executor import ViewExecutor

__all__ = ["View", "name_of", "snapshot", "waited", "zip_items"]

#: How long a call that was interrupted waits for its tasks to end, so that the next one finds the engines free.
_ENDS_WITHIN = 3.0


def name_of(function: Any) -> str:
    """How a function is called in reprs and errors."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)


class View:
    """Base of the views. ``block`` says whether calls wait for their result.

    A view holds no locks and no state of calls: it may be used from any thread.
    """

    def __init__(self, client: Client, *, block: bool | None = None) -> None:
        self.client = client
        self.block = client.block if block is None else block
        self._executor: ViewExecutor | None = None

    # -- what each kind of view does ---------------------------------------------------------------------------------

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, block: bool) -> AsyncResult:
        raise NotImplementedError

    # -- apply -------------------------------------------------------------------------------------------------------

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``f(*args, **kwargs)`` there: its result if this view blocks, else an `AsyncResult`."""
        result = self._apply(f, args, kwargs, block=bool(self.block))
        return waited(result) if self.block else result

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Run ``f(*args, **kwargs)`` there, without waiting."""
        return self._apply(f, args, kwargs, block=False)

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``f(*args, **kwargs)`` there, and wait for the result."""
        return waited(self._apply(f, args, kwargs, block=True))

    def map_sync(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **options: Any) -> list[Any]:
        """``list(map(f, *sequences))``, there."""
        result: list[Any] = self.map(f, *sequences, **{**options, "block": True})  # type: ignore[attr-defined]
        return result

    def map_async(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **options: Any) -> AsyncResult:
        """`map` without waiting."""
        result: AsyncResult = self.map(f, *sequences, **{**options, "block": False})  # type: ignore[attr-defined]
        return result

    def wait(self, jobs: Iterable[AsyncResult] | AsyncResult | None = None, timeout: float | None = None) -> bool:
        """`Client.wait`."""
        return self.client.wait(jobs, timeout)

    @property
    def executor(self) -> ViewExecutor:
        """This view as a `concurrent.futures.Executor`; another one after it was shut down."""
        from mpicluster.client.executor import executor_of

        return executor_of(self)

    # -- helpers -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _pack_call(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> tuple[bytes, Payload]:
        """Function and arguments, encoded; a function that carries much data goes with its arguments."""
        if not callable(f):
            raise TypeError(f"{f!r} is not callable")
        function = encode(f, INLINE_UP_TO, f"function {name_of(f)}")
        if function.buffers:
            return b"", encode((args, kwargs, f), limit, f"function {name_of(f)} and its arguments")
        return function.data, encode((args, kwargs), limit, f"the arguments of {name_of(f)}")


def waited(result: AsyncResult) -> Any:
    """The value of a result whose caller waits. Ctrl-C ends what it waits for, of which nobody else knows."""
    try:
        return result.get()
    except KeyboardInterrupt:
        try:
            if result.interrupt():
                result.wait(_ENDS_WITHIN)
        except (ClusterError, TimeoutError):
            pass  # there is no cluster any more, or it does not answer: nothing can be ended
        raise


def snapshot(buffers: Sequence[Buffer], *, block: bool) -> Sequence[Buffer]:
    """Buffers to be sent: the caller's own while it waits, else copies, so that it may go on changing them."""
    return buffers if block else [copy(b) for b in buffers]


def zip_items(sequences: tuple[Iterable[Any], ...]) -> list[tuple[Any, ...]]:
    """The argument tuples of a map."""
    if not sequences:
        raise TypeError("map needs at least one sequence")
    return list(zip(*sequences, strict=False))
