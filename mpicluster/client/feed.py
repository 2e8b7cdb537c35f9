"""A map of very many tasks: the hub gets them as fast as they are worked on, so that its memory stays flat."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["WINDOW", "Batch", "Feed"]

#: Tasks of one map that the hub has at a time: a second's work of very short ones.
WINDOW = 32 * 1024

#: feeds that have something left, which is sent also if nobody waits for the results
_under_way: set[Feed] = set()


class Batch(NamedTuple):
    """Tasks to be sent together."""

    first: int
    tasks: int
    #: what is sent, packed
    head: bytes


class Feed:
    """Batches that wait until the hub has room. ``send(head)`` sends one; ``fail(error)`` is told if it cannot."""

    def __init__(self, send: Callable[[bytes], None], fail: Callable[[Exception], None]) -> None:
        self._send, self._fail = send, fail
        #: guards what follows; whoever sends holds it, so that batches go in their order
        self._lock = threading.Lock()
        self._waiting: deque[Batch] = deque()
        #: tasks sent, and answered
        self._sent = self._answered = 0

    def put(self, batch: Batch) -> None:
        """Send tasks, at once or when there is room."""
        with self._lock:
            self._waiting.append(batch)
            _under_way.add(self)
        self.go_on(self._answered)

    @property
    def room(self) -> bool:
        """Whether a batch would be sent at once."""
        return not self._waiting and self._sent - self._answered < WINDOW

    def go_on(self, answered: int) -> None:
        """So many tasks have been answered: send what there is room for."""
        self._answered = max(self._answered, answered)
        while self._waiting and self._sent - self._answered < WINDOW:
            with self._lock:
                if self._waiting:
                    self._send_one()

    def flush(self) -> None:
        """Send all that is left: something depends on it, or the client leaves."""
        with self._lock:
            while self._waiting:
                self._send_one()

    def _send_one(self) -> None:
        batch = self._waiting.popleft()
        self._sent += batch.tasks
        if not self._waiting:
            _under_way.discard(self)
        try:
            self._send(batch.head)
        except Exception as e:  # noqa: BLE001 - told to who waits for the results, which may be elsewhere
            self._waiting.clear()
            _under_way.discard(self)
            self._fail(e)

    def drop(self, tasks: set[int]) -> list[int]:
        """Those of these tasks that were not sent, and will not be. If some of a batch are to stay, it is sent instead."""
        dropped: list[int] = []
        with self._lock:
            kept: deque[Batch] = deque()
            split = False
            for batch in self._waiting:
                numbers = range(batch.first, batch.first + batch.tasks)
                if tasks.issuperset(numbers):
                    dropped.extend(numbers)
                else:
                    kept.append(batch)
                    split = split or not tasks.isdisjoint(numbers)
            self._waiting = kept
            if not kept:
                _under_way.discard(self)
        if split:
            self.flush()
        return dropped
