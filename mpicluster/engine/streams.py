"""Bulk payloads on their way to and from this engine. Owned by the control thread, so that data moves while user code runs.

One lock guards both tables; the main thread waits on its condition for a payload to be complete.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from mpicluster.serial.bulk import Incoming, Outgoing
from mpicluster.serial.payload import Buffer
from mpicluster.serial.ring import Reader, Ring

__all__ = ["PayloadLost", "Streams"]

#: Rings of clients kept open; beyond, they are opened again for each payload.
_READERS_KEPT = 16


class PayloadLost(RuntimeError):
    """The sender left before its payload was complete."""


class Streams:
    """All payloads under way, by assignment."""

    def __init__(self) -> None:
        #: memory through which chunks go to clients of this host; None if this system has no such thing
        self.ring = Ring.make()
        #: rings of clients, by token, the one that was used last at the end
        self._readers: dict[bytes, Reader] = {}
        #: where the chunks of a payload may come from
        self._sources: dict[int, Reader] = {}
        self._changed = threading.Condition()
        self._incoming: dict[int, Incoming] = {}
        self._outgoing: dict[int, Outgoing] = {}
        #: the newest assignment whose payload is not wanted any more
        self._past = 0

    # -- control thread ----------------------------------------------------------------------------------------------

    def expect(self, seq: int, sizes: Sequence[int], place: tuple[int, int, bytes] | None = None) -> tuple[int, bool]:
        """Make room for a payload; returns the bytes to allow at first, and whether they may come through that ring."""
        reader = self._reader(place) if place is not None else None
        try:
            incoming = Incoming(sizes)
        except (MemoryError, ValueError) as e:
            incoming = Incoming([])
            incoming.lost = f"no memory for a payload of {sum(sizes)} bytes: {e}"
        with self._changed:
            if seq <= self._past:
                return 0, False  # the main thread was faster, and has failed or passed it over
            self._incoming[seq] = incoming
            if reader is not None:
                self._sources[seq] = reader
            first = incoming.more()
            self._changed.notify_all()
            return first, reader is not None

    def _reader(self, place: tuple[int, int, bytes]) -> Reader | None:
        """The ring of a client; None where it cannot be opened."""
        token = place[2]
        reader = self._readers.pop(token, None)
        if reader is None:
            try:
                reader = Reader(*place)
            except (OSError, ValueError):
                return None
        self._readers[token] = reader
        while len(self._readers) > _READERS_KEPT:
            del self._readers[next(iter(self._readers))]  # closed when the last payload from there is complete
        return reader

    def receive_from_ring(self, seq: int, offset: int, slot: int, use: int, nbytes: int) -> int:
        """`receive` a chunk that lies in its client's ring."""
        with self._changed:
            reader = self._sources.get(seq)
        if reader is None:
            return 0
        try:
            chunk = reader.view(slot, nbytes)
        except ValueError:
            return 0  # a client that breaks the rules waits for itself
        more = self.receive(seq, offset, chunk)
        reader.release(slot, use)
        return more

    def receive(self, seq: int, offset: int, data: memoryview) -> int:
        """Take a chunk; returns the bytes to allow further (0: none now)."""
        with self._changed:
            incoming = self._incoming.get(seq)
        if incoming is None or incoming.lost is not None:
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

    def send(self, seq: int, nbytes: int, reader: int, put: Callable[[int, memoryview | tuple[int, int, int]], None]) -> None:
        """The client allows ``nbytes`` more: ``put(offset, chunk)`` what may go.

        ``reader``: which client reads from the ring (0: it cannot); a chunk there is its slot, the number of the use, and its size.
        """
        with self._changed:
            outgoing = self._outgoing.get(seq)
        if outgoing is None:
            return
        outgoing.credit += nbytes
        while (chunk := outgoing.next_chunk()) is not None:
            offset, view = chunk
            place = self.ring.put(view, reader) if self.ring is not None and reader else None
            put(offset, view if place is None else (*place, view.nbytes))
        if outgoing.complete:
            with self._changed:
                self._outgoing.pop(seq, None)

    def reader_gone(self, reader: int) -> None:
        """A client has gone: what it did not release is free."""
        if self.ring is not None:
            self.ring.reclaim(lambda owner: owner == reader)

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
            self._sources.pop(seq, None)
        if incoming.lost is not None:
            raise PayloadLost(incoming.lost)
        return incoming.buffers

    def drop(self, seq: int) -> None:
        """An assignment has ended or was withdrawn, its payload with it. Called in the order of the assignments."""
        with self._changed:
            self._past = seq
            self._incoming.pop(seq, None)
            self._sources.pop(seq, None)

    def offer(self, seq: int, buffers: Sequence[Buffer]) -> None:
        """Have a result sent as the client asks for it."""
        with self._changed:
            self._outgoing[seq] = Outgoing(buffers)
