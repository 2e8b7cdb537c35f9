"""What a call gives back: a `concurrent.futures.Future` of one value, or of one for each engine or item.

Answers are kept as bytes until somebody asks: unpickling happens in the thread that wants the value.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from mpicluster.client.metadata import Metadata, Written
from mpicluster.errors import EngineError, RemoteError, TaskAborted
from mpicluster.ids import task_id
from mpicluster.serial.failure import compose, restore
from mpicluster.serial.payload import decode
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["AsyncMapResult", "AsyncResult", "Reply", "moment"]

#: results that somebody is to be told of: they, and their clients, are kept until then
_awaited: set[Future[Any]] = set()
_STATUS = {m.OK: "ok", m.ABORTED: "aborted", m.LOST: "lost"} | dict.fromkeys((m.FAILED, m.ABANDONED, m.UNMET, m.REFUSED, m.LATE), "error")
_METADATA = frozenset(Metadata()) - {"label"}


class Reply(NamedTuple):
    """What became of one slot of a result."""

    message: m.Result
    #: its bulk payload
    buffers: Sequence[Any]
    received: float


class AsyncResult(Future[Any]):
    """The result of a call, now or later.

    A *slot* is what one engine (or one task of a map) answers. ``get()`` gives one value for a call on a single engine,
    a list in the order of the targets otherwise.

    Failures: one failed slot raises its error; several raise a `CompositeError`. Thread-safe.
    """

    def __init__(self, client: Client, name: str, slots: int, *, single: bool, assemble: Callable[[list[Any]], Any] | None = None) -> None:
        super().__init__()
        self._client = client
        self._name = name
        self._single = single
        self._assemble = assemble
        self._replies: list[Reply | None] = [None] * slots
        #: slots that are empty
        self._missing = set(range(slots))
        #: whether somebody is to be called back
        self.watched = False
        #: guards the slots; notified at each arrival, and by Future at the end
        self._arrival: threading.Condition = self._condition
        #: why slots that are empty stay so
        self._ended: Exception | None = None
        self._decoded = False
        #: of each slot, and of the whole
        self._values: list[Any] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self._decoding = threading.Lock()
        self._submitted = time.time()
        #: what slots have written, and the same in the order in which it came, if somebody follows it
        self._written: dict[int, Written] = {}
        self.log: deque[tuple[int, m.Piece]] | None = None
        #: the client's numbers of its tasks: runs of slots, each with the first of them and the engines if it is one for several
        self._runs: list[tuple[int, int, Sequence[int] | None]] = []
        #: a person's word for it
        self.label = ""

    # -- the client's side -------------------------------------------------------------------------------------------

    def _deliver(self, slot: int, reply: Reply) -> None:
        """Fill a slot. A second time changes nothing: the first may have been interrupted."""
        with self._arrival:
            if self._ended is not None or self.done():
                return
            if self._replies[slot] is None:
                self._replies[slot] = reply
                if reply.message.output:
                    self._keep(slot, reply.message.output)
            self._missing.discard(slot)
            if self._missing:
                self._arrival.notify_all()
                return
        if all(r is not None and r.message.outcome == m.ABORTED for r in self._replies):
            super().cancel()
            self.set_running_or_notify_cancel()
        else:
            self.set_result(None)  # the value itself is decoded by whoever asks

    def _write(self, slot: int, pieces: Sequence[m.Piece]) -> None:
        """A slot's task writes while it runs."""
        with self._arrival:
            self._keep(slot, pieces)
            self._arrival.notify_all()

    def _keep(self, slot: int, pieces: Sequence[m.Piece]) -> None:
        self._written.setdefault(slot, Written()).add(pieces)
        if self.log is not None:
            self.log.extend((slot, piece) for piece in pieces)

    def _number(self, slot: int, task: int, engines: Sequence[int] | None = None) -> None:
        """The slots from this one on have the tasks from ``task`` on; or they are the engines' parts of one task."""
        self._runs.append((slot, task, engines))

    def _tasks(self) -> list[int]:
        """The client's numbers of its tasks."""
        tasks: list[int] = []
        ends = [slot for slot, _, _ in self._runs[1:]] + [len(self._replies)]
        for (slot, task, engines), end in zip(self._runs, ends, strict=True):
            tasks.extend([task] if engines is not None else range(task, task + end - slot))
        return tasks

    def _id_of(self, slot: int) -> str | None:
        position = bisect.bisect_right(self._runs, slot, key=lambda run: run[0]) - 1
        if position < 0:
            return None
        start, task, engines = self._runs[position]
        if engines is None:
            return task_id(self._client.id, task + slot - start)
        return task_id(self._client.id, task, engines[slot - start])

    @property
    def msg_ids(self) -> list[str]:
        """Ids of the tasks, in order of slots: unique for ever, and known to the hub's history."""
        return [i for i in map(self._id_of, range(len(self._replies))) if i is not None]

    def _fail(self, error: Exception) -> None:
        """No answer will come any more; called in the listening thread, or by `close`."""
        with self._arrival:
            if not self._missing:
                return
            self._ended = error
            self._arrival.notify_all()
        if not self.done():
            self.set_exception(error)

    # -- values ------------------------------------------------------------------------------------------------------

    def _decode_slot(self, reply: Reply) -> Any:
        message = reply.message
        if message.outcome == m.OK:
            return decode(message.data, reply.buffers, f"the result of {self._name}")
        if message.outcome == m.FAILED:
            data = b"".join(bytes(b) for b in reply.buffers) if reply.buffers else message.data
            raise restore(data)
        if message.outcome == m.ABORTED:
            raise TaskAborted(f"{self._name} was cancelled before it started")
        if message.outcome == m.ABANDONED:
            raise _Abandoned(f"engine {message.engine} gave up {self._name}: another engine did not come to the collective")
        raise EngineError(message.data.decode(errors="replace"))

    def _resolve(self) -> None:
        with self._decoding:
            if self._decoded:
                return
            if self._ended is not None:
                self._error, self._decoded = self._ended, True
                return
            values: list[Any] = []
            errors: list[Exception] = []
            for reply in self._replies:
                assert reply is not None
                try:
                    values.append(self._decode_slot(reply))
                except Exception as e:  # noqa: BLE001 - the remote failure, of any type
                    errors.append(e)
            causes = [e for e in errors if not isinstance(e, _Abandoned)] or errors
            if causes:
                self._error = causes[0] if self._single else self._compose(causes)
            else:
                self._values = values
                try:
                    self._value = self._put_together(values)
                except Exception as e:  # noqa: BLE001 - parts that do not fit together, of any type
                    self._error = e
            self._decoded = True

    def _compose(self, causes: list[Exception]) -> Exception:
        engines = {r.message.engine for r in self._replies if r is not None}
        noun = "engines" if len(engines) == len(self._replies) else "tasks"
        return compose(causes, self._name, len(self._replies), noun)

    def _put_together(self, values: list[Any]) -> Any:
        if self._assemble is not None:
            return self._assemble(values)
        return values[0] if self._single else values

    def result(self, timeout: float | None = None) -> Any:
        """The value, when it is there.

        Raises
        ------
        TimeoutError
            not within ``timeout`` seconds.
        RemoteError
            the function raised; also of the type that it raised. A `CompositeError` unless this is of one task.
        EngineError
            the engine died.
        TaskAborted
            the task was cancelled.
        """
        self._wait(timeout)
        self._resolve()
        if self._error is not None:
            raise self._error
        return self._value

    get = result

    def _wait(self, timeout: float | None) -> None:
        if not self.done() and self._client._connection.in_listener:
            raise RuntimeError("waiting for a result here would wait forever: this thread is the one that receives it")
        if timeout is not None and timeout < 0:
            timeout = None
        if not self._client._wait_until(self.done, self._arrival, timeout):
            raise TimeoutError(f"{self!r} is not ready after {timeout} s: {self.progress} of {len(self)} done")

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error, None if there is none; waits like `result`."""
        self._wait(timeout)
        if self.cancelled():
            super().exception(0)  # raises, as Future has it
        self._resolve()
        return self._error

    @property
    def r(self) -> Any:
        """`get` as a property."""
        return self.result()

    def running(self) -> bool:
        """Whether it is not done: what has begun, only the engines know."""
        return not self.done()

    def ready(self) -> bool:
        """Whether it is done, well or not."""
        return self.done()

    def successful(self) -> bool:
        """Whether it is done without an error.

        Raises
        ------
        RuntimeError
            it is not done.
        """
        if not self.done():
            raise RuntimeError(f"{self!r} is not ready")
        return not self.cancelled() and self.exception() is None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait (at most ``timeout`` seconds); whether it is done. Never raises what the function raised."""
        try:
            self._wait(timeout)
        except TimeoutError:
            return False
        return True

    # -- parts -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def progress(self) -> int:
        """How many of ``len(self)`` are done."""
        return len(self._replies) - len(self._missing)

    def __getitem__(self, index: int | slice | str) -> Any:
        if isinstance(index, str):
            return getattr(self, index)
        if not self.done():
            raise TimeoutError(f"{self!r} is not ready; wait for it, or iterate over it")
        value = self.result()
        return [value][index] if self._single else value[index]

    def __iter__(self) -> Iterator[Any]:
        """Each slot's value, in order, as they come."""
        if self._single or self._assemble is not None:
            yield from self.result()
            return
        for slot in range(len(self._replies)):
            yield self._decode_slot(self._await_slot(slot))

    def _await_slot(self, slot: int) -> Reply:
        self._client._wait_until(lambda: self._replies[slot] is not None or self._ended is not None, self._arrival, None)
        reply = self._replies[slot]
        if reply is None:
            assert self._ended is not None
            raise self._ended
        return reply

    def get_dict(self, timeout: float | None = None) -> dict[int, Any]:
        """``{engine: value}``.

        Raises
        ------
        ValueError
            one engine has given several of the values, or all of them have given one together.
        """
        self.result(timeout)
        engines = [r.message.engine for r in self._replies if r is not None]
        if len(set(engines)) != len(engines):
            raise ValueError(f"an engine has more than one of the {len(engines)} results; use get()")
        if self._assemble is not None:
            raise ValueError(f"the result of {self._name} belongs to all engines together; use get()")
        return dict(zip(engines, self._values, strict=True))

    @property
    def result_dict(self) -> dict[int, Any]:
        """`get_dict` as a property."""
        return self.get_dict()

    # -- time and place ----------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> Any:
        """What is known of each slot: a `Metadata`, or a list of them."""
        records = [self._record(i, r) for i, r in enumerate(self._replies)]
        return records[0] if self._single else records

    def _record(self, slot: int, reply: Reply | None) -> Metadata:
        record = Metadata(msg_id=self._id_of(slot), submitted=moment(self._submitted), label=self.label or None)
        if reply is not None:
            x = reply.message
            record.update(engine_id=x.engine if x.engine >= 0 else None, status=_STATUS[x.outcome])
            record.engine_uuid = f"{self._client.contact.cluster}-{x.engine}" if x.engine >= 0 else None
            record.update(started=moment(x.started), completed=moment(x.completed), received=moment(reply.received))
            if x.outcome not in (m.OK, m.ABORTED):
                record.error = self._error_of(reply)
        written = self._written.get(slot)
        if written is not None:
            displayed = written.displayed
            results = [d for d in displayed if d["output_type"] == "execute_result"]
            record.update(stdout=written.stdout, stderr=written.stderr, data=written.data)
            record.outputs = [d for d in displayed if d["output_type"] != "execute_result"]
            record.execute_result = results[-1] if results else None
        return record

    def _error_of(self, reply: Reply) -> str:
        try:
            self._decode_slot(reply)
        except Exception as e:  # noqa: BLE001 - the remote failure, of any type
            return "\n".join(e.render_traceback()) if isinstance(e, RemoteError) else f"{type(e).__name__}: {e}"
        return ""

    def __getattr__(self, name: str) -> Any:
        if name in _METADATA:
            records = self.metadata
            return records[name] if isinstance(records, dict) else [r[name] for r in records]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def elapsed(self) -> float:
        """Seconds since submission, until now or until the last answer."""
        if not self.done():
            return time.time() - self._submitted
        return self.wall_time

    @property
    def serial_time(self) -> float:
        """Seconds that the engines worked, added up.

        Raises
        ------
        TimeoutError
            it is not ready.
        """
        return sum(r.message.completed - r.message.started for r in self._all())

    @property
    def wall_time(self) -> float:
        """Seconds from submission to the last answer.

        Raises
        ------
        TimeoutError
            it is not ready.
        """
        return max((r.received for r in self._all()), default=self._submitted) - self._submitted

    def _all(self) -> list[Reply]:
        if not self.done():
            raise TimeoutError(f"{self!r} is not ready")
        return [r for r in self._replies if r is not None]

    # -- ending it ---------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Take back what has not started; True if nothing of it had, and so nothing will run.

        What had started runs to its end. Waits for the word of the hub.
        """
        if self.done():
            return self.cancelled()
        return self._client._cancel(self._tasks())

    def abort(self) -> None:
        """`cancel`, but an error when it is done.

        Raises
        ------
        RuntimeError
            it is done.
        """
        if self.done():
            raise RuntimeError(f"{self!r} is done; there is nothing to abort")
        self.cancel()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have ``fn(self)`` called when it is done, in a thread where waiting for other results is allowed."""
        self.watched = True
        if not self.done():
            _awaited.add(self)
            super().add_done_callback(_awaited.discard)
        self._client._connection.resume()
        super().add_done_callback(lambda future: self._client._call_back(fn, future))

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in an event loop. Cancelling the wait takes back what has not started."""
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        loop = asyncio.get_running_loop()
        there: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not there.done():
                there.set_result(None)

        def tell(_result: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                loop.call_soon_threadsafe(wake)

        self.add_done_callback(tell)
        try:
            await there
        except asyncio.CancelledError:
            if not self.done():
                self._client._withdraw(self._tasks())
            raise
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'finished' if self.done() else self._name}>"


class AsyncMapResult(AsyncResult):
    """The results of a map: one for each item, iterable while they come.

    A slot is a chunk of items; ``len`` and ``progress`` count items.
    """

    def __init__(self, client: Client, name: str, sizes: Sequence[int], *, ordered: bool, chunked: bool) -> None:
        super().__init__(client, name, len(sizes), single=False)
        self._sizes = sizes
        self._ordered = ordered
        self._chunked = chunked
        self._order: list[int] = []
        if not sizes:
            self.set_result(None)

    def _deliver(self, slot: int, reply: Reply) -> None:
        with self._arrival:
            if slot in self._missing and (not self._order or self._order[-1] != slot):
                self._order.append(slot)
        super()._deliver(slot, reply)

    def _put_together(self, values: list[Any]) -> Any:
        return [x for part in values for x in part] if self._chunked else values

    def __len__(self) -> int:
        return sum(self._sizes)

    @property
    def progress(self) -> int:
        """How many of ``len(self)`` items are done."""
        with self._arrival:
            return sum(self._sizes[slot] for slot in self._order)

    def __iter__(self) -> Iterator[Any]:
        """Each item's value: in the order of the items, or as they come when made with ``ordered=False``."""
        for k in range(len(self._replies)):
            if self._ordered:
                reply = self._await_slot(k)
            else:
                self._client._wait_until(lambda: len(self._order) > k or self._ended is not None, self._arrival, None)  # noqa: B023
                if len(self._order) <= k:
                    assert self._ended is not None
                    raise self._ended
                reply = self._await_slot(self._order[k])
            value = self._decode_slot(reply)
            if self._chunked:
                yield from value
            else:
                yield value


class _Abandoned(EngineError):
    """A part that only failed because another did."""


def moment(seconds: float) -> datetime | None:
    """Seconds since 1970 as a moment; None for 0."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
