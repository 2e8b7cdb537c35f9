"""The engine's main thread: takes assignments in the hub's order, runs them, answers in batches.

Two sockets lead to the hub: this thread's, and the control thread's (`engine.control`), which answers while user code
runs.
"""

from __future__ import annotations

import os
import socket as sockets
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq

from mpicluster.engine import collective
from mpicluster.engine.collective import leave_together
from mpicluster.engine.control import Control, Ledger
from mpicluster.engine.exchange import Abandoned, coalesce
from mpicluster.engine.executor import Executor
from mpicluster.engine.namespace import Namespace
from mpicluster.engine.output import Recorder
from mpicluster.engine.streams import PayloadLost, Streams
from mpicluster.engine.warden import Warden
from mpicluster.engine.world import MPI, World, WorldBroken
from mpicluster.errors import UnmetDependency
from mpicluster.selector import Selector
from mpicluster.serial.failure import bind_capture, capture
from mpicluster.wire import frames
from mpicluster.wire import messages as m

__all__ = ["Engine"]

#: Results of short tasks are sent together, this late at most while the next tasks run.
_BATCH_TIME = 0.001
#: How long a task waits for a new communicator, which is there in milliseconds unless an engine is deaf.
_TURN_WITHIN = 5.0
#: A flag as a plain number costs less than pyzmq's enum.
_NOBLOCK = int(zmq.NOBLOCK)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, m.Done])


