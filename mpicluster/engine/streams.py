"""Bulk payloads on their way to and from this engine. Owned by the control thread, so that data moves while user code runs.

One lock guards both tables; the main thread waits on its condition for a payload to be complete.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpicluster.config import CHUNK, WINDOW
from mpicluster.serial.payload import Buffer

__all__ = ["Incoming", "PayloadLost", "Streams"]


class PayloadLost(RuntimeError):
    """The sender left before its payload was complete."""


class Incoming:
    """A payload being received into buffers of known sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.buffers: list[Any] = [np.empty(size, np.uint8) for size in sizes]
        self.starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self.total = sum(sizes)
        self.received = 0
        self.credited = 0
        self.lost: str | None = None

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes where they belong; a chunk may span buffers. They must lie within the payload."""
        if offset < 0 or offset + data.nbytes > self.total:
            raise ValueError("a chunk outside its payload")
        source = np.frombuffer(data, np.uint8)
        for start, buffer in zip(self.starts, self.buffers, strict=True):
            low, high = max(offset, start), min(offset + source.size, start + buffer.size)
            if low < high:
                buffer[low - start : high - start] = source[low - offset : high - offset]
        self.received += source.size

    @property
    def complete(self) -> bool:
        return self.received >= self.total


class Outgoing:
    """A payload being sent, as far as the receiver allowed."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.views = [memoryview(b).cast("B") for b in buffers]
        self.position = 0
        self.total = sum(v.nbytes for v in self.views)
        self.credit = 0
        self._index = 0
        self._within = 0

    def next_chunk(self) -> tuple[int, memoryview] | None:
        """Offset and bytes of the next chunk, None when all is sent or credit is used up."""
        while self._index < len(self.views) and self._within >= self.views[self._index].nbytes:
            self._index, self._within = self._index + 1, 0
        if self._index == len(self.views) or self.credit <= 0:
            return None
        view = self.views[self._index][self._within : self._within + CHUNK]
        offset = self.position
        self._within += view.nbytes
        self.position += view.nbytes
        self.credit -= view.nbytes
        return offset, view

    @property
    def complete(self) -> bool:
        return self.position >= self.total


class Streams:
    """All payloads under way, by assignment."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._incoming: dict[int, Incoming] = {}
        self._outgoing: dict[int, Outgoing] = {}

    # -- control thread ----------------------------------------------------------------------------------------------

    def expect(self, seq: int, sizes: Sequence[int]) -> int:
        """Make room for a payload; returns the bytes to allow at first."""
        try:
            incoming = Incoming(sizes)
        except (MemoryError, ValueError) as e:
            incoming = Incoming([])
            incoming.lost = f"no memory for a payload of {sum(sizes)} bytes: {e}"
        with self._changed:
            self._incoming[seq] = incoming
            incoming.credited = min(WINDOW, incoming.total)
            self._changed.notify_all()
            return incoming.credited

    def receive(self, seq: int, offset: int, data: memoryview) -> int:
        """Take a chunk; returns the bytes to allow further (0: none now)."""
        with self._changed:
            incoming = self._incoming.get(seq)
        if incoming is None:
            return 0
        incoming.write(offset, data)
        if incoming.complete:
            with self._changed:
                self._changed.notify_all()
            return 0
        ahead = incoming.credited - incoming.received
        if ahead > WINDOW // 2:
            return 0
        more = min(WINDOW - ahead, incoming.total - incoming.credited)
        incoming.credited += more
        return more

    def give_up(self, seq: int) -> None:
        """The other side left: nothing more will come, or is wanted."""
        with self._changed:
            self._outgoing.pop(seq, None)
            incoming = self._incoming.get(seq)
            if incoming is not None and not incoming.complete:
                incoming.lost = "the client left before its data was complete"
                self._changed.notify_all()

    def send(self, seq: int, nbytes: int, put: Callable[[int, memoryview], None]) -> None:
        """The client allows ``nbytes`` more: ``put`` what may go."""
        with self._changed:
            outgoing = self._outgoing.get(seq)
        if outgoing is None:
            return
        outgoing.credit += nbytes
        while (chunk := outgoing.next_chunk()) is not None:
            put(*chunk)
        if outgoing.complete:
            with self._changed:
                self._outgoing.pop(seq, None)

    # -- main thread -------------------------------------------------------------------------------------------------

    def take(self, seq: int) -> list[Any]:
        """The buffers of a payload, when it is complete. Waits until then; the control thread ends the wait.

        Raises
        ------
        PayloadLost
            it will never be.
        """
        with self._changed:
            self._changed.wait_for(lambda: seq in self._incoming and (self._incoming[seq].complete or self._incoming[seq].lost is not None))
            incoming = self._incoming.pop(seq)
        if incoming.lost is not None:
            raise PayloadLost(incoming.lost)
        return incoming.buffers

    def drop(self, seq: int) -> None:
        """An assignment was withdrawn, its payload with it."""
        with self._changed:
            self._incoming.pop(seq, None)

    def offer(self, seq: int, buffers: Sequence[Buffer]) -> None:
        """Have a result sent as the client asks for it."""
        with self._changed:
            self._outgoing[seq] = Outgoing(buffers)
