"""Large payloads on their way between a client and engines: how much of each was sent, or has come.

What is sent and received is the listening thread's; what a call offers is under the client's guard.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from mpicluster.client.connection import Connection
from mpicluster.serial.bulk import Incoming, Outgoing
from mpicluster.serial.payload import Buffer
from mpicluster.serial.ring import Reader, Ring
from mpicluster.wire import messages as m

__all__ = ["Transfers"]

#: A payload that does not move for so long is not waited for at the end: one that nobody has asked for, and one that is on its way.
_UNASKED, _STALLED = 1.0, 10.0


class Transfers:
    """Those of one client.

    ``shares``
        whether chunks may go through shared memory to and from processes of this host.
    """

    def __init__(self, guard: threading.Lock, *, shares: bool) -> None:
        self._guard = guard
        self._shares = shares
        #: held while a chunk has been counted as sent and is not yet
        self._handing_out = threading.Lock()
        #: by task: the engine that gets it (-1: none has asked), the whole, and how far it is
        self._uploads: dict[int, tuple[int, Sequence[Buffer], Outgoing]] = {}
        self._downloads: dict[tuple[int, int], tuple[m.Result, Incoming]] = {}
        #: shared memory through which chunks go to engines of this host, and that of engines
        self._ring = Ring.make() if shares else None
        self._readers: dict[bytes, Reader | None] = {}

    @property
    def place(self) -> m.RingPlace | None:
        """Where engines of this host find the shared memory."""
        return m.RingPlace(*self._ring.place) if self._ring is not None else None

    @property
    def receiving(self) -> bool:
        """Whether large results are on their way."""
        return bool(self._downloads)

    # -- under the client's guard ------------------------------------------------------------------------------------

    def offer(self, task: int, buffers: Sequence[Buffer]) -> None:
        """A task's payload, for the engine that asks for it."""
        self._uploads[task] = (-1, buffers, Outgoing(buffers))

    def take_back(self, task: int) -> None:
        """It is not needed any more."""
        self._uploads.pop(task, None)

    def forget(self, task: int) -> None:
        """The task is over."""
        self._uploads.pop(task, None)
        for key in [k for k in self._downloads if k[0] == task]:
            del self._downloads[key]  # of an engine that died while it sent

    def clear(self) -> None:
        """Nothing more is sent, or comes."""
        self._uploads.clear()
        self._downloads.clear()

    # -- the listening thread ----------------------------------------------------------------------------------------

    def expect(self, message: m.Result, connection: Connection) -> m.Result | None:
        """A large result will come; what there is to deliver instead if it does not fit into memory."""
        try:
            incoming = Incoming(message.sizes)
        except (MemoryError, ValueError) as e:
            connection.say([m.Credit(message.task, message.engine, -1)])
            why = f"no memory here for a result of {sum(message.sizes)} bytes: {e}".encode()
            return m.Result(message.task, message.engine, m.LOST, why, [], message.started, message.completed)
        self._downloads[message.task, message.engine] = (message, incoming)
        shared = message.ring is not None and self._reader(message.ring) is not None
        connection.say([m.Credit(message.task, message.engine, incoming.more(), int(shared))])
        return None

    def end(self, message: m.Result) -> None:
        """A result that is not large has come in the place of one that was to be."""
        self._downloads.pop((message.task, message.engine), None)

    def receive(self, message: m.Chunk, frame: Any, connection: Connection) -> tuple[m.Result, Sequence[Any]] | None:
        """A part of a large result has come: the result and its buffers, if that was the last."""
        download = self._downloads.get((message.name, message.engine))
        if download is None:
            return None
        result, incoming = download
        if frame is not None:
            incoming.write(message.offset, frame)
        elif result.ring is not None and (reader := self._reader(result.ring)) is not None:
            incoming.write(message.offset, reader.view(message.slot, message.nbytes))
            reader.release(message.slot, message.use)
        if incoming.complete:
            self._downloads.pop((message.name, message.engine), None)
            return result, incoming.buffers
        more = incoming.more()
        if more:
            connection.say([m.Credit(message.name, message.engine, more, int(frame is None))])
        return None

    def _reader(self, place: m.RingPlace) -> Reader | None:
        """The ring of an engine; None where it cannot be opened."""
        if not self._shares:
            return None
        if place.token not in self._readers:
            try:
                self._readers[place.token] = Reader(place.pid, place.fd, place.token)
            except (OSError, ValueError):
                self._readers[place.token] = None  # another host, or another container
        return self._readers[place.token]

    def send(self, message: m.Credit, connection: Connection) -> None:
        """An engine asks for more of a payload."""
        upload = self._uploads.get(message.name)
        if upload is None:
            return
        engine, buffers, outgoing = upload
        if engine != message.engine:  # the first, or another engine than before
            outgoing = outgoing if engine == -1 else Outgoing(buffers)
            self._uploads[message.name] = (message.engine, buffers, outgoing)
        outgoing.credit += message.nbytes
        if message.ring and self._ring is not None:
            uploads = self._uploads
            self._ring.reclaim(lambda owner: uploads.get(owner[0], (None,))[0] != owner[1])
        with self._handing_out:
            while (chunk := outgoing.next_chunk()) is not None:
                offset, view = chunk
                place = self._ring.put(view, (message.name, message.engine)) if message.ring and self._ring is not None else None
                if place is None:
                    connection.say([m.Chunk(message.name, message.engine, offset)], view)
                else:
                    connection.say([m.Chunk(message.name, message.engine, offset, *place, view.nbytes)])

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self, lost: Callable[[], bool]) -> None:
        """Wait until all that was asked for is sent, or the hub is ``lost()``; no longer than `_UNASKED` or `_STALLED` without progress."""
        before, stalls_at = -1, math.inf
        while not lost():
            with self._handing_out, self._guard:  # what is counted as sent is sent
                under_way = [outgoing for _, _, outgoing in self._uploads.values() if not outgoing.complete]
                position = sum(outgoing.position for _, _, outgoing in self._uploads.values())
            if not under_way or time.monotonic() >= stalls_at:
                return
            if position != before:
                moving = any(outgoing.position or outgoing.credit for outgoing in under_way)
                before, stalls_at = position, time.monotonic() + (_STALLED if moving else _UNASKED)
            time.sleep(0.002)

    def release(self) -> None:
        """Give the shared memory back."""
        self._ring, self._readers = None, {}