class Engine:
    """The main thread of one engine."""

    def __init__(self, world: World, door: Any, threads: int) -> None:
        """``door(identity, context)`` returns a socket and the address to connect it to.

        Raises
        ------
        ConnectionError
            the hub is gone, or has refused this engine.
        """
        self.world = world
        self.info = m.EngineInfo(world.id, world.rank, sockets.gethostname(), os.getpid(), threads, world.number)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket, address = door(b"e%dm" % world.id, self._context)
        self._socket.connect(address)
        self.ledger = Ledger()
        self.streams = Streams()
        self.recorder = Recorder()
        self.warden = Warden(world)
        register = m.Register(self.info, "main", world.library(), world.survives())
        try:
            self._socket.send(frames.pack([register]), _NOBLOCK)
            self.control = Control(
                world,
                self.info,
                door(b"e%dc" % world.id, self._context),
                self.ledger,
                self.streams,
                self.recorder,
                self.warden,
                self._context,
            )
        except zmq.Again:  # it has closed the connection: there is nobody to wait for
            raise ConnectionError("the hub is gone, or has refused this engine; its log says which") from None
        self._selector = Selector()
        self._source = self._selector.register(self._socket)
        self._selector.register(self.control.end_of_waits)
        self.namespace = Namespace(self.recorder, self.warden.held)
        self._give_names()
        self._epoch_given = world.epoch
        self._executor = Executor(self.namespace, self.warden, lambda error: self._failure("arrays", error))
        bind_capture(lambda error: self._failure("map", error))
        self._queue: deque[m.Assign | m.Forget] = deque()
        self._last_sent = 0.0

    def _give_names(self) -> None:
        self.namespace.give(comm=self.world.comm, rank=self.world.rank, size=self.world.size)

    def run(self) -> str:
        """Serve until the cluster ends; returns why it did."""
        self.warden.install()
        self.control.start()
        try:
            while not self.control.stopping.is_set():
                if not self._queue:
                    self._flush()
                self._receive(wait=not self._queue)
                if self._queue:
                    self._step(self._queue.popleft())
        except _Stopping:
            pass
        return self.control.reason

    # -- messages ----------------------------------------------------------------------------------------------------

    def _receive(self, *, wait: bool) -> list[m.Enter | m.Abandon]:
        """Take what the hub has sent: assignments are queued, answers to `Ready` returned."""
        answers: list[m.Enter | m.Abandon] = []
        if wait:
            come = self._source in self._selector.wait()  # the control thread ends this wait when the hub is gone
            if self.control.stopping.is_set():
                raise _Stopping
        else:
            come = self._source.readable()
        while come:
            head = self._socket.recv(_NOBLOCK)
            for message in frames.from_hub_to_engine.unpack(head):
                if isinstance(message, m.Assign | m.Forget):
                    if isinstance(message, m.Assign) and message.fn_id and message.fn:
                        self._executor.learn(message.fn_id, message.fn)
                    self._queue.append(message)
                elif isinstance(message, m.Enter | m.Abandon):
                    answers.append(message)
            come = self._source.readable()
        return answers

    def _flush(self) -> None:
        waiting = self.ledger.take_outbox()
        if waiting:
            try:
                self._socket.send(frames.pack(waiting), _NOBLOCK)
                self._selector.used(self._source)
            except zmq.Again:  # nothing limits what waits here, but there is no hub; the control thread knows
                self._selector.wait()
                raise _Stopping from None
        self._last_sent = time.monotonic()

    # -- one assignment ----------------------------------------------------------------------------------------------

    def _step(self, message: m.Assign | m.Forget) -> None:
        if isinstance(message, m.Forget):
            self._executor.forget(message.fn_ids, message.client)
            return
        if not self.ledger.begin(message.seq):
            self.streams.drop(message.seq)
            self.warden.passed(message.seq)
            return
        done = self._perform(message)
        batching = bool(self._queue) and time.monotonic() - self._last_sent < _BATCH_TIME
        if done is not None:
            self.ledger.put(done)
        if not batching:
            self._flush()
        else:
            self.control.watch_outbox()

    def _perform(self, task: m.Assign) -> m.Done | None:
        self.world.adopt(task.turn, _TURN_WITHIN)
        if self.world.epoch != self._epoch_given:
            self._epoch_given = self.world.epoch
            self._give_names()
        started = time.time()
        outcome, data, sizes = m.OK, b"", []
        door = _Door(self, task)
        self.recorder.begin(task.seq)
        self.warden.begin(task.seq, task.time_limit)
        try:
            result = self._executor.run(task, door)
            started = result.started
            data, sizes = result.payload.data, result.payload.sizes
            if sizes:
                self.streams.offer(task.seq, result.payload.buffers)
        except Abandoned:
            outcome = m.ABANDONED
        except WorldBroken as e:
            outcome, data = m.LOST, f"an engine died during this {task.collective}: {e}".encode()
        except PayloadLost as e:
            outcome, data = m.LOST, str(e).encode()
        except _Stopping:
            raise
        except UnmetDependency as e:
            outcome, data = m.UNMET, self._failure(task.kind, e)
        except BaseException as e:  # noqa: BLE001 - user code may raise anything
            outcome, data = self._failed(task, e)
        finally:
            before, output, outputs = self.recorder.end()
        if task.sizes:
            self.streams.drop(task.seq)
        for message in before:
            self.ledger.put(message)
            self._flush()  # together they may be too large
        revoked = self.world.revoked if outcome != m.OK or self.warden.freed else -1
        done = m.Done(task.seq, outcome, data, sizes, started, time.time(), output, outputs, revoked)
        try:
            return self._coalesced(done, door) if task.collective == "coalesce" and door.met else done
        finally:
            self.warden.end()

    def _coalesced(self, done: m.Done, door: _Door) -> m.Done | None:
        """Have the first engine tell for all that did well. What did not go well is told at once, since others may wait for it.

        A result is told twice rather than never: the hub hears the second as nothing.
        """
        well = done.outcome == m.OK
        told = not well

        def tell_all(pieces: list[bytes]) -> None:
            self.ledger.put(m.Dones([_decoder.decode(piece) for piece in pieces if piece]))
            self._flush()

        def tell_alone() -> None:
            nonlocal told
            if not told and self.warden.doomed(done.seq):  # one of the others is not to be waited for
                told = True
                self.ledger.put(done)
                self._flush()
                self.control.stuck_in(done.seq)

        if not well:
            self.ledger.put(done)
            self._flush()
        else:
            self.ledger.keep(done)
        try:
            with collective.napping(tell_alone):
                coalesce(door, _encoder.encode((self.info.id, done)) if well else b"", tell_all)
        except (WorldBroken, Abandoned, MemoryError):
            return done  # each for itself then
        return done if well and told else None

    def _failed(self, task: m.Assign, error: BaseException) -> tuple[int, bytes]:
        """What to say of an assignment that raised: that it did, or that something else is the cause."""
        reason, revoked = self.warden.reason, self.world.explains(error)
        if reason and (revoked or isinstance(error, KeyboardInterrupt)):
            if self.warden.overdue:
                return m.LATE, f"{reason} on engine {self.info.id}".encode()
            error = error if isinstance(error, KeyboardInterrupt) else KeyboardInterrupt(reason).with_traceback(error.__traceback__)
        elif revoked:
            return m.ABANDONED, b""
        return m.FAILED, self._failure(task.kind, error)

    def _failure(self, kind: str, error: BaseException) -> bytes:
        where: dict[str, int | str] = {
            "engine_id": self.info.id,
            "rank": self.world.rank,
            "host": self.info.host,
            "pid": self.info.pid,
            "method": kind,
        }
        try:
            _advise(error)
            return capture(error, where, self.namespace.render(error))
        except BaseException as e:  # noqa: BLE001 - a class of the user's may do anything, and this engine goes on
            text = f"a {type(error).__name__} was raised that cannot be described: that failed with {type(e).__name__}"
            return capture(RuntimeError(text), where)

    def close(self) -> None:
        """Close the sockets, after the control thread ended."""
        self.control.join()
        self._selector.close()
        self.control.end_of_waits.close(linger=0)
        self._socket.close(linger=1000)
        self._context.term()


