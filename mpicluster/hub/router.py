"""The hub's loop: drain every message that waits, let the scheduler decide, send one envelope to each destination.

Owns the sockets. Looks into no payload: a chunk's frame is passed on as it came.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

import msgspec
import zmq

from mpicluster import config
from mpicluster.errors import ProtocolError
from mpicluster.hub.gate import Dropped, Gate
from mpicluster.hub.history import History
from mpicluster.hub.lasting import Lasting, address_of
from mpicluster.hub.orders import Berth, Invitation
from mpicluster.hub.questions import Refused, queue_status
from mpicluster.hub.records import Send
from mpicluster.hub.scheduler import Scheduler
from mpicluster.selector import Selector, Source, monitored
from mpicluster.wire import frames
from mpicluster.wire import messages as m
from mpicluster.wire.log import HEARD_EVERY

__all__ = ["Addresses", "Keys", "Router"]

_log = logging.getLogger(__name__)

#: Messages taken from one socket before the others have their turn.
_DRAIN = 256
#: An MPI world of more ranks is a mistake.
_MOST_ENGINES = 1_000_000
#: So often a socket is drained before an engine's end is acted upon: as long as it takes, but not for ever.
_LAST_WORDS = 64
#: How a connection fails whose other end leaves, as one does that only looks whether somebody listens.
_LEFT = (errno.EPIPE, errno.ECONNRESET)
#: Flags as plain numbers, which cost less than pyzmq's enums.
_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
#: Copying a small frame costs less than keeping track of it.
_COPY_BELOW = 64 * 1024


#: What the router answers, or has the history answer.
_QUESTIONS = frozenset(get_args(m.Question))

#: What is done with a message: its source, the peer's identity, its head, and a chunk's frame.
_Handler: TypeAlias = Callable[[Source, bytes, Any, Any], None]


class Keys(NamedTuple):
    """CURVE keys, z85: one pair for the hub, one for all clients, one for all engines."""

    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes
    engine_public: bytes
    engine_secret: bytes

    @classmethod
    def fresh(cls) -> Keys:
        """New ones."""
        return cls(*zmq.curve_keypair(), *zmq.curve_keypair(), *zmq.curve_keypair())


class Addresses(msgspec.Struct):
    """Where the hub listens; TCP as ports."""

    client_ipc: str
    client_port: int
    engine_ipc: str
    engine_port: int


class Router:
    """The hub's sockets and its loop.

    Clients have two connections, whose identities end in ``t`` (they talk) and ``r`` (they listen); engines one for each
    thread, ``m`` (main) and ``c`` (control).
    """

    def __init__(self, scheduler: Scheduler, keys: Keys, run_dir: str, history: History | None = None) -> None:
        self.scheduler = scheduler
        self.history = history or History(scheduler.cluster, None)
        self.dropped = Dropped()
        #: where engines find it; for those that come later
        self.berth: Berth | None = None
        #: called once, when the first engine has registered
        self.on_first_engine: Callable[[], None] = lambda: None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4096)
        self._gate = Gate(self._context, {"client": keys.client_public, "engine": keys.engine_public}, self.dropped)
        self._selector = Selector()
        self._questions = self._selector.register(self._gate.socket)
        #: each source that may be readable, with what is to be done then
        self._doors: dict[Source, Callable[[], None]] = {self._questions: self._answer}
        self._sockets: list[tuple[Any, Any]] = []
        #: where it is said that connections of a socket ended, and what handles its messages
        self._monitors: dict[Source, Source] = {}
        self._handlers: dict[Source, _Handler] = {}
        #: which socket leads to a peer, and whose a connection is
        self._routes: dict[bytes, Source] = {}
        self._owners: dict[tuple[Source, int], bytes] = {}
        self._engine_of: dict[bytes, int] = {}
        self._lasting = Lasting(config.AWAY_BYTES)
        #: peers to which there turned out to be no way
        self._unreachable: set[bytes] = set()
        self._watched: dict[int, Source] = {}
        self._recollections = self._selector.register(self.history.descriptor)
        self._started = self._woke = time.time()
        client_ipc, engine_ipc = f"ipc://{run_dir}/client", f"ipc://{run_dir}/engine"
        self._bind(self._client_message, client_ipc, None, "")
        client_port = self._bind(self._client_message, "tcp://*", keys, "client")
        self._bind(self._engine_message, engine_ipc, None, "")
        engine_port = self._bind(self._engine_message, "tcp://*", keys, "engine")
        self.addresses = Addresses(client_ipc, client_port, engine_ipc, engine_port)

    def _bind(self, handle: _Handler, address: str, keys: Keys | None, domain: str) -> int:
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 1000
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, config.TRANSPORT_MAX_FRAME)
        socket.setsockopt(zmq.BACKLOG, 4096)
        socket.sndhwm = socket.rcvhwm = 0
        port = 0
        monitor = socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        )
        if keys is None:
            socket.bind(address)
        else:
            socket.curve_server = True
            socket.curve_secretkey = keys.server_secret
            socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
            socket.setsockopt(zmq.HEARTBEAT_IVL, int(config.HEARTBEAT * 1000))
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(config.HEARTBEAT_TIMEOUT * 1000))
            port = socket.bind_to_random_port(address)
        source, watch = self._selector.register(socket), self._selector.register(monitor)
        self._monitors[source], self._handlers[source] = watch, handle
        self._doors[source] = lambda: self._drain(source)
        self._doors[watch] = lambda: self._disconnections(source)
        self._sockets.append((socket, monitor))
        return port

    # -- the loop ----------------------------------------------------------------------------------------------------

    def watch(self, descriptor: int) -> None:
        """Let `run_once` also wait for a file descriptor."""
        self._watched[descriptor] = self._selector.register(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """End `watch`."""
        self._selector.unregister(self._watched.pop(descriptor))

    def run_once(self, timeout: float | None) -> list[int]:
        """One turn: wait (at most ``timeout`` seconds), drain, decide, flush. The watched descriptors that are readable."""
        scheduler = self.scheduler
        wakes = [t for t in (scheduler.wake_at(), self._lasting.wake_at()) if t is not None]
        if wakes:
            wake = min(wakes)
            left = max(0.0, wake - time.monotonic())
            timeout = left if timeout is None else min(timeout, left)
        ready = self._selector.wait(timeout)
        self._woke = time.time()
        for source in ready:
            if source.socket is not None:
                self._doors[source]()
        self._flush(scheduler.decide(time.monotonic()))
        while self._unreachable:
            self._gone(self._unreachable.pop())
            self._flush(scheduler.decide(time.monotonic()))
        for address in self._lasting.over(time.monotonic()):
            _log.warning("a client was away for too long")
            scheduler.client_lost(address)
            self._flush(scheduler.decide(time.monotonic()))
        self._note()
        if self._recollections in ready:
            ready.remove(self._recollections)
            self._flush([Send(to, message) for to, message in self.history.answers()])
        return [s.descriptor for s in ready if s.socket is None]

    def _note(self) -> None:
        """Hand the scheduler's notes over to the history."""
        notes = self.scheduler.notes
        if notes:
            self.scheduler.notes = []
            self.history.take(notes, self._woke)

    def _ask(self, listener: bytes, question: m.Question) -> None:
        """A client wants to know something."""
        client = self.scheduler.clients.get(listener)
        if client is None:
            raise ProtocolError("a question of a client that has not said hello")
        if not isinstance(question, m.QueueStatus):
            self._note()  # what came before is known then
            self.history.ask(listener, client.id, question)
            return
        try:
            answer = m.Answer(question.request, queue_status(self.scheduler, question))
        except Refused as e:
            answer = m.Answer(question.request, b"", str(e), e.fault)
        self._flush([Send(listener, answer)])

    def _invite(self, listener: bytes, message: m.Attach) -> None:
        """Engines of another MPI world want to come."""
        if not 1 <= message.size <= _MOST_ENGINES or self.berth is None or self.scheduler.ended is not None:
            answer = m.Answer(message.request, b"", f"{message.size} engines cannot come", m.NONSENSE)
        else:
            world = self.scheduler.worlds.invite(message.size, message.place)
            if world is None:
                answer = m.Answer(message.request, b"", f"there is no place for {message.size} engines of one MPI world", m.NONSENSE)
            else:
                invitation = Invitation(berth=self.berth, world=world.number, first=world.ids.start)
                answer = m.Answer(message.request, msgspec.json.encode(invitation))
        self._flush([Send(listener, answer)])

    def _answer(self) -> None:
        self._gate.answer()
        self._selector.used(self._questions)

    def _drain(self, source: Source) -> None:
        """Take what waits on a socket."""
        handle = self._handlers[source]
        for _ in range(_DRAIN):
            self._take(source, handle)
            if not source.readable():
                return
        self._selector.used(source)  # there is more

    def _take(self, source: Source, handle: _Handler) -> None:
        """Handle one message."""
        socket = source.socket
        try:
            first = socket.recv(_NOBLOCK, copy=False)
        except zmq.Again:
            return  # it was taken while another one was handled
        parts = []
        more = first.more
        while more:
            parts.append(socket.recv(_NOBLOCK, copy=False))
            more = parts[-1].more
        if not 1 <= len(parts) <= 2:
            self.dropped.count("malformed", f"{len(parts)} frames")
        elif any(len(p) > config.MAX_FRAME for p in parts):
            self.dropped.count("oversized", f"a frame of {max(len(p) for p in parts)} bytes")
        else:
            try:
                handle(source, first.bytes, parts[0], parts[1] if len(parts) == 2 else None)
            except ProtocolError as e:
                self.dropped.count("malformed", str(e))

    def _client_message(self, source: Source, identity: bytes, head: Any, frame: Any) -> None:
        listener = address_of(identity)
        if listener in self._lasting and identity.endswith(b"t"):
            taken = self._lasting.take(identity)
            if taken is None:
                return
            if taken % HEARD_EVERY == 0:
                self._transmit(self._lasting.listener(listener), [frames.pack([m.Heard(taken)])])
        messages = frames.from_client.unpack(head.buffer)
        now = time.monotonic()
        for message in messages:
            if type(message) is m.Heard:
                self._lasting.heard(listener, message.count)
                continue
            if type(message) is m.Hello:
                if not identity.endswith(b"r") or message.version != frames.VERSION:
                    raise ProtocolError("hello on the wrong connection, or from another version")
                if message.heard >= 0:
                    self._back(source, head, identity, message.heard)
                    continue
                if identity != listener:
                    raise ProtocolError("the first hello of a client that is to be back")
                if len(self.scheduler.clients) >= config.MAX_CLIENTS:
                    raise ProtocolError(f"more than {config.MAX_CLIENTS} clients")
                self._connected(source, head, identity)
                if message.away > 0.0:
                    self._lasting.begin(identity, min(message.away, config.AWAY_AT_MOST))
            elif type(message) is m.Status:
                self._flush([Send(listener, m.StatusReply(message.request, self._status()))])
                continue
            elif type(message) is m.Attach:
                self._invite(listener, message)
                continue
            elif type(message) in _QUESTIONS:
                self._ask(listener, message)  # type: ignore[arg-type]
                continue
            try:
                self.scheduler.from_client(listener, message, now, frame)
            except ProtocolError as e:
                if type(message) is m.Submit:  # somebody waits for it
                    self.scheduler.refuse(listener, message, f"the hub refused this: {e}")
                raise

    def _back(self, source: Source, head: Any, identity: bytes, heard: int) -> None:
        """A client is back: it is told how much was heard of it, and what it may not have heard."""
        self._connected(source, head, identity)
        known = self._lasting.back(identity, heard)
        if known is None:
            self._transmit(
                identity,
                [frames.pack([m.Farewell("it was away for too long, or too much waited for it, and what it had asked for is forgotten")])],
            )
            return
        taken, said = known
        self._transmit(identity, [frames.pack([m.Heard(taken)])])
        for parts in said:
            self._transmit(identity, parts)

    def _engine_message(self, source: Source, identity: bytes, head: Any, frame: Any) -> None:
        messages = frames.from_engine.unpack(head.buffer)
        now = time.monotonic()
        for message in messages:
            if type(message) is m.Register:
                self.scheduler.roster.register(message, identity, now)
                self._connected(source, head, identity)
                self._engine_of[identity] = message.engine.id
                self.on_first_engine()
                self.on_first_engine = lambda: None
                continue
            engine = self._engine_of.get(identity)
            if engine is None:
                raise ProtocolError("a message from an engine that has not registered")
            if engine in self.scheduler.engines:  # else: its last words, after its death was noticed
                self.scheduler.from_engine(engine, message, now, frame)

    def _connected(self, source: Source, head: Any, identity: bytes) -> None:
        """A peer's first word. Its descriptor may have been another's a moment ago, whose end is dealt with first."""
        self._disconnections(source)
        self._routes[identity] = source
        self._owners[source, head.get(zmq.SRCFD)] = identity

    def _disconnections(self, source: Source) -> None:
        """Connections of a socket ended."""
        watch = self._monitors[source]
        gone = []
        while watch.readable():
            event, value = monitored(watch.socket, _NOBLOCK)
            if event == zmq.EVENT_DISCONNECTED:
                owner = self._owners.pop((source, value), None)
                if owner is not None:
                    gone.append(owner)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value in _LEFT:
                self.dropped.unfinished += 1
            else:
                self.dropped.count("unauthenticated", "a handshake that failed")
        for owner in gone:
            self._gone(owner)

    def _gone(self, identity: bytes) -> None:
        """A peer's connection ended. What an engine said before it went is heard first."""
        engine = self._engine_of.get(identity)
        if engine is None:
            self._routes.pop(identity, None)
            address = address_of(identity)
            if address not in self.scheduler.clients:
                self._lasting.forget(address)
            elif not self._lasting.gone(identity, time.monotonic()):
                self.scheduler.client_lost(address)
            return
        if (source := self._routes.get(identity)) is not None:
            for _ in range(_LAST_WORDS):
                if source.readable():
                    self._drain(source)
        self._routes.pop(identity, None)
        self._engine_of.pop(identity, None)
        if engine in self.scheduler.engines or engine in self.scheduler.roster.arriving:
            _log.warning("engine %d is gone", engine)
        self.scheduler.roster.lost(engine, "died", time.monotonic())

    def _flush(self, sends: list[Send]) -> None:
        envelopes: dict[bytes, list[m.Message]] = {}
        for send in sends:
            if send.frame is None:
                envelopes.setdefault(send.to, []).append(send.message)
            else:  # what was said before a chunk goes out before it
                waiting = envelopes.pop(send.to, None)
                if waiting:
                    self._send(send.to, [frames.pack(waiting)])
                self._send(send.to, [frames.pack([send.message]), send.frame])
        for to, messages in envelopes.items():
            self._send(to, [frames.pack(messages)])

    def _send(self, to: bytes, parts: Sequence[Any]) -> None:
        connection = self._lasting.say(to, parts)
        if connection is not None:
            self._transmit(connection, parts)

    def _transmit(self, to: bytes, parts: Sequence[Any]) -> None:
        source = self._routes.get(to)
        if source is None:
            return  # gone: its disconnection is being dealt with
        socket = source.socket
        try:
            socket.send(to, _MORE)
            if len(parts) == 1:
                socket.send(parts[0], _NOBLOCK, copy=len(parts[0]) < _COPY_BELOW)
            else:
                socket.send(parts[0], _MORE)
                socket.send(parts[1], _NOBLOCK, copy=False)
        except zmq.ZMQError as e:
            if e.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self._unreachable.add(to)  # gone, or going
        finally:
            self._selector.used(source)

    # -- what a person asks ------------------------------------------------------------------------------------------

    def _status(self) -> bytes:
        s = self.scheduler
        engines = [
            {
                "id": e.info.id,
                "rank": e.info.rank,
                "world": e.info.world,
                "host": e.info.host,
                "pid": e.info.pid,
                "threads": e.info.threads,
                "state": "busy" if e.parts else "idle",
                "queued": len(e.parts),
                "tasks_done": e.done,
            }
            for e in s.engines.values()
        ]
        assigned = sum(len(e.parts) for e in s.engines.values())
        return msgspec.json.encode(
            {
                "cluster": s.cluster,
                "uptime": time.time() - self._started,
                "hub": {"pid": os.getpid(), "rss": _rss()},
                "mpi": s.mpi,
                "survives": s.survives,
                "epoch": s.roster.epoch,
                "healing": sorted(s.healing),
                "expected": s.expected,
                "engines": engines,
                "clients": len(s.clients),
                "tasks": {"waiting": s.balancer.waiting, "assigned": assigned, "done": s.tasks_done},
                "dropped": msgspec.to_builtins(self.dropped),
                "history": self.history.facts(),
            }
        )

    def close(self) -> None:
        """Close all sockets, after what was sent is out (at most their linger), and the history, after what was noted is written."""
        self._selector.close()
        for socket, monitor in self._sockets:
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close()
        self._gate.socket.close()
        self._context.term()
        self.history.close(config.STOP_GRACE)

    @property
    def quiet(self) -> bool:
        """Whether nobody is connected: each has heard the last word, and left."""
        return not self._engine_of and self.scheduler.clients.keys() <= self._lasting.away()


def _rss() -> int:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
