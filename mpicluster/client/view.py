"""What direct and load-balanced views share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mpicluster.client.history import ViewHistory
from mpicluster.client.result import AsyncResult
from mpicluster.config import INLINE_UP_TO
from mpicluster.serial.buffers import copy
from mpicluster.serial.payload import Buffer, Payload, encode

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["View", "name_of"]


def name_of(function: Any) -> str:
    """How a function is called in reprs and errors."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)


class View(ViewHistory):
    """Base of the views. ``block`` says whether calls wait for their result.

    A view holds no locks, and of its calls only their ids: it may be used from any thread.
    """

    def __init__(self, client: Client, *, block: bool | None = None) -> None:
        super().__init__()
        self.client = client
        self.block = client.block if block is None else block

    # -- what each kind of view does ---------------------------------------------------------------------------------

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, block: bool) -> AsyncResult:
        raise NotImplementedError

    # -- apply -------------------------------------------------------------------------------------------------------

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``f(*args, **kwargs)`` there: its result if this view blocks, else an `AsyncResult`."""
        result = self._apply(f, args, kwargs, block=bool(self.block))
        return result.get() if self.block else result

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Run ``f(*args, **kwargs)`` there, without waiting."""
        return self._apply(f, args, kwargs, block=False)

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``f(*args, **kwargs)`` there, and wait for the result."""
        return self._apply(f, args, kwargs, block=True).get()

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


def snapshot(buffers: Sequence[Buffer], *, block: bool) -> Sequence[Buffer]:
    """Buffers to be sent: the caller's own while it waits, else copies, so that it may go on changing them."""
    return buffers if block else [copy(b) for b in buffers]


def zip_items(sequences: tuple[Iterable[Any], ...]) -> list[tuple[Any, ...]]:
    """The argument tuples of a map."""
    if not sequences:
        raise TypeError("map needs at least one sequence")
    return list(zip(*sequences, strict=False))
