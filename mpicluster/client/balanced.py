"""A view that leaves the choice of the engine to the hub."""

from __future__ import annotations

import itertools
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from mpicluster.client.feed import WINDOW, Feed
from mpicluster.client.flags import BALANCED, Flags, labelled
from mpicluster.client.html import view_html
from mpicluster.client.mapped import AsyncMapResult, LazyMapIterator
from mpicluster.client.result import AsyncResult
from mpicluster.client.view import View, check_callable, ended_by_ctrl_c, flag, name_of, snapshot, waited, zip_items
from mpicluster.config import INLINE_UP_TO
from mpicluster.ids import Targets, select
from mpicluster.serial.failure import Guarded
from mpicluster.serial.partition import join, split
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
    ``after``, ``follow``
        tasks that must have ended before, or that it must run where they ran: ids, results, a `Dependency`, or a list of them.
    ``timeout``, ``time_limit``
        seconds within which a task must have begun, and how many it may run.
    ``retries``
        how often a task that raised is tried again, on another engine first.
    ``priority``
        tasks of this client with a higher one go first.
    """

    flags_known = BALANCED

    after: Any = flag("after", "Tasks that must have ended before.")
    follow: Any = flag("follow", "Tasks of whose engines it must be.")
    timeout: Any = flag("timeout", "Seconds within which a task must have begun; None for no limit.")
    time_limit: Any = flag("time_limit", "Seconds that a task may run; None for no limit.")
    retries: Any = flag("retries", "How often a task that raised is tried again.")
    priority: Any = flag("priority", "Higher first.")

    def __init__(self, client: Client, targets: Targets = None, **flags: Any) -> None:
        super().__init__(client, targets, flags)

    def __repr__(self) -> str:
        return f"<LoadBalancedView {self.targets}>"

    def _repr_html_(self) -> str:
        return view_html(self, self.targets)

    def __len__(self) -> int:
        return len(self._allowed() or self.client.ids)

    def __bool__(self) -> bool:
        return True

    def _allowed(self, flags: Flags | None = None) -> list[int]:
        """Engines that a task may use now; empty for any."""
        targets = (self._flags_now() if flags is None else flags).targets
        return [] if targets is None else select(targets, self.client._live())

    def _submit(
        self,
        result: AsyncResult,
        slot: int,
        kind: str,
        fn: bytes,
        data: list[bytes],
        flags: Flags,
        buffers: Any = (),
        feed: Feed | None = None,
    ) -> None:
        self.client._submit(
            result,
            slot,
            kind,
            targets=None,
            allowed=self._allowed(flags),
            data=data,
            fn=fn,
            buffers=buffers,
            retries=flags.retries,
            terms=flags.terms,
            feed=feed,
        )

    def _apply(
        self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], flags: Flags | None = None, *, block: bool
    ) -> AsyncResult:
        flags = self._flags_now() if flags is None else flags
        fn, argument = self._pack_call(f, args, kwargs, INLINE_UP_TO)
        return self._submit_call(name_of(f), fn, argument, flags, block=block)

    def _submit_call(self, name: str, fn: bytes, argument: Payload, flags: Flags, *, block: bool) -> AsyncResult:
        result = AsyncResult(self.client, name, 1, single=True)
        result._made_by(self, flags)
        self._submit(result, 0, "apply", fn, [argument.data], flags, snapshot(argument.buffers, block=block))
        return result

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        block: bool | None = None,
        chunksize: int = 1,
        ordered: bool = True,
        return_exceptions: bool = False,
        label: str | None = None,
    ) -> Any:
        """``map(f, *sequences)``: a list if this view blocks, else an `AsyncMapResult`, which can be iterated over as results come.

        Parameters
        ----------
        chunksize
            items in one task.
        ordered
            whether iteration gives results in the order of the items, or as they come.
        return_exceptions
            whether an item that fails gives its exception for a value, and the others go on. With ``retries``, a task of several items that
            failed for the last time gives its exception for each of them.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, is {chunksize}")
        flags = labelled(self._flags_now(), label)
        block = flags.block if block is None else bool(block)
        return self._map(f, sequences, "b", flags, block=block, ordered=ordered, return_exceptions=return_exceptions, chunksize=chunksize)

    def _map(
        self,
        f: Callable[..., Any],
        sequences: tuple[Iterable[Any], ...],
        dist: str,
        flags: Flags,
        *,
        block: bool,
        ordered: bool = True,
        return_exceptions: bool = False,
        chunksize: int | None = None,
    ) -> Any:
        """`map`, with these flags; tasks are not distributed, so ``dist`` is for direct views."""
        check_callable(f)
        size = chunksize or 1
        count, items = zip_items(sequences)
        chunked = size > 1
        chunks: Iterable[Any] = iter(lambda: list(itertools.islice(items, size)), []) if chunked else items
        sizes: Sequence[int] = array("b", b"\1") * count
        if chunked:
            sizes = [size] * (count // size) + ([count % size] if count % size else [])
        result = AsyncMapResult(self.client, name_of(f), sizes, ordered=ordered, chunked=chunked)
        result._made_by(self, flags)
        result._return_exceptions = return_exceptions
        if count:
            guarded = return_exceptions and chunked and not flags.retries
            with ended_by_ctrl_c(result) if block else nullcontext():  # a long map is sent as it is worked on
                self._send_map(result, Guarded(f) if guarded else f, chunks, flags, chunked=chunked, block=block)
        return waited(result, bar=True) if block else result

    def _call_parts(
        self,
        f: Callable[..., Any],
        sequences: Sequence[Any],
        dist: str,
        flags: Flags,
        *,
        block: bool,
        ordered: bool,
        return_exceptions: bool,
        chunksize: int | None,
    ) -> Any:
        """Call ``f`` with parts of sequences of one length, each a task, and put what they give together."""
        length = len(sequences[0])
        count = -(-length // (chunksize or 1))
        parts = list(zip(*(split(s, max(1, count), dist) for s in sequences), strict=True))
        parts = [part for part in parts if len(part[0])] or parts[:1]
        sizes = [len(part[0]) for part in parts]
        result = AsyncMapResult(
            self.client, name_of(f), sizes, ordered=ordered, chunked=True, dist=dist, assemble=lambda values: join(values, dist)
        )
        result._made_by(self, flags)
        result._return_exceptions = return_exceptions
        self._send_map(result, f, parts, flags, chunked=False, block=block)
        return waited(result, bar=True) if block else result

    def _send_map(
        self, result: AsyncResult, f: Callable[..., Any], chunks: Iterable[Any], flags: Flags, *, chunked: bool, block: bool
    ) -> None:
        """Submit the tasks in batches; one that is large goes alone, as a stream. Of very many, no more than the hub has room for."""
        name = name_of(f)
        function = encode(f, INLINE_UP_TO, f"function {name}")
        heavy = (f,) if function.buffers else ()
        kind = "map" if chunked else "apply"
        batch: list[bytes] = []
        start, size = 0, 0
        limit = _FIRST_BATCH
        if result.slots > WINDOW:
            result._feed = Feed(self.client._connection.say_packed, result._fail)

        def send(batch: list[bytes]) -> None:
            feed = result._feed
            if feed is not None and block:
                self.client._wait_until(lambda: feed.room or result._ended is not None, result._arrival, None)
            self._submit(result, start, kind, function.data, batch, flags, feed=feed)

        for i, chunk in enumerate(chunks):
            argument: Any = (list(zip(*chunk, strict=True)), *heavy) if chunked else (chunk, {}, *heavy)
            packed: Payload = encode(argument, INLINE_UP_TO, f"item {i} of the map of {name}")
            if packed.buffers or len(batch) >= limit or size > _BATCH_BYTES:
                if batch:
                    send(batch)
                    limit = _BATCH_TASKS
                batch, start, size = [], i, 0
            if packed.buffers:
                self._submit(result, i, kind, function.data, [b""], flags, snapshot(packed.buffers, block=block))
                start = i + 1
            else:
                batch.append(packed.data)
                size += len(packed.data)
        if batch:
            send(batch)

    def imap(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        ordered: bool = True,
        max_outstanding: int | str | None = "auto",
        return_exceptions: bool = False,
        label: str | None = None,
    ) -> LazyMapIterator:
        """`map` over sequences of any length, infinite ones too: takes items only as fast as they are worked on.

        Parameters
        ----------
        ordered
            whether results come in the order of the items, or as they come.
        max_outstanding
            items under way at a time; ``"auto"``: 4 for each engine, and at least 16; 0: all, at once.
        return_exceptions
            whether an item that fails gives its exception for a value, and the others go on.
        """
        if not sequences:
            raise TypeError("imap needs at least one sequence")
        check_callable(f)
        flags = labelled(self._flags_now(), label)
        if max_outstanding is None or max_outstanding == "auto":
            window: int | None = max(16, 4 * len(self._allowed(flags) or self.client.ids))
        elif isinstance(max_outstanding, int) and max_outstanding >= 0:
            window = max_outstanding or None
        else:
            raise ValueError(f"max_outstanding must be 'auto', 0 for no limit, or a number of items, is {max_outstanding!r}")
        stop = threading.Event()
        items = itertools.takewhile(lambda _: not stop.is_set(), zip(*sequences, strict=False))
        return LazyMapIterator(self._imap(f, items, window, flags, ordered=ordered, return_exceptions=return_exceptions), stop.set)

    def _imap(
        self,
        f: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        window: int | None,
        flags: Flags,
        *,
        ordered: bool,
        return_exceptions: bool,
    ) -> Iterator[Any]:
        name = name_of(f)
        function = encode(f, INLINE_UP_TO, f"function {name}")
        heavy = (f,) if function.buffers else ()

        def submit(item: tuple[Any, ...]) -> AsyncResult:
            argument = encode((item, {}, *heavy), INLINE_UP_TO, f"an item of the map of {name}")
            return self._submit_call(name, function.data, argument, flags, block=False)

        under_way: deque[AsyncResult] = deque()
        try:
            under_way.extend(map(submit, itertools.islice(items, window)))
            while under_way:
                result = under_way[0] if ordered else _first_done(under_way)
                under_way.remove(result)
                value = result.get(return_exceptions=return_exceptions)
                under_way.extend(map(submit, itertools.islice(items, 1)))
                yield value
        finally:
            for result in under_way:  # the consumer stopped early, or a task failed
                if not result.done():
                    result.cancel()

    def register_joblib_backend(self, name: str = "mpicluster", make_default: bool = False) -> None:
        """Let joblib run on the engines of this view: ``with joblib.parallel_config(backend=name): ...``.

        Raises
        ------
        ImportError
            joblib is not installed, or too old.
        """
        from mpicluster.client.joblib_backend import register

        register(name, lambda: self, make_default=make_default)


def _first_done(results: Iterable[AsyncResult]) -> AsyncResult:
    from concurrent.futures import FIRST_COMPLETED, wait

    done, _ = wait(results, return_when=FIRST_COMPLETED)
    return next(r for r in results if r in done)
