"""Results of maps: one value for each item, while they come, and of maps without an end."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpicluster.client.reply import Reply
from mpicluster.client.result import AsyncResult
from mpicluster.serial.partition import join

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["AsyncMapResult", "LazyMapIterator"]


class AsyncMapResult(AsyncResult):
    """The results of a map: one for each item, iterable while they come.

    A slot is a chunk of items; ``len`` and ``progress`` count items.

    ``dist``
        how items were divided into chunks: ``"b"`` or ``"r"``. As they come, items are iterated over chunk by chunk.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        sizes: Sequence[int],
        *,
        ordered: bool,
        chunked: bool,
        dist: str = "b",
        assemble: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        super().__init__(client, name, len(sizes), single=False, assemble=assemble)
        self._sizes = sizes
        self._ordered = ordered
        self._chunked = chunked
        self._dist = dist
        #: slots as they came, if it is iterated over in that order
        self._order = array("q")
        self._progress, self._total = 0, sum(sizes)
        if not sizes:
            self.set_result(None)

    @property
    def ordered(self) -> bool:
        """Whether iteration keeps the order of the items."""
        return self._ordered

    def _fill(self, slot: int, reply: Reply) -> None:
        super()._fill(slot, reply)
        self._progress += self._sizes[slot]
        if not self._ordered:
            self._order.append(slot)

    def _put_together(self, values: list[Any]) -> Any:
        if self._assemble is not None:
            return self._assemble(values)
        if not self._chunked:
            return values
        return join(values, "r") if self._dist == "r" else [x for part in values for x in part]

    def _outcome(self, slot: int) -> Any:
        outcome = self._fate(slot)
        failed = isinstance(outcome, Exception) and self._chunked and self._assemble is None
        return [outcome] * self._sizes[slot] if failed else outcome

    def __len__(self) -> int:
        return self._total

    @property
    def progress(self) -> int:
        """How many of ``len(self)`` items are done."""
        return self._progress

    def __iter__(self) -> Iterator[Any]:
        """Each item's value: in the order of the items, or as they come when made with ``ordered=False``."""
        if self._whole:
            yield from self.result()
            return
        for k in range(len(self._replies)):
            if not self._has(k):
                self._client._wait_until(lambda: self._has(k), self._arrival, None)  # noqa: B023 - waited for here
            yield from self._values_at(k)

    @property
    def _whole(self) -> bool:
        """Whether values are in order only when all are there."""
        return self._assemble is not None or (self._dist == "r" and self._ordered and len(self._sizes) > 1)

    def _has(self, k: int) -> bool:
        if self._whole:
            return self.done()
        there = self._replies[k] is not None if self._ordered else len(self._order) > k
        return there or self._ended is not None

    def _values_at(self, k: int) -> Iterator[Any]:
        if self._whole:
            return iter(self.result()) if k == 0 else iter(())
        if not self._ordered and len(self._order) <= k:
            assert self._ended is not None
            raise self._ended
        return iter(self._take_slot(k if self._ordered else self._order[k], None))

    def _take_slot(self, slot: int, timeout: float | None) -> deque[Any]:
        """The values of a slot, when they are there."""
        value = self._value_of(slot, self._await_slot(slot, timeout))
        return deque(value if self._chunked else (value,))


class LazyMapIterator(Iterator[Any]):
    """The values of an `imap`, while they come."""

    def __init__(self, values: Iterator[Any], stop: Callable[[], None]) -> None:
        self._values = values
        self._stop = stop

    def __next__(self) -> Any:
        return next(self._values)

    def cancel(self) -> None:
        """Take no more items; what was submitted is done, and its values can still be had. From any thread."""
        self._stop()

    def close(self) -> None:
        """Take no more items, and take back what has not begun."""
        self._stop()
        close: Any = getattr(self._values, "close", None)
        if close is not None:
            close()
