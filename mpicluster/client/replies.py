"""Replies of many slots, compactly: what a small task gives takes a tenth of the memory of the objects that tell it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Protocol

from mpicluster.client.reply import Reply
from mpicluster.wire import messages as m

__all__ = ["Replies", "replies"]

#: From so many slots on they are kept compactly.
_MANY = 1024
_MISSING, _ODD = -1, -2


class Replies(Protocol):
    """A list of replies, None where there is none yet."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Reply | None]: ...
    def __getitem__(self, slot: int, /) -> Reply | None: ...
    def __setitem__(self, slot: int, reply: Reply, /) -> None: ...


def replies(slots: int) -> Replies:
    """For so many slots, all empty."""
    empty: list[Reply | None] = [None] * slots
    return empty if slots < _MANY else _Compact(slots)


class _Compact:
    """Columns of numbers, and the values one after another; what does not fit in is kept as it is."""

    def __init__(self, slots: int) -> None:
        self._values = bytearray()
        #: where each value begins, or why there is none; and where it ends
        self._begins = array("q", [_MISSING]) * slots
        self._sizes = array("i", [0]) * slots
        self._engines = array("i", [0]) * slots
        #: when it began, and how long after that it was completed, and received
        self._started = array("d", [0.0]) * slots
        self._took, self._came = array("f", [0.0]) * slots, array("f", [0.0]) * slots
        self._odd: dict[int, Reply] = {}

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, slot: int, /) -> Reply | None:
        begin = self._begins[slot]
        if begin < 0:
            return None if begin == _MISSING else self._odd[slot if slot >= 0 else slot + len(self)]
        data = bytes(self._values[begin : begin + self._sizes[slot]])
        started = self._started[slot]
        message = m.Result(0, self._engines[slot], m.OK, data, [], started, started + self._took[slot])
        return Reply(message, (), started + self._came[slot])

    def __setitem__(self, slot: int, reply: Reply, /) -> None:
        message = reply.message
        if message.outcome != m.OK or message.sizes or message.output or reply.buffers:
            self._odd[slot] = reply
            self._begins[slot] = _ODD
            return
        begin = len(self._values)
        self._values += message.data
        self._sizes[slot] = len(message.data)
        self._engines[slot] = message.engine
        started = self._started[slot] = message.started
        self._took[slot], self._came[slot] = message.completed - started, reply.received - started
        self._begins[slot] = begin

    def __iter__(self) -> Iterator[Reply | None]:
        return (self[slot] for slot in range(len(self)))
