"""The client's two sockets to the hub, and the thread that listens.

One socket talks: any thread may use it, under a lock. The other listens: only the thread here touches it. So a call
needs no other thread to be sent, and the answer wakes the caller directly.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as sockets
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from mpicluster import config
from mpicluster.errors import ClosedError, ClusterStopped, NoCluster, ProtocolError
from mpicluster.selector import Selector, Source
from mpicluster.wire import frames
from mpicluster.wire import messages as m
from mpicluster.wire.address import reachable
from mpicluster.wire.contact import Contact

__all__ = ["Connection"]

_log = logging.getLogger(__name__)
#: A flag as a plain number costs less than pyzmq's enum.
_NOBLOCK = int(zmq.NOBLOCK)


class Connection:
    """A connection to one hub.

    ``on_message(message, frame)`` and ``on_lost(reason)`` are called in the listening thread.
    """

    def __init__(
        self,
        contact: Contact,
        on_message: Callable[[m.ToClient, Any], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._contact = contact
        self._on_message = on_message
        self._on_lost = on_lost
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards the talking socket and `_closed`
        self._closed = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        name = uuid.uuid4().hex.encode()
        address = self._address()
        self._listen = self._socket(name + b"r", address)
        self._talk = self._socket(name + b"t", address)
        self._monitor = self._listen.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        self._wake_in, self._wake_out = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._wake_in.bind("inproc://wake")
        self._wake_out.connect("inproc://wake")
        self._listen.send(frames.pack([m.Hello(name.decode(), frames.VERSION)]))
        self._thread = threading.Thread(target=self._run, name="mpicluster-client", daemon=True)
        self._thread.start()

    def _address(self) -> str:
        contact = self._contact
        if contact.host == sockets.gethostname() and Path(contact.ipc.removeprefix("ipc://")).exists():
            return contact.ipc
        address = reachable(contact.tcp)
        if address is None:
            raise NoCluster(
                f"the cluster {contact.cluster} on {contact.host} cannot be reached at any of {', '.join(contact.tcp)}: "
                "it has ended, or there is no way to that host (a tunnel, a firewall?)"
            )
        return address

    def _socket(self, identity: bytes, address: str) -> Any:
        s = self._context.socket(zmq.DEALER)
        s.setsockopt(zmq.IDENTITY, identity)
        s.setsockopt(zmq.RECONNECT_IVL, -1)  # a lost connection may have lost messages: that is an error, not a pause
        s.sndhwm = s.rcvhwm = 0
        if address.startswith("tcp:"):
            contact = self._contact
            s.curve_serverkey = contact.server_key.encode()
            s.curve_publickey, s.curve_secretkey = contact.client_public.encode(), contact.client_secret.encode()
            s.setsockopt(zmq.HEARTBEAT_IVL, int(config.HEARTBEAT * 1000))
            s.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(config.HEARTBEAT_TIMEOUT * 1000))
        s.connect(address)
        return s

    def say(self, messages: Sequence[m.ClientMessage], frame: Any = None) -> None:
        """Send; from any thread.

        Raises
        ------
        ClosedError
            the connection was closed, or belongs to the process this one was forked from.
        ClusterStopped
            the hub is gone.
        """
        head = frames.pack(messages)
        if self._pid != os.getpid():
            raise ClosedError("this client belongs to the parent process; make a new Client() after a fork")
        with self._lock:
            if self._closed:
                raise ClosedError("this client was closed; make a new Client()")
            try:
                if frame is None:
                    self._talk.send(head, zmq.NOBLOCK)
                else:
                    self._talk.send_multipart([head, frame], zmq.NOBLOCK, copy=False)
            except zmq.Again:  # there is no limit to what waits here, but there is no hub
                raise ClusterStopped("the connection to the hub was lost") from None

    @property
    def in_listener(self) -> bool:
        """Whether the caller is the listening thread, which must never wait for an answer."""
        return threading.get_ident() == self._thread.ident

    def close(self) -> None:
        """Say goodbye and end the thread. What was said before still goes out."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._pid == os.getpid():
                with contextlib.suppress(zmq.Again):  # the hub is gone already
                    self._talk.send(frames.pack([m.Goodbye()]), zmq.NOBLOCK)
        if self._pid != os.getpid():
            return
        self._wake_out.send(b"")
        if not self.in_listener:
            self._thread.join()

    def _run(self) -> None:
        selector = Selector()
        listen, monitor, wake = (selector.register(s) for s in (self._listen, self._monitor, self._wake_in))
        while True:
            ready = selector.wait()
            if listen in ready:
                self._drain(listen)
            if wake in ready:
                break
            if monitor in ready:
                event = recv_monitor_message(self._monitor)
                self._drain(listen)  # its last words
                refused = event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH
                self._on_lost("the hub refused this client's key" if refused else "the connection to the hub was lost")
                selector.unregister(monitor)
        selector.close()
        self._listen.disable_monitor()
        for s, linger in ((self._talk, 1000), (self._listen, 0), (self._monitor, 0), (self._wake_in, 0), (self._wake_out, 0)):
            s.close(linger=linger)
        self._context.term()

    def _drain(self, listen: Source) -> None:
        while listen.readable():
            head, *rest = self._listen.recv_multipart(_NOBLOCK, copy=False)
            try:
                messages = frames.from_hub_to_client.unpack(head.buffer)
            except ProtocolError as e:
                self._on_lost(f"the hub speaks another language: {e}")
                return
            for message in messages:
                self._on_message(message, rest[0].buffer if rest else None)
