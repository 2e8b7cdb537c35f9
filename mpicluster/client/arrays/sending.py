"""How operations on arrays reach the engines: in the order in which they were asked for, several in one message while others are under way.

An operation is sent very soon when the engines have none of this sender; else it waits until these are done, and goes with all that were
asked for meanwhile. Who needs a value does not wait for that. Everything else that the client asks of engines goes after what was
asked for before it (`Client._submit` sees to that).
"""

from __future__ import annotations

import enum
import queue
import sys
import threading
import weakref
from collections import deque
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from mpicluster.client.result import AsyncResult
from mpicluster.client.view import waited
from mpicluster.errors import ArrayLost, ClusterError, TargetError
from mpicluster.serial.arrayops import Answer, Key, Op, Program, Told
from mpicluster.serial.failure import restore
from mpicluster.serial.payload import encode

if TYPE_CHECKING:
    from mpicluster.client.direct import DirectView

__all__ = ["Batch", "Sender", "called_at"]

#: So many operations are sent even though others are under way, that memory be freed.
_AT_MOST = 512
#: So many messages are looked through for what an array was lost by.
_REMEMBERED = 64
#: An operation waits so many seconds for others that go with it: most often its value is asked for next.
_SENT_AFTER = 0.0002
#: What is not needed any more goes with the next operations, or after so many seconds.
_FREED_AFTER = 0.05
_OWN_FOLDER = __file__.rpartition("/client/")[0] + "/"


def called_at() -> str:
    """File and line of the caller outside this package."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OWN_FOLDER):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Batch:
    """Operations that go in one message. ``result`` is there once they were sent, or ``error``, if they could not be."""

    __slots__ = ("_answer", "error", "ops", "result")

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.result: AsyncResult | None = None
        self.error: Exception | None = None
        self._answer: Answer | None = None

    def told(self, key: int) -> Told:
        """What the engines say of an operation; waits.

        Raises
        ------
        Exception
            what became of the whole batch: an engine died, it was aborted, the cluster ended.
        """
        if self._answer is None:
            if self.error is not None:
                raise self.error
            assert self.result is not None
            self._answer = waited(self.result)
        return self._answer.told[key]

    def done(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.error is not None or (self.result is not None and self.result.done())


class Sender:
    """The operations of one view's arrays, for engines that do not change. Thread-safe."""

    def __init__(self, view: DirectView, engines: list[int]) -> None:
        self.engines = engines
        self._view = view
        #: guards what waits to be sent, and that it is sent in order
        self._lock = threading.RLock()
        self._batch = Batch()
        self._under_way = 0
        #: whether the sending thread knows of what waits
        self._poked = False
        self._next_key = 1
        #: keys of what nobody refers to any more; added to by finalizers, in any thread and at any moment, so without a lock
        self._freed: deque[Key] = deque()
        self._pokes: queue.SimpleQueue[_Poke] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        #: what was sent last, by which losses are explained
        self._recent: deque[AsyncResult] = deque(maxlen=_REMEMBERED)
        view.client._senders.add(self)
        weakref.finalize(self, self._pokes.put, _Poke.STOP)

    def new_key(self) -> int:
        """A key that was not used."""
        with self._lock:
            key, self._next_key = self._next_key, self._next_key + 1
            return key

    def free(self, key: Key) -> None:
        """Nobody refers to this any more. For finalizers."""
        self._freed.append(key)
        self._pokes.put(_Poke.FREED)

    def add(self, op: Op, *, now: bool = False) -> Batch:
        """Ask for an operation; ``now``: somebody waits for it."""
        with self._lock:
            self._take_freed()
            batch = self._batch
            batch.ops.append(op)
            if now or len(batch.ops) >= _AT_MOST:
                self.flush(awaited=now)
            elif not self._under_way and not self._poked:
                self._poked = True
                self._pokes.put(_Poke.ASKED)
            if self._thread is None:
                self._thread = threading.Thread(target=_send, args=(weakref.ref(self), self._pokes), name="mpicluster-arrays", daemon=True)
                self._thread.start()
        return batch

    def _take_freed(self) -> None:
        keys = []
        while self._freed:
            keys.append(self._freed.popleft())
        if keys:
            self._batch.ops.append(Op(0, (), "=free", tuple(keys), {}, tell=False, where=""))

    def flush(self, *, awaited: bool = False) -> None:
        """Send all that was asked for; ``awaited``: the caller is about to wait for it."""
        with self._lock:
            self._take_freed()
            batch = self._batch
            if not batch.ops:
                return
            self._batch = Batch()
            program = Program(self._view.client.id, batch.ops)
            self._under_way += 1
            try:
                batch.result = self._view._call(
                    "arrays",
                    "arrays",
                    lambda limit: (b"", encode(program, limit, "an operand")),
                    targets=self.engines,
                    block=False,
                    collective="spmd",
                )
            except TargetError as e:
                batch.error = ArrayLost(f"{e}: arrays that had a part there are lost; rc.xp has the engines that there are now")
            except ClusterError as e:
                batch.error = e
            if batch.error is not None:
                self._under_way -= 1
            batch.ops = []
        if batch.result is not None:
            self._recent.append(batch.result)
            if awaited:
                batch.result._then(self._on_done)
            else:
                batch.result._watch(self._on_done)

    def flush_if_idle(self) -> None:
        """Send what waits, unless the engines have work of this sender: it goes after that."""
        with self._lock:
            self._poked = False
            if not self._under_way:
                self.flush()

    def _on_done(self, _result: Any) -> None:
        """A batch is done: send what has come together."""
        with self._lock:
            self._under_way -= 1
            if not self._under_way:
                self.flush()

    def value(self, batch: Batch, key: int) -> Any:
        """What an operation gave, as it was told: waits, and raises what it raised."""
        with self._lock:
            if batch is self._batch:
                self.flush(awaited=True)
        told = batch.told(key)
        if told.kind != "error":
            return told
        error = restore(told.value)
        if isinstance(error, ArrayLost):
            failures = [_failure_of(r) for r in list(self._recent) if r.done()]
            raise error from next((f for f in reversed(failures) if f is not None), None)
        raise error


def _failure_of(result: AsyncResult) -> BaseException | None:
    """Why a message as a whole was not worked off, if it was not."""
    try:
        result.get(0)
    except (ClusterError, CancelledError) as e:
        return e
    return None


class _Poke(enum.Enum):
    """Why the sending thread is woken."""

    ASKED = 0
    FREED = 1
    STOP = 2


def _send(sender: weakref.ref[Sender], pokes: queue.SimpleQueue[_Poke]) -> None:
    """Send what was asked for, if nobody has meanwhile; have freed what nobody refers to, when no operation takes it along."""
    word = pokes.get()
    while word is not _Poke.STOP:
        try:
            word = pokes.get(timeout=_SENT_AFTER if word is _Poke.ASKED else _FREED_AFTER)
        except queue.Empty:
            here = sender()
            if here is None:
                return
            here.flush_if_idle()
            del here
            word = pokes.get()
