"""Waits for several ZMQ sockets and file descriptors with one system call.

``zmq_poll`` asks every socket before and after it sleeps, which costs more than all else that the hub does for a small
message. A socket's ``ZMQ_FD`` tells an ``epoll`` only that *something* happened, and using the socket may swallow what it
told; so each socket that was used since is asked once before the next sleep (see zmq_getsockopt(3), ZMQ_FD).
"""

from __future__ import annotations

import math
import select
import struct
from typing import Any

import zmq

__all__ = ["Selector", "Source", "monitored"]

#: The option as an enum, the flag as a number: pyzmq takes each of these faster than the other.
_EVENTS, _IN = zmq.EVENTS, int(zmq.POLLIN)


#: An event's number and its value, as zmq_socket_monitor(3) lays them out.
_EVENT = struct.Struct("=Hi")


def monitored(monitor: Any, flags: int = 0) -> tuple[int, int]:
    """The next event of a socket's monitor, and its value. pyzmq's own reader loads asyncio, a tenth of an engine's start."""
    event, _address = monitor.recv_multipart(flags)
    number, value = _EVENT.unpack(event)
    return number, value


class Source:
    """A socket or a descriptor that is waited for."""

    __slots__ = ("descriptor", "pending", "socket")

    def __init__(self, socket: Any, descriptor: int) -> None:
        #: the ZMQ socket; None for a plain descriptor
        self.socket = socket
        self.descriptor = descriptor
        #: whether it is to be asked before the next sleep
        self.pending = False

    def readable(self) -> bool:
        """Whether a message waits on the socket, now."""
        return bool(self.socket.getsockopt(_EVENTS) & _IN)


class Selector:
    """One thread's waiting place."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._pending: list[Source] = []

    def register(self, what: Any) -> Source:
        """Wait for a ZMQ socket, or a file descriptor, to be readable from now on."""
        source = Source(None, what) if isinstance(what, int) else Source(what, what.getsockopt(zmq.FD))
        self._sources[source.descriptor] = source
        self._epoll.register(source.descriptor, select.EPOLLIN)
        if source.socket is not None:
            self.used(source)
        return source

    def unregister(self, source: Source) -> None:
        """Do not wait for it any more."""
        if self._sources.pop(source.descriptor, None) is not None:
            self._epoll.unregister(source.descriptor)
        if source.pending:
            self._pending.remove(source)

    def used(self, source: Source) -> None:
        """A socket was sent on, or read but not until it was empty: it is asked before the next sleep."""
        if not source.pending:
            source.pending = True
            self._pending.append(source)

    def wait(self, timeout: float | None = None) -> list[Source]:
        """What is readable; waits for it at most ``timeout`` seconds. May return nothing before that."""
        asked, self._pending = self._pending, []
        ready = []
        for source in asked:
            source.pending = False
            if source.readable():
                ready.append(source)
        for descriptor, _ in self._epoll.poll(0 if ready else -1 if timeout is None else math.ceil(timeout * 1000) / 1000):
            source = self._sources[descriptor]
            if source.socket is None or (source not in ready and source.readable()):
                ready.append(source)
        return ready

    def close(self) -> None:
        """Close the epoll's own descriptor; before the sockets are closed."""
        self._epoll.close()
