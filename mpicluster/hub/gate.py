"""Who may come in, and what may: authentication of TCP peers, and counts of what was turned away."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
import zmq
from zmq.utils import z85

__all__ = ["Dropped", "Gate"]

_log = logging.getLogger(__name__)


class Dropped(msgspec.Struct):
    """How many messages and connections were turned away since the start."""

    malformed: int = 0
    oversized: int = 0
    unauthenticated: int = 0
    #: connections that ended before it was known whose they are: most often of somebody who looked whether the hub is there
    unfinished: int = 0

    def count(self, kind: str, why: str) -> None:
        """Count and log one; a flood is logged once in a thousand."""
        number = getattr(self, kind) + 1
        setattr(self, kind, number)
        if number <= 20 or number % 1000 == 0:
            _log.warning("dropped (%s, %d so far): %s", kind, number, why)


class Gate:
    """Answers libzmq's questions about TCP peers (ZAP, RFC 27): only the keys given to it come in.

    ``allowed`` maps each ZAP domain to the one public key (z85) of its peers.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: Mapping[str, bytes], dropped: Dropped) -> None:
        self._allowed = dict(allowed)
        self._dropped = dropped
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")

    def answer(self) -> None:
        """Answer one question that is waiting."""
        version, request, domain, address, _identity, mechanism, *credentials = self.socket.recv_multipart()
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        if key and key == self._allowed.get(domain.decode(errors="replace")):
            reply = [version, request, b"200", b"OK", domain, b""]
        else:
            self._dropped.count("unauthenticated", f"{mechanism.decode(errors='replace')} from {address.decode(errors='replace')}")
            reply = [version, request, b"400", b"unknown key", b"", b""]
        self.socket.send_multipart(reply)
