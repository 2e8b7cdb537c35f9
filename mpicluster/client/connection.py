"""The client's two sockets to the hub, and the thread that listens.

One socket talks: any thread may use it, under a lock. The other listens: one thread at a time has its turn. So a call
needs no other thread to be sent. A caller that waits for its answer reads for itself, while the listening thread steps
aside: that saves a change of threads. It hands over when something comes that is not a plain answer.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import socket as sockets
import threading
import time
import types
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq

from mpicluster import config
from mpicluster.client.signals import Deferred
from mpicluster.errors import ClosedError, ClusterStopped, NoCluster, ProtocolError, SerializationError
from mpicluster.selector import Selector, monitored
from mpicluster.wire import frames
from mpicluster.wire import messages as m
from mpicluster.wire.address import reachable
from mpicluster.wire.contact import Contact

__all__ = ["Connection"]

_log = logging.getLogger(__name__)
#: A flag as a plain number costs less than pyzmq's enum.
_NOBLOCK = int(zmq.NOBLOCK)
#: How long the listening thread stays aside after a caller has read for itself: the next call most often follows at once.
_ASIDE = 0.02
#: When libzmq connects anew by itself, milliseconds: not before this end has dealt with it, since a lost connection may have lost messages.
#: With -1 it ends a pipe at once, and aborts the process if a message of two frames is being taken from it (`!_more`, src/fq.cpp).
_NEVER = 3_600_000
#: How long the hub may take to answer a goodbye.
_LEAVE_WITHIN = 3.0


def _weakly(call: Callable[..., None]) -> Callable[..., None]:
    """A bound method, called as long as its object is there; anything else as it is."""
    if not isinstance(call, types.MethodType):
        return call
    reference = weakref.WeakMethod(call)

    def forward(*args: Any) -> None:
        method = reference()
        if method is not None:
            method(*args)

    return forward


class Connection:
    """A connection to one hub.

    ``on_message(message, frame)`` and ``on_lost(reason)`` are called in the listening thread; bound methods are held weakly, so
    that who owns this connection can be forgotten, which ends it.
    """

    def __init__(
        self,
        contact: Contact,
        on_message: Callable[[m.ToClient, Any], None],
        on_lost: Callable[[str], None],
        ring: m.RingPlace | None = None,
    ) -> None:
        self._contact = contact
        self._on_message = _weakly(on_message)
        self._on_lost = _weakly(on_lost)
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards the talking socket and `_closed`
        self._closed = self._hub_gone = False
        #: when the hub's answer to the goodbye is not waited for any more; 0 once it has come
        self._leave_by = math.inf
        address = self._address()  # may raise: before there is anything to close
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        #: this client's id
        self.name = uuid.uuid4().hex
        self._wake_in, self._wake_out = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._wake_in.bind("inproc://wake")
        self._wake_out.connect("inproc://wake")
        #: held by the thread that reads the listening socket; it guards the selector and the inbox
        self._turn = threading.Lock()
        self._selector = Selector()
        self._signals = Deferred()
        self._others = tuple(self._selector.register(s) for s in (self._wake_in, self._signals.descriptor))
        #: frames that have arrived and are not handled yet; a message is removed after it was handled
        self._inbox: deque[Any] = deque()
        #: messages of the first envelope that a caller has dealt with
        self._begun = 0
        #: whether a caller reads for itself; the lock guards that it is one
        self._sitting = False
        self._seat = threading.Lock()
        self._sat_at = -math.inf
        #: whether the listening thread waits on the socket; set to make it do so
        self._listening = False
        self._resume = threading.Event()
        self._open(address, m.Hello(self.name, frames.VERSION, ring, self._lasting))
        self._thread = threading.Thread(target=self._run, name="mpicluster-client", daemon=True)
        self._thread.start()

    def _open(self, address: str, hello: m.Hello) -> None:
        """Connect the two sockets, and say hello."""
        self._listen, self._talk = (self._socket(f"{self._name()}{end}".encode(), address) for end in "rt")
        self._receive = functools.partial(self._listen.recv, copy=False)
        self._monitors = [
            s.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH) for s in (self._listen, self._talk)
        ]
        for s in (self._listen, self._talk):
            s.connect(address)  # from here on its monitor sees it end
        self._sources = (self._selector.register(self._listen), *self._others)
        #: where it is said that a connection ended
        self._ends = [self._selector.register(s) for s in self._monitors]
        with contextlib.suppress(zmq.Again):  # refused already: the monitor says so to the thread
            self._listen.send(frames.pack([hello]), zmq.NOBLOCK)

    def _shut(self) -> None:
        """Close the two sockets."""
        self._listen.disable_monitor()
        # what waits for a hub that is gone would keep the context from ending
        self._talk.disable_monitor()
        self._talk.close(linger=0 if self._hub_gone or (self._lasting and not self._closed) else 1000)
        for s in (self._listen, *self._monitors):
            s.close(linger=0)

    def _address(self) -> str:
        contact = self._contact
        if not contact.through and contact.host == sockets.gethostname() and Path(contact.ipc.removeprefix("ipc://")).exists():
            return contact.ipc
        address = reachable(contact.tcp)
        if address is None:
            raise NoCluster(
                f"the cluster {contact.cluster} on {contact.host} cannot be reached at any of {', '.join(contact.tcp)}: "
                "it has ended, or there is no way to that host (a tunnel, a firewall?)"
            )
        return address

    def _socket(self, identity: bytes, address: str) -> Any:
        """A socket with all that it takes to connect to that address."""
        s = self._context.socket(zmq.DEALER)
        s.setsockopt(zmq.IDENTITY, identity)
        s.setsockopt(zmq.RECONNECT_IVL, _NEVER)
        s.sndhwm = s.rcvhwm = 0
        if address.startswith("tcp:"):
            contact = self._contact
            s.curve_serverkey = contact.server_key.encode()
            s.curve_publickey, s.curve_secretkey = contact.client_public.encode(), contact.client_secret.encode()
            s.setsockopt(zmq.HEARTBEAT_IVL, int(config.HEARTBEAT * 1000))
            s.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(config.HEARTBEAT_TIMEOUT * 1000))
        return s

    def say(self, messages: Sequence[m.ClientMessage], frame: Any = None) -> None:
        """Send; from any thread.

        Raises
        ------
        ClosedError
            the connection was closed, or belongs to the process this one was forked from.
        ClusterStopped
            the hub is gone.
        SerializationError
            the message is larger than the hub takes.
        """
        self.say_packed(frames.pack(messages), frame)

    def say_packed(self, head: bytes, frame: Any = None) -> None:
        """`say` what is packed already."""
        if len(head) > config.MAX_FRAME:
            raise SerializationError(
                f"{len(head)} bytes do not fit into one message, which takes {config.MAX_FRAME}; push large data first"
            )
        if self._pid != os.getpid():
            raise ClosedError("this client belongs to the parent process; make a new Client() after a fork")
        parts = (head,) if frame is None else (head, frame)
        with self._lock:
            if self._closed:
                raise ClosedError("this client was closed; make a new Client()")
            self._record(parts)
            if self._hub_gone:
                raise ClusterStopped("the connection to the hub was lost")
            if self._away:
                return  # it is said when the hub is there again
            try:
                self._talk_now(parts)
            except zmq.Again:  # there is no limit to what waits here, but what is there spoke no ZMTP
                if not self._lasting:
                    raise ClusterStopped("the connection to the hub was lost") from None

    def _talk_now(self, parts: Sequence[Any]) -> None:
        if len(parts) == 1:
            self._talk.send(parts[0], zmq.NOBLOCK)
        else:
            self._talk.send_multipart(parts, zmq.NOBLOCK, copy=False)

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that connected, and so hears no answers."""
        return self._pid != os.getpid()

    @property
    def away(self) -> bool:
        """Whether it has dropped, and not come back yet."""
        return self._away

    @property
    def in_listener(self) -> bool:
        """Whether the caller is the listening thread, which must never wait for an answer."""
        return threading.get_ident() == self._thread.ident

    def close(self) -> None:
        """Say goodbye, wait for the hub to have heard all that was said before (if it lives), and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._pid != os.getpid():
                return
            self._leave_by = time.monotonic() + _LEAVE_WITHIN
            with contextlib.suppress(zmq.Again):  # the hub is gone already
                if not self._away:
                    self._talk.send(frames.pack([m.Goodbye()]), zmq.NOBLOCK)
            self._wake_out.send(b"")
        self._resume.set()
        if not self.in_listener:
            self._thread.join()

    # -- reading -----------------------------------------------------------------------------------------------------

    def serve(self, done: Callable[[], bool], take: Callable[[m.ToClient], bool], timeout: float | None) -> None:
        """Read in the calling thread until ``done()``, which saves a change of threads on the way to the caller.

        ``take(message)`` handles a message if it is for the caller, and says whether it did. May return before it is done:
        when another thread reads for itself, and when there is something for the listening thread to do.
        """
        mine, hand_over = False, True
        until = None if timeout is None else time.monotonic() + timeout
        try:  # Ctrl-C may come anywhere: plain locks in `with`, and nothing that it can interrupt before the flag is reset
            with self._seat:
                if not self._sitting:
                    self._sitting = mine = True
            if not mine:
                self._resume.set()
                return
            if self._away:
                return  # the listening thread looks for the hub
            if self._listening:
                with self._lock:
                    if self._closed or self._pid != os.getpid():
                        return
                    self._wake_out.send(b"")  # the listening thread steps aside
            with self._turn, self._signals:
                if not self._closed and not self._away:
                    hand_over = not self._read_for(done, take, until)
        finally:
            if mine:
                self._sat_at = time.monotonic()
                self._sitting = False
                if hand_over:
                    self.resume()
            self._signals.handle()

    def _read_for(self, done: Callable[[], bool], take: Callable[[m.ToClient], bool], until: float | None) -> bool:
        """The loop of `serve`; False when there is something for the listening thread."""
        while not done():
            if not self._inbox:
                left = None if until is None else max(0.0, until - time.monotonic())
                ready = self._selector.wait(left)
                listen, wake, interrupt = self._sources
                if listen in ready:
                    self._pull()
                if interrupt in ready:
                    return True
                if wake in ready:
                    self._clear_wake()
                ends = [s for s in self._ends if s in ready]
                for end in ends:
                    self._selector.used(end)  # whoever asks next is told again
                if ends or self._closed:
                    return False
                if left == 0.0 and not self._inbox:
                    return True  # only after a look: a caller may poll
            while self._inbox:
                if self._inbox[0].more:
                    return False
                for message in frames.from_hub_to_client.unpack(self._inbox[0].buffer)[self._begun :]:
                    if not take(message):
                        return False
                    self._begun += 1
                self._inbox.popleft()
                self._begun = 0
                self._taken()
        return True

    def resume(self) -> None:
        """Have the listening thread listen from now on, if it stepped aside for a caller that has gone."""
        self._sat_at = -math.inf
        self._resume.set()

    def _pull(self) -> None:
        """Move what has arrived into the inbox; something has."""
        while True:
            self._inbox.append(self._receive(_NOBLOCK))
            if not self._sources[0].readable():
                return

    def _run(self) -> None:
        try:
            while True:
                with self._turn:
                    self._listening = True
                    if not self._sitting and not self._listen_once():
                        break
                    self._listening = False
                if self._away and not self._come_back():
                    break
                while (self._sitting or time.monotonic() - self._sat_at < _ASIDE) and not self._resume.wait(_ASIDE):
                    pass
                self._resume.clear()
        finally:
            self._on_lost("the client's connection was closed")  # whoever still waits is told
            with self._lock:
                self._closed = True
            self._close_sockets()

    def _close_sockets(self) -> None:
        with self._turn, self._lock:
            self._selector.close()
            self._signals.close()
            if not self._away:
                self._shut()
            for s in (self._wake_in, self._wake_out):
                s.close(linger=0)
        # libzmq may wait for ever for what was under way to a hub that died: nobody waits for it longer than this
        ending = threading.Thread(target=self._context.term, name="mpicluster-client-end", daemon=True)
        try:
            ending.start()
        except RuntimeError:
            return  # the interpreter is ending, and starts no threads
        ending.join(2.0)

    def _listen_once(self) -> bool:
        """Wait for something and handle it; False when the connection is over."""
        self._handle_inbox()  # what a caller has left
        if self._hub_gone:
            return False  # it was the farewell
        listen, wake, interrupt = self._sources
        ready = self._selector.wait(max(0.0, self._leave_by - time.monotonic()) if self._closed else None)
        self._listening = False
        if listen in ready:
            self._pull()
        if wake in ready:
            self._clear_wake()
        if interrupt in ready:
            self._signals.clear()  # of a caller that was interrupted twice
        self._handle_inbox()
        for end in [s for s in self._ends if s in ready]:
            event, _ = monitored(end.socket)
            refused = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            if listen.readable():
                self._pull()
                self._handle_inbox()  # its last words
            if not self._lasting or refused or self._hub_gone or self._closed:
                self._lose("the hub refused this client's key" if refused else "the connection to the hub was lost")
            else:
                self._drop()
                return True
        return not self._hub_gone and not (self._closed and time.monotonic() >= self._leave_by)

    # -- for connections that may drop (`client.lasting`) -------------------------------------------------------------

    #: whether there is no connection now
    _away = False
    #: for how long it may be away before it comes back, seconds; 0 if it ends when it drops
    _lasting = 0.0

    def _name(self) -> str:
        """What the sockets are named for."""
        return self.name

    def _record(self, parts: Sequence[Any]) -> None:
        """This is said."""

    def _taken(self) -> None:
        """An envelope was dealt with."""

    def _on_heard(self, count: int) -> None:
        """The hub has heard so many."""

    def _drop(self) -> None:
        """The connection dropped."""

    def _come_back(self) -> bool:
        """Look for the hub until it is there; False when that is over."""
        return False

    def _lose(self, reason: str) -> None:
        self._hub_gone = True
        self._on_lost(reason)

    def _clear_wake(self) -> None:
        while self._sources[1].readable():
            self._wake_in.recv()

    def _handle_inbox(self) -> None:
        while self._inbox:
            head = self._inbox[0]
            frame = self._inbox[1] if head.more else None
            try:
                messages = frames.from_hub_to_client.unpack(head.buffer)
            except ProtocolError as e:
                self._on_lost(f"the hub speaks another language: {e}")
                messages = []
            counts = True
            begun, self._begun = self._begun, 0
            for message in messages[begun:]:
                if type(message) is m.Left:
                    self._leave_by = 0.0
                    continue
                if type(message) is m.Heard:
                    counts = False
                    self._on_heard(message.count)
                    continue
                if type(message) is m.Farewell:
                    self._hub_gone = True  # nothing follows: the hub waits for this end to close, for ZMQ drops what is unread then
                try:
                    self._on_message(message, frame.buffer if frame is not None else None)
                except (ClosedError, ClusterStopped):
                    continue  # an answer could not be sent: the hub is gone, as the monitor will say
            self._inbox.popleft()
            if frame is not None:
                self._inbox.popleft()
            if counts:
                self._taken()
