"""A view that leaves the choice of the engine to the hub."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mpicluster.client.result import AsyncMapResult, AsyncResult
from mpicluster.client.view import View, name_of, snapshot, zip_items
from mpicluster.config import INLINE_UP_TO
from mpicluster.ids import Targets, select
from mpicluster.serial.payload import Payload, encode

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["LoadBalancedView"]

#: Tasks of a map travel together, up to so many and so many bytes; the first few go ahead of the rest.
_BATCH_TASKS = 4096
_BATCH_BYTES = 4 * 1024 * 1024
_FIRST_BATCH = 64


class LoadBalancedView(View):
    """Farms tasks out to whichever engine is free. A task whose engine died is given to another.

    ``targets``
        engines it may use; None for all.
    ``retries``
        how often a task that raised is tried again, on another engine first.
    """

    def __init__(self, client: Client, targets: Targets = None, *, block: bool | None = None, retries: int = 0) -> None:
        super().__init__(client, block=block)
        self.targets = targets
        self.retries = retries

    def __repr__(self) -> str:
        return f"<LoadBalancedView {self.targets}>"

    def _allowed(self) -> list[int]:
        """Engines that a task may use now; empty for any."""
        return [] if self.targets is None else select(self.targets, self.client._live())

    def _submit(self, result: AsyncResult, slot: int, kind: str, fn: bytes, data: list[bytes], buffers: Any = ()) -> None:
        if self.retries < 0:
            raise ValueError(f"retries must not be negative, is {self.retries}")
        self.client._submit(
            result,
            slot,
            kind,
            targets=None,
            allowed=self._allowed(),
            data=data,
            fn=fn,
            buffers=buffers,
            retries=self.retries,
            history=self.history,
        )

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, block: bool) -> AsyncResult:
        fn, argument = self._pack_call(f, args, kwargs, INLINE_UP_TO)
        result = AsyncResult(self.client, name_of(f), 1, single=True)
        self._submit(result, 0, "apply", fn, [argument.data], snapshot(argument.buffers, block=block))
        return result

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        block: bool | None = None,
        ordered: bool = True,
        chunksize: int = 1,
    ) -> Any:
        """``map(f, *sequences)``: a list if this view blocks, else an `AsyncMapResult`, which can be iterated over as results come.

        Parameters
        ----------
        ordered
            whether iteration gives results in the order of the items, or as they come.
        chunksize
            items in one task.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, is {chunksize}")
        block = bool(self.block if block is None else block)
        items = zip_items(sequences)
        chunked = chunksize > 1
        chunks: list[Any] = [items[i : i + chunksize] for i in range(0, len(items), chunksize)] if chunked else items
        result = AsyncMapResult(
            self.client, name_of(f), [len(c) for c in chunks] if chunked else [1] * len(items), ordered=ordered, chunked=chunked
        )
        if chunks:
            self._send_map(result, f, chunks, chunked=chunked, block=block)
        return result.get() if block else result

    def _send_map(self, result: AsyncResult, f: Callable[..., Any], chunks: list[Any], *, chunked: bool, block: bool) -> None:
        """Submit the tasks in batches; one that is large goes alone, as a stream."""
        name = name_of(f)
        if not callable(f):
            raise TypeError(f"{f!r} is not callable")
        function = encode(f, INLINE_UP_TO, f"function {name}")
        heavy = (f,) if function.buffers else ()
        kind = "map" if chunked else "apply"
        batch: list[bytes] = []
        start, size = 0, 0
        limit = _FIRST_BATCH
        for i, chunk in enumerate(chunks):
            argument: Any = (list(zip(*chunk, strict=True)), *heavy) if chunked else (chunk, {}, *heavy)
            packed: Payload = encode(argument, INLINE_UP_TO, f"item {i} of the map of {name}")
            if packed.buffers or len(batch) >= limit or size > _BATCH_BYTES:
                if batch:
                    self._submit(result, start, kind, function.data, batch)
                    limit = _BATCH_TASKS
                batch, start, size = [], i, 0
            if packed.buffers:
                self._submit(result, i, kind, function.data, [b""], snapshot(packed.buffers, block=block))
                start = i + 1
            else:
                batch.append(packed.data)
                size += len(packed.data)
        if batch:
            self._submit(result, start, kind, function.data, batch)

    def imap(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        ordered: bool = True,
        max_outstanding: int | None = None,
    ) -> Iterator[Any]:
        """`map` over sequences of any length, infinite ones too: takes items only as fast as they are worked on.

        ``max_outstanding``
            items under way at a time; by default 4 for each engine, and at least 16.
        """
        if not sequences:
            raise TypeError("imap needs at least one sequence")
        window = max_outstanding if max_outstanding is not None else max(16, 4 * len(self._allowed() or self.client.ids))
        if window < 1:
            raise ValueError(f"max_outstanding must be at least 1, is {window}")
        return self._imap(f, zip(*sequences, strict=False), window, ordered=ordered)

    def _imap(self, f: Callable[..., Any], items: Iterator[tuple[Any, ...]], window: int, *, ordered: bool) -> Iterator[Any]:
        under_way: deque[AsyncResult] = deque()
        try:
            for item in itertools.islice(items, window):
                under_way.append(self.apply_async(f, *item))
            while under_way:
                result = under_way[0] if ordered else _first_done(under_way)
                under_way.remove(result)
                value = result.get()
                for item in itertools.islice(items, 1):
                    under_way.append(self.apply_async(f, *item))
                yield value
        finally:
            for result in under_way:  # the consumer stopped early, or a task failed
                if not result.done():
                    result.cancel()


def _first_done(results: Iterable[AsyncResult]) -> AsyncResult:
    from concurrent.futures import FIRST_COMPLETED, wait

    done, _ = wait(results, return_when=FIRST_COMPLETED)
    return next(r for r in results if r in done)