class _Stopping(Exception):
    """The cluster ends."""


class _Door:
    """Where one assignment meets its other targets: the hub says when all are there."""

    def __init__(self, engine: Engine, task: m.Assign) -> None:
        self._engine = engine
        self._task = task
        self._comm: MPI.Intracomm | None = None
        self._answer = task.enter  # what the hub knew without being asked

    @property
    def met(self) -> bool:
        """Whether the targets have met."""
        return self._comm is not None

    @property
    def comm(self) -> MPI.Intracomm:
        assert self._comm is not None
        return self._comm

    @property
    def position(self) -> int:
        return self._task.targets.index(self._engine.world.id)

    def bulk(self) -> Sequence[Any]:
        return self._engine.streams.take(self._task.seq)

    def _enter(self, meta: bytes) -> m.Enter:
        """Say that this engine is here, and wait until all are."""
        engine, seq = self._engine, self._task.seq
        engine.ledger.put(m.Ready(seq, meta))
        engine._flush()
        while True:
            for answer in engine._receive(wait=True):
                if answer.seq != seq:
                    continue  # of a collective that is over
                if isinstance(answer, m.Abandon):
                    raise Abandoned
                self._answer = answer
                return answer

    def meet(self, meta: bytes) -> tuple[MPI.Intracomm, list[bytes]]:
        answer = self._enter(meta)
        self._comm = self._engine.world.group(self._task.targets, answer.epoch, keep=answer.keep)
        return self._comm, [meta for count, meta in answer.metas for _ in range(count)]

    def enter_gang(self) -> MPI.Intracomm:
        answer, engine = self._answer or self._enter(b""), self._engine
        world = engine.world
        if world.epoch != answer.epoch:
            raise WorldBroken("an engine died")
        try:
            world.enter_gang(self._task.targets, fresh=answer.fresh, keep=answer.keep)
        except MPI.Exception as e:
            if world.broken.is_set():
                raise WorldBroken(str(e)) from e
            raise Abandoned from e  # one was in it, and has failed already
        engine.namespace.give(rank=world.comm.rank, size=world.comm.size)
        return world.comm

    def leave_gang(self, *, well: bool) -> None:
        assert self._answer is not None
        self._engine.world.leave_gang(well=well, keep=self._answer.keep)
        self._engine._give_names()

    def part(self) -> None:
        if self._comm is None:
            return  # they have not met
        leave_together(self._comm)
        self._engine.world.release()


def _advise(error: BaseException) -> None:
    """Add to the commonest first errors what to do about them."""
    if isinstance(error, MPI.Exception):
        error.add_note("hint: if a rank died, `comm` is a new communicator, of the survivors, in the next task")
    if isinstance(error, NameError) and error.name:
        error.add_note(
            f"hint: {error.name!r} is looked up on the engine: push it there (view[{error.name!r}] = ...), "
            f"or import it there (view.execute('import ...'), or `with view.sync_imports():`)"
        )
    elif isinstance(error, ModuleNotFoundError):
        error.add_note("hint: engines import from their own environment and folder; the module must be installed or on PYTHONPATH there")
