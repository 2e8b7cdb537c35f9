"""The engine's control thread: answers the hub while user code runs.

It gives back work that has not begun, moves bulk payloads, mends the world after a death, and ends the process when the
hub says so or is gone. It never runs user code.

It also lets MPI go on: a rank that is through with a collective, or has left a send behind, may owe others an answer that MPI
only gives within a call (seen with MPICH: the root of a broadcast waited for a rank that had long gone idle).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from typing import Any

import zmq

from mpicluster.config import HEAL_TIMEOUT, STOP_GRACE
from mpicluster.engine.output import Recorder
from mpicluster.engine.streams import Streams
from mpicluster.engine.warden import Warden
from mpicluster.engine.world import MPI, World, WorldBroken
from mpicluster.selector import Selector, monitored
from mpicluster.wire import frames
from mpicluster.wire import messages as m

__all__ = ["Control", "Ledger"]

#: A result that waits to be sent with others is sent by this thread after so many seconds.
_STALE = 0.005
#: How often MPI is let go on while the main thread waits, or runs code that does not call it.
_PROGRESS_EVERY = 0.1
#: How often it is looked whether a new communicator is there.
_TURNING = 0.001
#: How often what a task writes is sent on while it runs.
_LIVE = 0.02
#: Messages of output sent before others are heard.
_AT_A_TIME = 8
#: Results that were told by others are kept, the newest so many.
_KEPT = 16
#: How long this thread goes on looking after the last such result.
_ATTENTIVE = 0.2


class Ledger:
    """What both threads must agree on: which assignments have begun, and answers not yet sent. One lock guards all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: the newest assignment that the main thread has begun or passed over: they come in order
        self._begun = 0
        self._skip: set[int] = set()
        #: results that another engine has told, or was about to
        self._kept: deque[m.Done] = deque(maxlen=_KEPT)
        self._outbox: list[m.Message] = []

    def begin(self, seq: int) -> bool:
        """The main thread reaches an assignment; False if it was given back."""
        with self._lock:
            self._begun = seq
            if seq in self._skip:
                self._skip.discard(seq)
                return False
            return True

    def withdraw(self, seqs: list[int]) -> m.Withdrawn:
        """Give back those that have not begun."""
        with self._lock:
            begun = self._begun
            returned = [s for s in seqs if s > begun]
            self._skip.update(returned)
        return m.Withdrawn(returned, [s for s in seqs if s <= begun])

    def keep(self, done: m.Done) -> None:
        """Another engine tells this result; keep it, should that one die before."""
        with self._lock:
            self._kept.append(done)

    def kept(self, seq: int) -> list[m.Message]:
        """The result of an assignment that another engine was to tell."""
        with self._lock:
            return [done for done in self._kept if done.seq == seq]

    def put(self, message: m.Message) -> None:
        """Keep an answer to be sent."""
        with self._lock:
            self._outbox.append(message)

    def take_outbox(self) -> list[m.Message]:
        """All answers kept; the caller sends them."""
        with self._lock:
            taken, self._outbox = self._outbox, []
            return taken


