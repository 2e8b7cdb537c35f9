"""Waits for several ZMQ sockets and file descriptors with one system call.

``zmq_poll`` asks every socket before and after it sleeps, which costs more than all else that the hub does for a small
message. A socket's ``ZMQ_FD`` tells an ``epoll`` only that *something* happened, and using the socket may swallow what it
told; so each socket that was used since is asked once before the next sleep (see zmq_getsockopt(3), ZMQ_FD).
"""

from __future__ import annotations

import math
import select
from typing import Any

import zmq

__all__ = ["Selector"]

_EVENTS, _IN = int(zmq.EVENTS), int(zmq.POLLIN)


class Selector:
    """One thread's waiting place."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, Any] = {}
        self._used: set[Any] = set()

    def register(self, source: Any) -> None:
        """Wait for a ZMQ socket, or a file descriptor, to be readable from now on."""
        descriptor = source if isinstance(source, int) else source.getsockopt(zmq.FD)
        self._sockets[descriptor] = source
        self._epoll.register(descriptor, select.EPOLLIN)
        if not isinstance(source, int):
            self._used.add(source)

    def unregister(self, source: Any) -> None:
        """Do not wait for it any more."""
        descriptor = source if isinstance(source, int) else source.getsockopt(zmq.FD)
        if self._sockets.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
        self._used.discard(source)

    def used(self, socket: Any) -> None:
        """A socket was sent on, or read but not until it was empty: ask it before the next sleep."""
        self._used.add(socket)

    def wait(self, timeout: float | None = None) -> list[Any]:
        """What is readable; waits for it at most ``timeout`` seconds. May return nothing before that."""
        ready = [s for s in self._used if s.getsockopt(_EVENTS) & _IN]
        self._used.clear()
        for descriptor, _ in self._epoll.poll(0 if ready else -1 if timeout is None else math.ceil(timeout * 1000) / 1000):
            source = self._sockets.get(descriptor)
            if source is None:
                continue
            if isinstance(source, int) or (source not in ready and source.getsockopt(_EVENTS) & _IN):
                ready.append(source)
        return ready

    def close(self) -> None:
        """Close the epoll's own descriptor; before the sockets are closed."""
        self._epoll.close()
