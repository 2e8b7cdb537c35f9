"""Clients that may come back after their connection dropped. What was said to them, and may not have arrived, is kept. Pure.

Both ends number what they say, in the order in which it is said, from one connection to the next. Each tells the other now and then how
much it has heard, and first of all when the client is back: what is beyond that is said again. So nothing is lost, and nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpicluster.wire.log import Log

__all__ = ["Lasting", "address_of"]


def address_of(identity: bytes) -> bytes:
    """How the scheduler knows the client of a connection. Those after the first are named ``CLIENT#NUMBER``, and what it is for."""
    return identity[:-1].partition(b"#")[0] + b"r"


class _Session:
    """One client's."""

    def __init__(self, identity: bytes, within: float) -> None:
        #: of the connection on which it listens
        self.identity = identity
        self.log = Log()
        #: how long it may be away, seconds
        self.within = within
        #: envelopes of the client's that were taken
        self.taken = 0
        #: since when it is away
        self.away: float | None = None


class Lasting:
    """All of them, by their address. So many bytes may wait for one that is away."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._sessions: dict[bytes, _Session] = {}

    def __contains__(self, address: bytes) -> bool:
        return address in self._sessions

    def begin(self, identity: bytes, within: float) -> None:
        """A client is there that may come back within so many seconds."""
        self._sessions[address_of(identity)] = _Session(identity, within)

    def back(self, identity: bytes, heard: int) -> tuple[int, Log] | None:
        """It is back, having heard so much: how much was heard of it, and what is to be said again. None if it is not known any more."""
        session = self._sessions.get(address_of(identity))
        if session is None:
            return None
        session.identity, session.away = identity, None
        session.log.forget(heard)
        return session.taken, session.log

    def listener(self, address: bytes) -> bytes:
        """The connection on which a client listens, or listened last."""
        return self._sessions[address].identity

    def take(self, identity: bytes) -> int | None:
        """An envelope has come: how many, now. None if it was said on an earlier connection, for it is said again."""
        session = self._sessions[address_of(identity)]
        if session.identity[:-1] != identity[:-1]:
            return None
        session.taken += 1
        return session.taken

    def heard(self, address: bytes, count: int) -> None:
        """The client has heard so many."""
        if (session := self._sessions.get(address)) is not None:
            session.log.forget(count)

    def say(self, address: bytes, parts: Sequence[Any]) -> bytes | None:
        """An envelope for a client: the connection on which to say it now, if there is one."""
        session = self._sessions.get(address)
        if session is None:
            return address
        session.log.add(*parts)
        return None if session.away is not None else session.identity

    def gone(self, identity: bytes, now: float) -> bool:
        """A connection ended. Whether its client may come back, or is back on another one already."""
        session = self._sessions.get(address_of(identity))
        if session is not None and session.identity == identity:
            session.away = now
        return session is not None

    def over(self, now: float) -> list[bytes]:
        """Forget those that were away for too long, or for which too much waits."""
        found = [
            address
            for address, s in self._sessions.items()
            if s.away is not None and (now >= s.away + s.within or s.log.nbytes > self._nbytes)
        ]
        for address in found:
            del self._sessions[address]
        return found

    def forget(self, address: bytes) -> None:
        """A client has left."""
        self._sessions.pop(address, None)

    def away(self) -> set[bytes]:
        """Those that are away."""
        return {address for address, s in self._sessions.items() if s.away is not None}

    def wake_at(self) -> float | None:
        """When `over` should be asked next."""
        return min((s.away + s.within for s in self._sessions.values() if s.away is not None), default=None)
