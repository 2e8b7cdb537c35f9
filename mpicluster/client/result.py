"""What a call gives back: a `concurrent.futures.Future` of one value, or of one for each engine or item.

Answers are kept as bytes until somebody asks: unpickling happens in the thread that wants the value.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Future
from typing import TYPE_CHECKING, Any

from mpicluster.client.executed import ExecuteReply
from mpicluster.client.metadata import Written
from mpicluster.client.parts import join, split
from mpicluster.client.record import Recorded
from mpicluster.client.replies import replies
from mpicluster.client.reply import Abandoned, Reply, value_of_reply
from mpicluster.serial.failure import compose
from mpicluster.serial.payload import Executed
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mpicluster.client.client import Client
    from mpicluster.client.feed import Feed

__all__ = ["AsyncResult"]

#: results that somebody is to be told of: they, and their clients, are kept until then
_awaited: set[Future[Any]] = set()


class AsyncResult(Recorded, Future[Any]):
    """The result of a call, now or later.

    A *slot* is what one engine (or one task of a map) answers. ``get()`` gives one value for a call on a single engine,
    a list in the order of the targets otherwise.

    Failures: one failed slot raises its error; several raise a `CompositeError`. Thread-safe.
    """

    #: whether failures are given as values
    _return_exceptions = False
    #: results of one slot each, once it was split
    _parts: tuple[AsyncResult, ...] = ()
    #: IPython Parallel's word for whether a client forgets a result that was had; this one keeps none
    owner = True

    def __init__(self, client: Client, name: str, slots: int, *, single: bool, assemble: Callable[[list[Any]], Any] | None = None) -> None:
        super().__init__()
        self._client = client
        self._name = name
        self._single = single
        self._assemble = assemble
        self._replies = replies(slots)
        #: how many slots are empty
        self._missing = slots
        #: what is not sent yet, if it is too much for the hub at a time
        self._feed: Feed | None = None
        #: whether somebody is to be called back
        self.watched = False
        #: guards the slots; notified at each arrival, and by Future at the end
        self._arrival: threading.Condition = self._condition
        #: why slots that are empty stay so
        self._ended: Exception | None = None
        #: whether a slot did not end well
        self._failed = False
        #: called at each arrival
        self._followers: list[Callable[[], object]] = []
        self._decoded = False
        #: of each slot, and of the whole
        self._values: list[Any] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self._decoding = threading.Lock()
        #: what slots write, in the order in which it comes, if somebody follows it
        self.log: deque[tuple[int, m.Piece]] | None = None
        #: results that have some of these slots too, under numbers of their own
        self._sharing: dict[int, list[tuple[AsyncResult, int]]] = {}

    # -- the client's side -------------------------------------------------------------------------------------------

    def _deliver(self, slot: int, reply: Reply) -> None:
        """Fill a slot. A second time changes nothing: the first may have been interrupted."""
        with self._arrival:
            if self._ended is None and not self.done():
                if self._replies[slot] is None:
                    self._fill(slot, reply)
                    self._places.pop(slot, None)
                    if reply.message.output:
                        self._keep(slot, reply.message.output)
                self._failed |= reply.message.outcome != m.OK
                if self._missing:
                    self._arrival.notify_all()
                    for tell in self._followers:
                        tell()
                else:
                    self._finish()
            sharing = self._sharing.get(slot, ()) if self._sharing else ()
        for result, own in sharing:
            result._deliver(own, reply)
        if self._feed is not None:
            self._feed.go_on(len(self._replies) - self._missing)

    def _fill(self, slot: int, reply: Reply) -> None:
        self._replies[slot] = reply
        self._missing -= 1

    def _finish(self) -> None:
        """All slots are filled."""
        if all(r is not None and r.message.outcome == m.ABORTED for r in self._replies):
            super().cancel()
            self.set_running_or_notify_cancel()
        elif self._failed and not self._return_exceptions:
            self.set_exception(_Somewhere())  # for who waits for the first exception; the error itself is decoded by whoever asks
        else:
            self.set_result(None)  # likewise the value

    def _write(self, slot: int, pieces: Sequence[m.Piece], engine: int) -> None:
        """A slot's task writes while it runs on that engine."""
        with self._arrival:
            self._places[slot] = engine
            self._keep(slot, pieces)
            self._arrival.notify_all()
            sharing = self._sharing.get(slot, ()) if self._sharing else ()
        for result, own in sharing:
            result._write(own, pieces, engine)

    def _keep(self, slot: int, pieces: Sequence[m.Piece]) -> None:
        self._written.setdefault(slot, Written()).add(pieces)
        if self.log is not None:
            self.log.extend((slot, piece) for piece in pieces)

    def _slot_error(self, slot: int) -> Exception | None:
        """What a slot failed with; None for what only failed because another did."""
        reply = self._replies[slot]
        if reply is None or reply.message.outcome in (m.OK, m.ABANDONED):
            return None
        try:
            self._decode_slot(reply)
        except Exception as e:  # noqa: BLE001 - the remote failure, of any type
            return e
        return None

    def _fail(self, error: Exception) -> None:
        """No answer will come any more; called in the listening thread, or by `close`."""
        with self._arrival:
            if not self._missing:
                return
            self._ended = error
            self._feed = None
            self._arrival.notify_all()
            sharing = [result for shared in self._sharing.values() for result, _ in shared]
        if not self.done():
            self.set_exception(error)
        for result in sharing:
            result._fail(error)

    # -- values ------------------------------------------------------------------------------------------------------

    def _decode_slot(self, reply: Reply) -> Any:
        balanced = bool(self._runs) and self._runs[0][2] is None
        value = value_of_reply(reply, self._name, balanced=balanced)
        return self._executed(reply, value) if type(value) is Executed else value

    def _executed(self, reply: Reply, value: Executed) -> ExecuteReply:
        same = [slot for slot in self._slots_on(reply.message.engine) if self._replies[slot] == reply]
        return ExecuteReply(value.execution_count, self._record(same[0], reply))

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
            causes = [e for e in errors if not isinstance(e, Abandoned)] or errors
            if causes:
                self._error = causes[0] if self._single else self._compose(causes)
                for why in dict.fromkeys(e.why for e in errors if isinstance(e, Abandoned) and e.why and e not in causes):
                    self._error.add_note(why)
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
        if self._error is None:
            return self._value
        if self._return_exceptions:
            return self._with_exceptions()
        raise self._error

    def get(self, timeout: float | None = None, return_exceptions: bool | None = None, return_when: str | None = None) -> Any:
        """`result`, with more to be said.

        Parameters
        ----------
        return_exceptions
            whether failures are given as values, at their places, and not raised. A part of a map that failed as a whole (its engine
            died, say) gives its failure for each of its items.
        return_when
            ``FIRST_EXCEPTION``: a failure is raised when the first part fails, while others may be under way.

        Raises
        ------
        ValueError
            ``return_when`` is another word; for the first of several values there is `wait`, and `split`.
        """
        if return_when not in (None, ALL_COMPLETED, FIRST_EXCEPTION):
            raise ValueError(
                f"get(return_when={return_when!r}) has no value to give: use wait(return_when={return_when!r}), "
                "which says which parts are done; or iterate over split()"
            )
        with_exceptions = self._return_exceptions if return_exceptions is None else return_exceptions
        if return_when == FIRST_EXCEPTION and not with_exceptions:
            self._wait_for_some(FIRST_EXCEPTION, timeout)
            if not self.done() and self._failed:
                raise self._compose([e for e in map(self._fate, self._filled()) if isinstance(e, Exception)])
        self._wait(timeout)
        self._resolve()
        if self._error is None:
            return self._value
        if not with_exceptions:
            raise self._error
        return self._with_exceptions()

    def _filled(self) -> list[int]:
        return [slot for slot, reply in enumerate(self._replies) if reply is not None]

    def _fate(self, slot: int) -> Any:
        """The value of a slot, or what became of it instead."""
        reply = self._replies[slot]
        if reply is None:
            return self._ended
        try:
            return self._decode_slot(reply)
        except Exception as e:  # noqa: BLE001 - the remote failure, of any type
            return e

    def _outcome(self, slot: int) -> Any:
        """The same, as it is given for a value."""
        return self._fate(slot)

    def _value_of(self, slot: int, reply: Reply) -> Any:
        """What iteration gives for a slot."""
        return self._outcome(slot) if self._return_exceptions else self._decode_slot(reply)

    def _with_exceptions(self) -> Any:
        """The value where parts have failed."""
        if self._single or self._assemble is not None:
            return self._error
        return self._put_together([self._outcome(slot) for slot in range(len(self._replies))])

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
        return None if self._return_exceptions else self._error

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

    def wait(self, timeout: float | None = None, return_when: str | None = None) -> Any:
        """Wait (at most ``timeout`` seconds); whether it is done. Never raises what the function raised.

        With ``return_when`` (``FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED``), wait for that, and return the sets of those
        parts (as `split` gives them) that are done, and that are not.
        """
        if return_when is not None:
            if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
                raise ValueError(f"return_when is FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED, not {return_when!r}")
            self._wait_for_some(return_when, timeout)
            parts = self.split()
            done = {part for part in parts if part.done()}
            return done, set(parts) - done
        try:
            self._wait(timeout)
        except TimeoutError:
            return False
        return True

    def _wait_for_some(self, what: str, timeout: float | None) -> None:
        """Wait for a slot, for one that failed, or for all; or until time is over."""
        if not self._reached(what) and self._client._connection.in_listener:
            raise RuntimeError("waiting for a result here would wait forever: this thread is the one that receives it")
        self._client._wait_until(lambda: self._reached(what), self._arrival, None if timeout is None or timeout < 0 else timeout)

    def _reached(self, what: str) -> bool:
        """Whether a slot is filled (``FIRST_COMPLETED``), one has failed (``FIRST_EXCEPTION``), or all are there."""
        if what == FIRST_COMPLETED and self._missing < len(self._replies):
            return True
        return (what == FIRST_EXCEPTION and self._failed) or self.done()

    def wait_for_output(self, timeout: float | None = None) -> bool:
        """`wait`: output is complete when the result is there."""
        return bool(self.wait(timeout))

    @property
    def sent(self) -> bool:
        """Whether what was sent may be changed: always, since a call that does not wait sends a copy."""
        return True

    def wait_for_send(self, timeout: float | None = None) -> bool:
        """Wait until what was sent may be changed: see `sent`."""
        return self.sent

    # -- parts -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def progress(self) -> int:
        """How many of ``len(self)`` are done."""
        return len(self._replies) - self._missing

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
            yield self._value_of(slot, self._await_slot(slot))

    def _await_slot(self, slot: int, timeout: float | None = None) -> Reply:
        if self._replies[slot] is None and not self._client._wait_until(lambda: self._has_reply(slot), self._arrival, timeout):
            raise TimeoutError(f"a value of {self!r} is not there in time: {self.progress} of {len(self)} done")
        reply = self._replies[slot]
        if reply is None:
            assert self._ended is not None
            raise self._ended
        return reply

    def _has_reply(self, slot: int) -> bool:
        return self._replies[slot] is not None or self._ended is not None

    @property
    def slots(self) -> int:
        """How many tasks it is of, or engines if it is one task for several."""
        return len(self._replies)

    def _has(self, k: int) -> bool:
        """Whether iteration could give what it gives ``k``-th."""
        if self._single or self._assemble is not None:
            return self.done()
        return self._replies[k] is not None or self._ended is not None

    def _values_at(self, k: int) -> Iterator[Any]:
        """What iteration gives ``k``-th, which is there."""
        if self._single or self._assemble is not None:
            return iter(self.result()) if k == 0 else iter(())
        return iter([self._value_of(k, self._await_slot(k))])

    def __aiter__(self) -> AsyncIterator[Any]:
        """`__iter__` in an event loop."""
        from mpicluster.client.awaiting import values_of  # with asyncio, which is slow to load

        return values_of(self)

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

    def split(self) -> tuple[AsyncResult, ...]:
        """A result for each part of this one: of one engine, or of one task of a map.

        Parts of one call on several engines are taken back together: `cancel` on one of them is for all.

        Raises
        ------
        ValueError
            all engines have given one value together.
        """
        return split(self, AsyncResult)

    @classmethod
    def join(cls, *results: AsyncResult) -> AsyncResult:
        """Several results as one, which has all their parts: the inverse of `split`.

        Raises
        ------
        ValueError
            there are none, they are of different clients, or one has no parts.
        """
        return join(results, AsyncResult)

    # -- showing it --------------------------------------------------------------------------------------------------

    def display_outputs(self, groupby: str = "type", result_only: bool = False) -> None:
        """Show what was written and displayed, and what the cells evaluated to, here; waits for all of it.

        Parameters
        ----------
        groupby
            ``"type"``: all of standard output, then standard error, then displays; ``"engine"``: all of one engine, then of the next, in
            the order in which it was written; ``"order"``: like ``"type"``, but the first display of each engine, then the second, ...
        result_only
            only what the cells evaluated to.
        """
        from mpicluster.client.display import display_outputs

        display_outputs(self, groupby, result_only=result_only)

    def stream_output(self) -> AbstractContextManager[None]:
        """``with ar.stream_output():`` shows what is written, displayed and raised as it comes: what was before, and what comes until the
        block ends."""
        from mpicluster.client.display import stream_output

        return stream_output(self)

    def wait_interactive(
        self, interval: float = 0.1, timeout: float | None = -1, widget: bool | None = None, return_when: str = "ALL_COMPLETED"
    ) -> bool:
        """`wait`, behind a progress bar where a person looks on; whether it is done.

        Parameters
        ----------
        interval
            seconds between looks.
        widget
            whether the bar is a notebook widget; found out if not given.
        return_when
            ``"FIRST_EXCEPTION"`` or ``"FIRST_COMPLETED"`` to return earlier.
        """
        from mpicluster.client.progress import wait_interactive

        return wait_interactive(self, interval=interval, timeout=timeout, widget=widget, return_when=return_when)

    def _repr_html_(self) -> str:
        from mpicluster.client.html import result_html

        return result_html(self)

    # -- ending it ---------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Take back what has not started; True if nothing of it had, and so nothing will run.

        What had started runs to its end. Waits for the word of the hub.
        """
        if self.done():
            return self.cancelled()
        return self._client._cancel(self._tasks())

    def interrupt(self) -> bool:
        """End all of it: what has not begun does not begin, and what runs gets a KeyboardInterrupt, as Ctrl-C would.

        Whether there was anything to end. Does not wait for it to end.
        """
        return False if self.done() else self._client._interrupt(self._tasks())

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
        self._watch(lambda future: self._client._call_back(fn, future))

    def _watch(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have ``fn(self)`` called when it is done, in whatever thread receives the answer: it must not wait."""
        self.watched = True
        self._then(fn)
        self._client._connection.resume()

    def _then(self, fn: Callable[[Future[Any]], object]) -> None:
        """`_watch`, when somebody is about to wait: it may be called in their thread."""
        if not self.done():
            _awaited.add(self)
            super().add_done_callback(_awaited.discard)
        super().add_done_callback(fn)

    def _follow(self, tell: Callable[..., object]) -> None:
        """Have ``tell()`` called at each arrival, and when it is done (then with the result); it must not wait."""
        with self._arrival:
            self._followers.append(tell)
        self._watch(tell)

    def _unfollow(self, tell: Callable[..., object]) -> None:
        with self._arrival:
            self._followers.remove(tell)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in an event loop. Cancelling the wait takes back what has not started."""
        from mpicluster.client.awaiting import value_of

        return value_of(self).__await__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'finished' if self.done() else self._name}>"


class _Somewhere(Exception):
    """A slot did not end well: which, and why, its bytes say."""
