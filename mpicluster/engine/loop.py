"""The engine's main thread: takes assignments in the hub's order, runs them, answers in batches.

Two sockets lead to the hub: this thread's, and the control thread's (`engine.control`), which answers while user code
runs.
"""

from __future__ import annotations

import os
import signal
import socket as sockets
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from mpicluster.engine.collective import leave_together
from mpicluster.engine.control import Control, Ledger
from mpicluster.engine.exchange import Abandoned
from mpicluster.engine.executor import Executor
from mpicluster.engine.namespace import Namespace
from mpicluster.engine.output import Recorder
from mpicluster.engine.streams import PayloadLost, Streams
from mpicluster.engine.world import MPI, World, WorldBroken
from mpicluster.selector import Selector
from mpicluster.serial.failure import capture
from mpicluster.wire import frames
from mpicluster.wire import messages as m

__all__ = ["Engine"]

#: Results of short tasks are sent together, this late at most while the next tasks run.
_BATCH_TIME = 0.001
#: A flag as a plain number costs less than pyzmq's enum.
_NOBLOCK = int(zmq.NOBLOCK)


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
        self.info = m.EngineInfo(world.id, world.rank, sockets.gethostname(), os.getpid(), threads)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket, address = door(b"e%dm" % world.id, self._context)
        self._socket.connect(address)
        self.ledger = Ledger()
        self.streams = Streams()
        self.recorder = Recorder()
        register = m.Register(self.info, "main", world.library(), world.survives())
        try:
            self._socket.send(frames.pack([register]), _NOBLOCK)
            self.control = Control(
                world, self.info, door(b"e%dc" % world.id, self._context), self.ledger, self.streams, self.recorder, self._context
            )
        except zmq.Again:  # it has closed the connection: there is nobody to wait for
            raise ConnectionError("the hub is gone, or has refused this engine; its log says which") from None
        self._selector = Selector()
        self._source = self._selector.register(self._socket)
        self._selector.register(self.control.end_of_waits)
        self.namespace = Namespace(self.recorder)
        self._give_names()
        self._epoch_given = world.epoch
        self._executor = Executor(self.namespace)
        self._queue: deque[m.Assign | m.Forget] = deque()
        self._last_sent = 0.0

    def _give_names(self) -> None:
        self.namespace.give(comm=self.world.comm, rank=self.world.rank, size=self.world.size)

    def run(self) -> str:
        """Serve until the cluster ends; returns why it did."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it comes from the launcher, when that is interrupted: end
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
            self._executor.forget(message.fn_ids)
            return
        if not self.ledger.begin(message.seq):
            self.streams.drop(message.seq)
            return
        done = self._perform(message)
        batching = bool(self._queue) and time.monotonic() - self._last_sent < _BATCH_TIME
        self.ledger.put(done)
        if not batching:
            self._flush()
        else:
            self.control.watch_outbox()

    def _perform(self, task: m.Assign) -> m.Done:
        if self.world.epoch != self._epoch_given:
            self._epoch_given = self.world.epoch
            self._give_names()
        started = time.time()
        outcome, data, sizes = m.OK, b"", []
        self.recorder.begin(task.seq)
        try:
            result = self._executor.run(task, _Door(self, task))
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
        except BaseException as e:  # noqa: BLE001 - user code may raise anything
            outcome, data = m.FAILED, self._failure(task, e)
        finally:
            before, output, outputs = self.recorder.end()
        if task.sizes:
            self.streams.drop(task.seq)
        for message in before:
            self.ledger.put(message)
        return m.Done(task.seq, outcome, data, sizes, started, time.time(), output, outputs)

    def _failure(self, task: m.Assign, error: BaseException) -> bytes:
        where: dict[str, int | str] = {
            "engine_id": self.info.id,
            "rank": self.world.rank,
            "host": self.info.host,
            "pid": self.info.pid,
            "method": task.kind,
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

    @property
    def position(self) -> int:
        return self._task.targets.index(self._engine.world.id)

    def bulk(self) -> Sequence[Any]:
        return self._engine.streams.take(self._task.seq)

    def meet(self, meta: bytes) -> tuple[MPI.Intracomm, list[bytes]]:
        engine, seq = self._engine, self._task.seq
        engine.ledger.put(m.Ready(seq, meta))
        engine._flush()
        while True:
            for answer in engine._receive(wait=True):
                if answer.seq != seq:
                    continue  # of a collective that is over
                if isinstance(answer, m.Abandon):
                    raise Abandoned
                metas = [meta for count, meta in answer.metas for _ in range(count)]
                self._comm = engine.world.group(self._task.targets, answer.epoch, keep=answer.keep)
                return self._comm, metas

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
