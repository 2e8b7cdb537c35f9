"""Bulk payloads on their way to and from this engine. Owned by the control thread, so that data moves while user code runs.

One lock guards both tables; the main thread waits on its condition for a payload to be complete.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from mpicluster.serial.bulk import Incoming, Outgoing
from mpicluster.serial.payload import Buffer

__all__ = ["PayloadLost", "Streams"]


class PayloadLost(RuntimeError):
    """The sender left before its payload was complete."""


class Streams:
    """All payloads under way, by assignment."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._incoming: dict[int, Incoming] = {}
        self._outgoing: dict[int, Outgoing] = {}
        #: the newest assignment whose payload is not wanted any more
        self._past = 0

    # -- control thread ----------------------------------------------------------------------------------------------

    def expect(self, seq: int, sizes: Sequence[int]) -> int:
        """Make room for a payload; returns the bytes to allow at first."""
        try:
            incoming = Incoming(sizes)
        except (MemoryError, ValueError) as e:
            incoming = Incoming([])
            incoming.lost = f"no memory for a payload of {sum(sizes)} bytes: {e}"
        with self._changed:
            if seq <= self._past:
                return 0  # the main thread was faster, and has failed or passed it over
            self._incoming[seq] = incoming
            first = incoming.more()
            self._changed.notify_all()
            return first

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
        return incoming.more()

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
        """An assignment has ended or was withdrawn, its payload with it. Called in the order of the assignments."""
        with self._changed:
            self._past = seq
            self._incoming.pop(seq, None)

    def offer(self, seq: int, buffers: Sequence[Buffer]) -> None:
        """Have a result sent as the client asks for it."""
        with self._changed:
            self._outgoing[seq] = Outgoing(buffers)
