"""Bulk payloads on their way through the hub: each chunk and each credit is passed on under the receiver's name. Pure."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING

from mpicluster.config import CHUNK
from mpicluster.errors import ProtocolError
from mpicluster.hub.records import ClientRecord, EngineRecord, Send, State
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.hub.scheduler import Scheduler

__all__ = ["Relay"]


class Relay:
    """Passes on pieces of payloads between clients and engines, as far as the receiver has allowed."""

    def __init__(self, hub: Scheduler) -> None:
        self._hub = hub

    def from_client(self, client: ClientRecord, message: m.Chunk | m.Credit, frame: Sized | None) -> None:
        """A client sends a piece of what it submitted, or asks for more of a result."""
        if isinstance(message, m.Chunk):
            part = next((p for p in client.parts.get(message.name, ()) if p.index == 0 or p.balanced), None)
            engine = self._hub.engines.get(message.engine)
            if part is None or engine is None or part.engine != message.engine:
                return  # too late: its task has ended, or moved
            if not 0 <= message.offset <= sum(part.job.submit.sizes) - _size(message, frame):
                raise ProtocolError("a chunk outside its payload")
            self._hub.out.append(Send(engine.control, _renamed(message, part.seq), frame))
            return
        part = next((p for p in client.parts.get(message.name, ()) if p.engine == message.engine), None)
        engine = self._hub.engines.get(message.engine)
        if part is None or engine is None or part.state is not State.DELIVERING:
            return
        reader = part.job.client.number if message.ring else 0
        if reader:
            engine.readers.add(reader)
        self._hub.out.append(Send(engine.control, m.Credit(part.seq, message.engine, message.nbytes, reader)))
        if message.nbytes < 0:
            del engine.delivering[part.seq]
            self._hub.close_part(part, m.OK)

    def from_engine(self, engine: EngineRecord, message: m.Chunk | m.Credit, frame: Sized | None) -> None:
        """An engine sends a piece of a result, or asks for more of a payload."""
        if isinstance(message, m.Credit):
            part = engine.parts.get(message.name)
            if part is not None:
                self._hub.tell(part.job.client, m.Credit(part.task, engine.info.id, message.nbytes, message.ring))
            return
        part = engine.delivering.get(message.name)
        if part is None:
            return
        size = _size(message, frame)
        self._hub.out.append(Send(part.job.client.address, _renamed(message, part.task), frame))
        part.remaining -= size
        if part.remaining <= 0:
            del engine.delivering[message.name]
            self._hub.close_part(part, m.OK)

    def client_left(self, client: ClientRecord) -> None:
        """No bulk payload comes from a client any more, nor goes there."""
        for engine in self._hub.engines.values():
            if client.number in engine.readers:
                engine.readers.discard(client.number)
                self._hub.out.append(Send(engine.control, m.ReaderGone(client.number)))
        for parts in list(client.parts.values()):
            for part in list(parts):
                streamed = bool(part.job.submit.sizes)
                if part.state is State.WAITING and streamed:
                    self._hub.end_part(part, m.ABORTED, b"")
                elif part.engine in self._hub.engines and (streamed or part.state is State.DELIVERING):
                    engine = self._hub.engines[part.engine]  # a payload that is complete is not given up by this
                    self._hub.out.append(Send(engine.control, m.Credit(part.seq, part.engine, -1)))
                    if part.state is State.DELIVERING:
                        engine.delivering.pop(part.seq, None)
                        self._hub.end_part(part, m.ABORTED, b"")


def _size(chunk: m.Chunk, frame: Sized | None) -> int:
    """Bytes of a chunk, wherever they are."""
    if (frame is None) == (chunk.slot < 0) or not 0 <= chunk.nbytes <= CHUNK:
        raise ProtocolError("a chunk has its bytes in a frame or in a slot")
    return chunk.nbytes if frame is None else len(frame)


def _renamed(chunk: m.Chunk, name: int) -> m.Chunk:
    return m.Chunk(name, chunk.engine, chunk.offset, chunk.slot, chunk.use, chunk.nbytes)