class Control(threading.Thread):
    """The control thread. Owns its socket from `start` on.

    ``stopping`` is set, and ``end_of_waits`` readable, when the engine is to end; ``reason`` says why.
    """

    def __init__(
        self,
        world: World,
        info: m.EngineInfo,
        door: tuple[Any, str],
        ledger: Ledger,
        streams: Streams,
        recorder: Recorder,
        warden: Warden,
        context: Any,
    ) -> None:
        super().__init__(name="mpicluster-control", daemon=True)
        self.stopping = threading.Event()
        self.reason = ""
        self._world = world
        self._socket, address = door
        self._ledger = ledger
        self._streams = streams
        self._recorder = recorder
        self._warden = warden
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(address)  # from here on the monitor sees it end
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: readable for the main thread when it must stop waiting
        self.end_of_waits = context.socket(zmq.PAIR)
        self.end_of_waits.bind("inproc://end")
        self._end = context.socket(zmq.PAIR)
        self._end.connect("inproc://end")
        self._selector = Selector()
        #: until when this thread looks for results, and for output, that wait to be sent
        self._attentive_until = self._listening_until = 0.0
        #: what the main thread wants to be said, but cannot say itself
        self._word: m.Message | None = None
        recorder.on_write = self._watch_output
        warden.on_change = self._look_now
        ring = m.RingPlace(*streams.ring.place) if streams.ring is not None else None
        self._socket.send(frames.pack([m.Register(info, "control", world.library(), world.survives(), ring)]), zmq.NOBLOCK)

    # -- called by the main thread -----------------------------------------------------------------------------------

    def watch_outbox(self) -> None:
        """A result was kept back while the next task starts: see that it is not kept for long."""
        now = time.monotonic()
        if now > self._attentive_until - _ATTENTIVE / 2:
            asleep = now > self._attentive_until - 4 * _STALE  # or about to fall asleep
            self._attentive_until = now + _ATTENTIVE
            if asleep:
                os.eventfd_write(self._wake, 1)

    def stuck_in(self, seq: int) -> None:
        """The main thread waits for an engine that cannot end this assignment, and takes no other."""
        self._word = m.Stuck(seq, m.LOST, f"engine {self._world.id} waits for another, which cannot end the task that both have")
        self._look_now()

    def _look_now(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _watch_output(self) -> None:
        """A task writes (in whatever thread): see that it is sent soon."""
        now = time.monotonic()
        asleep = now > self._listening_until - 2 * _LIVE
        self._listening_until = now + _ATTENTIVE
        if asleep:
            os.eventfd_write(self._wake, 1)

    # -- the thread --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the cluster ends."""
        selector = self._selector
        self._source = selector.register(self._socket)
        monitor, wake = selector.register(self._monitor), selector.register(self._wake)
        helps = self._world.multithreaded and self._world.size > 1
        progress_at = time.monotonic() + _PROGRESS_EVERY
        written_at = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            if helps and now >= progress_at:
                self._world.progress()
                progress_at = now + _PROGRESS_EVERY
            attentive, listening = now < self._attentive_until, now < self._listening_until
            turning = self._world.go_on()
            wait = _TURNING if turning else _STALE if attentive else _LIVE if listening else _PROGRESS_EVERY if helps else None
            due = self._warden.due(now)
            if due is not None:
                self._say(self._warden.look(now))
                wait = due if wait is None else min(wait, due)
            ready = selector.wait(wait)
            if not (ready or attentive or listening):
                continue  # nothing but the time has come, as ten times a second on an idle engine
            if wake in ready:
                os.eventfd_read(self._wake)
                word, self._word = self._word, None
                self._say([word] if word is not None else [])
            if listening and now >= written_at + _LIVE:
                written_at = now
                self._send_written(now)
            if attentive:
                late = self._ledger.take_outbox()
                if late:
                    self._say(late)
            if self._source in ready:
                self._drain()
            if monitor in ready:
                monitored(self._monitor)
                self._end_engine("the hub is gone")
        selector.close()
        self._socket.disable_monitor()
        self._end.send(b"")
        for s in (self._socket, self._monitor):
            s.close(linger=0)
        self._end.close()

    def _send_written(self, now: float) -> None:
        for _ in range(_AT_A_TIME):
            written = self._recorder.take()
            if written is None:
                return
            self._say([written])
            if not self._recorder.more:
                break
        self._listening_until = now + _ATTENTIVE  # there is more, or the end of a line will come

    def _drain(self) -> None:
        while not self.stopping.is_set() and self._source.readable():
            head, *rest = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            for message in frames.from_hub_to_engine.unpack(head.buffer):
                self._handle(message, rest[0].buffer if rest else None)

    def _handle(self, message: m.EngineMessage, data: memoryview | None) -> None:
        match message:
            case m.Chunk(name=seq, offset=offset):
                if data is not None:
                    more = self._streams.receive(seq, offset, data)
                else:
                    more = self._streams.receive_from_ring(seq, offset, message.slot, message.use, message.nbytes)
                if more:
                    self._say([m.Credit(seq, self._world.id, more, int(data is None))])
            case m.Credit(name=seq, nbytes=nbytes):
                if nbytes < 0:
                    self._streams.give_up(seq)
                else:
                    self._streams.send(seq, nbytes, message.ring, lambda offset, chunk: self._say_chunk(seq, offset, chunk))
            case m.Expect(seq=seq, sizes=sizes, ring=ring):
                first, shared = self._streams.expect(seq, sizes, (ring.pid, ring.fd, ring.token) if ring is not None else None)
                self._say([m.Credit(seq, self._world.id, first, int(shared))])
            case m.ReaderGone(reader=reader):
                self._streams.reader_gone(reader)
            case m.Withdraw(seqs=seqs):
                self._say([self._ledger.withdraw(seqs)])
            case m.Halt(seq=seq):
                self._halt(seq)
            case m.Free(seq=seq, why=why):
                self._warden.free(seq, why)
                self._say(self._ledger.kept(seq))
            case m.Signal(number=number):
                os.kill(os.getpid(), number)
            case m.Refresh(turn=turn):
                self._world.refresh(turn)
            case m.Heal(epoch=epoch, turn=turn):
                self._heal(epoch, turn)
            case m.Stop(reason=reason):
                self._end_engine(reason)
            case _:
                pass  # Registered

    def _halt(self, seq: int) -> None:
        answer = self._ledger.withdraw([seq] if seq else [])
        if not answer.returned:
            self._warden.halt(seq)
        if seq:
            self._say([answer])

    def _heal(self, epoch: int, turn: int) -> None:
        answer: m.Message
        watchdog = _leave_after(HEAL_TIMEOUT + STOP_GRACE)  # meanwhile this thread hears nobody
        try:
            answer = m.Healed(epoch, self._world.heal(epoch, turn))
        except (WorldBroken, MPI.Exception) as e:
            answer = m.HealFailed(epoch, str(e))
        finally:
            watchdog.cancel()
        self._say([answer])

    def _say(self, messages: list[m.Message]) -> None:
        if not messages:
            return
        with contextlib.suppress(zmq.Again):  # the hub is gone: the monitor says so next
            self._socket.send(frames.pack(messages), zmq.NOBLOCK)
        self._selector.used(self._source)

    def _say_chunk(self, seq: int, offset: int, chunk: memoryview | tuple[int, int, int]) -> None:
        if isinstance(chunk, tuple):
            self._say([m.Chunk(seq, self._world.id, offset, *chunk)])
            return
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart([frames.pack([m.Chunk(seq, self._world.id, offset)]), chunk], zmq.NOBLOCK, copy=False)
        self._selector.used(self._source)

    def _end_engine(self, reason: str) -> None:
        """End: the main thread in good order when it is idle, the process by force after a while."""
        self.reason = reason
        self.stopping.set()
        _leave_after(STOP_GRACE / 2)
        signal.setitimer(signal.ITIMER_REAL, STOP_GRACE)  # should the main thread never let go of the GIL


def _leave_after(seconds: float) -> threading.Timer:
    """End this process by then, whatever its threads do."""
    watchdog = threading.Timer(seconds, _leave)
    watchdog.daemon = True
    watchdog.start()
    return watchdog


def _leave() -> None:
    sys.stderr.flush()
    os._exit(0)
