"""The client of a running cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from mpicluster.client.connection import Connection
from mpicluster.client.engines import Engines
from mpicluster.client.feed import Batch, Feed
from mpicluster.client.finding import find_contact, find_tunnel
from mpicluster.client.history import Remembering
from mpicluster.client.jobs import Jobs
from mpicluster.client.ledger import Pending
from mpicluster.client.reply import Reply
from mpicluster.client.result import AsyncResult
from mpicluster.client.screen import activate_first
from mpicluster.client.transfers import Transfers
from mpicluster.config import AWAY_AT_MOST, AWAY_WITHIN, CONNECT_TIMEOUT, START_TIMEOUT, STOP_GRACE
from mpicluster.errors import ClosedError, ClusterError, ClusterStopped, SerializationError
from mpicluster.ids import Targets, select
from mpicluster.serial.payload import Buffer
from mpicluster.wire import frames
from mpicluster.wire import messages as m
from mpicluster.wire.contact import Contact

if TYPE_CHECKING:
    from mpicluster.client.arrays.sending import Sender
    from mpicluster.client.awaiting import Connecting
    from mpicluster.client.tunnel import Tunnel

__all__ = ["Client"]

_log = logging.getLogger(__name__)
#: How long a thread waits before it looks whether it was interrupted.
_LOOK_UP = 0.5


class Client(Engines, Jobs, Remembering):
    """A connection to a cluster, and a handle on all its engines. Thread-safe.

    Parameters
    ----------
    contact
        a contact file, or its content; by default the newest cluster of the profile. Also by the name ``url_file``.
    profile
        which clusters to look for.
    cluster
        the id of one of them, as ``mpicluster list`` shows it, or a `Cluster`. Also by the name ``cluster_id``.
    ssh
        ``"user@login"``: a host from which the cluster can be reached, and that knows the user's clusters. Its contact file is read there,
        and the connection goes by one tunnel of the system's ``ssh``. When that drops, it is opened again, and nothing is lost.
    away
        seconds after which a connection through ssh that has dropped is given up, here and by the cluster, which then drops what this
        client has asked for and was not begun; at most a week, by default 10 minutes. A laptop that sleeps over night needs 43200.
    timeout
        seconds to wait: for the hub's answer and for engines that are still starting; if given, also for a cluster
        that is just being started.
    wait
        whether to wait for engines that are still starting.

    Raises
    ------
    NoCluster
        there is none, or it does not answer.
    TimeoutError
        not all engines came in time.
    TypeError
        an argument of IPython Parallel's that has no meaning here; it says what to do instead.
    """

    def __init__(
        self,
        contact: Contact | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        cluster: Any = None,
        timeout: float | None = None,
        wait: bool = True,
        away: float | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        if away is not None and not 0 < away <= AWAY_AT_MOST:
            raise ValueError(f"away is a number of seconds, at most {AWAY_AT_MOST:g}, not {away!r}")
        if timeout is not None and not 0 <= timeout < threading.TIMEOUT_MAX:
            timeout = threading.TIMEOUT_MAX
        self._tunnel = find_tunnel(contact, profile or "default", cluster, others)
        self.contact = self._tunnel.contact if self._tunnel else find_contact(contact, profile or "default", cluster, timeout, others)
        if away is not None and not self.contact.through:
            raise ValueError("away= is for a connection through ssh; this one is direct, and does not drop by itself")
        #: whether views made from now on wait for their results
        self.block = False
        self._transfers = Transfers(self._guard, shares=not self.contact.through)  # what is in shared memory cannot be said again
        self._questions: dict[int, Future[Any]] = {}
        #: those that may have operations on arrays to be sent, before anything else is
        self._senders: weakref.WeakSet[Sender] = weakref.WeakSet()
        self._next_task = 1
        self._next_question = 1
        self._callbacks: ThreadPoolExecutor | None = None
        if self.contact.through:
            from mpicluster.client.tunnel import connect_through

            self._connection: Connection = connect_through(
                self._tunnel, self.contact, self._on_message, self._on_lost, AWAY_WITHIN if away is None else away
            )
        else:
            self._connection = Connection(self.contact, self._on_message, self._on_lost, self._transfers.place)
        #: what its tasks' ids begin with
        self.id = self._connection.name
        self._closer = weakref.finalize(self, _close, self._connection, self._tunnel)
        try:
            self._await_welcome(timeout if timeout is not None else CONNECT_TIMEOUT)
            if wait:
                self.wait_for_engines(timeout=timeout if timeout is not None else START_TIMEOUT)
                activate_first(self)
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(cls, contact: Contact | str | os.PathLike[str] | None = None, **options: Any) -> Connecting:
        """``Client(contact, **options)`` for an event loop, which it does not block.

        ``async with Client.connect() as rc:`` closes it in the end, likewise; ``rc = await Client.connect()`` leaves that to you.
        """
        from mpicluster.client.awaiting import Connecting  # with asyncio, which is slow to load

        return Connecting(lambda: cls(contact, **options))

    # -- work --------------------------------------------------------------------------------------------------------

    def _submit(
        self,
        result: AsyncResult,
        first_slot: int,
        kind: str,
        *,
        targets: list[int] | None,
        data: list[bytes],
        fn: bytes = b"",
        allowed: Sequence[int] = (),
        bulk: bytes = b"",
        buffers: Sequence[Buffer] = (),
        collective: str = "",
        retries: int = 0,
        terms: m.Terms | None = None,
        feed: Feed | None = None,
        first: int | None = None,
    ) -> None:
        """Send one `Submit` whose answers go to the slots of ``result`` from ``first_slot`` on.

        By way of ``feed``, when it has room; ``first`` is a number that was reserved.
        """
        if collective and targets is not None:
            self._refuse_several_worlds(targets)
        if kind != "arrays" and self._senders:
            for sender in list(self._senders):
                sender.flush()
        if terms is not None and (terms.after is not None or terms.follow is not None):
            self._flush_feeds()  # the hub must know what this depends on
        count = len(data) if targets is None else 1
        sizes = [memoryview(b).nbytes for b in buffers] if buffers else []
        with self._guard:
            if self._lost is not None:
                raise self._kind(f"there is no cluster to work on: {self._lost}")
            if first is None:
                first, self._next_task = self._next_task, self._next_task + count
            self._names.add(self.id, first, count, targets)
            if result._view is not None:
                result._view.history.add(self.id, first, count, targets)
            answering = targets[:1] if targets is not None and kind in m.ONE_ANSWER else targets
            if answering is not None and answering is targets:
                self._pending.add(first, Pending(result, {target: first_slot + i for i, target in enumerate(answering)}))
            elif count == 1:
                self._pending.add(first, Pending(result, first_slot))
            else:
                self._pending.add_run(first, count, result, first_slot)
            result._number(first_slot, first, answering)
            if buffers:
                self._transfers.offer(first, buffers)
        message = m.Submit(first, kind, targets, list(allowed), fn, data, bulk, sizes, collective, retries, terms)
        if feed is not None:
            feed.put(Batch(first, count, frames.pack([message])))
            return
        try:
            self._connection.say([message])
        except (ClosedError, ClusterStopped, SerializationError):
            with self._guard:
                self._pending.remove_run(first, count)
                self._transfers.take_back(first)
            raise

    def _feeds(self) -> list[Feed]:
        return [result._feed for result in self._results_under_way() if result._feed is not None]

    def _flush_feeds(self) -> None:
        for feed in self._feeds():
            feed.flush()

    def _drop_unsent(self, tasks: Iterable[int]) -> tuple[list[int], bool]:
        """What the hub has not been told of yet is aborted here: what is left, which it must be asked about, and whether there was any."""
        chosen = set(tasks)
        dropped = [task for feed in self._feeds() for task in feed.drop(chosen)]
        for task in dropped:
            self._deliver(m.Result(task, -1, m.ABORTED, b"", [], 0.0, 0.0), ())
        return sorted(chosen.difference(dropped)), bool(dropped)

    def _withdraw(self, tasks: Iterable[int]) -> None:
        """Cancel without waiting for the word of the hub."""
        left, _ = self._drop_unsent(tasks)
        try:
            self._connection.say([m.Cancel(0, left)])
        except (ClosedError, ClusterStopped):
            pass  # then nobody waits for them

    def _cancel(self, tasks: Iterable[int]) -> bool:
        left, _ = self._drop_unsent(tasks)
        return not left or bool(self._ask(lambda number: m.Cancel(number, left)))

    def _interrupt(self, tasks: Iterable[int]) -> bool:
        left, dropped = self._drop_unsent(tasks)
        ended = bool(left) and bool(self._ask(lambda number: m.Interrupt(number, left)))
        return ended or dropped

    def send_signal(self, sig: int | str, targets: Targets = None, block: bool | None = None) -> None:
        """Send a signal to engines: its number, or its name (``"SIGUSR1"``).

        SIGINT raises KeyboardInterrupt in the task that runs there, also where it waits in MPI (if this MPI can be made to let go); an
        engine that does nothing ignores it. Every other signal does to the engine's process what it does to any.

        ``block=False`` does not wait for the word of the hub.

        Raises
        ------
        ValueError
            there is no such signal.
        """
        number = int(signal.Signals[sig]) if isinstance(sig, str) and sig in signal.Signals.__members__ else sig
        if not isinstance(number, int) or not 0 < number < signal.NSIG:
            raise ValueError(f"there is no signal {sig!r}")
        engines = select(targets, self._live())
        if block is False:
            self._connection.say([m.SendSignal(0, number, engines)])
        else:
            self._ask(lambda request: m.SendSignal(request, number, engines))

    def _ask(self, make: Callable[[int], m.ClientMessage], timeout: float = CONNECT_TIMEOUT) -> Any:
        """Ask the hub something and wait for its answer."""
        answer: Future[Any] = Future()
        with self._guard:
            if self._lost is not None:
                raise self._kind(f"there is no cluster to ask: {self._lost}")
            number, self._next_question = self._next_question, self._next_question + 1
            self._questions[number] = answer
        try:
            self._connection.say([make(number)])
            return answer.result(timeout)
        except TimeoutError:
            raise TimeoutError(f"no answer within {timeout:g} s: the hub, or an engine that it asks, is busy or stopped") from None
        finally:
            with self._guard:
                self._questions.pop(number, None)

    def _call_back(self, fn: Callable[[Future[Any]], object], future: Future[Any]) -> None:
        with self._guard:
            if self._callbacks is None:
                self._callbacks = ThreadPoolExecutor(1, thread_name_prefix="mpicluster-callbacks")
            try:
                self._callbacks.submit(fn, future)
            except RuntimeError:
                _log.debug("the interpreter is ending: %r is not called", fn)

    # -- dask --------------------------------------------------------------------------------------------------------

    def become_dask(
        self,
        targets: Targets = "all",
        port: int = 0,
        nanny: bool = False,
        scheduler_args: dict[str, Any] | None = None,
        **worker_args: Any,
    ) -> Any:
        """Make workers of dask of the engines, which go on to be engines too; returns a `distributed.Client` of them.

        The scheduler runs in the first of them, unless there is one already: then they join that, and this client's `distributed.Client` is
        returned again. Engines that are busy are waited for. In a task of dask's, ``__main__`` is the engine's namespace.

        Parameters
        ----------
        port
            of the scheduler; 0 for any that is free.
        nanny
            whether dask's tasks run in a process beside the engine, which is started again when it ends.
        scheduler_args, worker_args
            for `distributed.Scheduler`, and for `distributed.Worker` or `distributed.Nanny`. A worker has one thread unless told.

        Raises
        ------
        ImportError
            ``distributed`` is not installed.
        """
        from mpicluster.client.dask_cluster import become_dask

        return become_dask(self, targets, port, nanny, scheduler_args, worker_args)

    def stop_dask(self, targets: Targets = "all") -> None:
        """End the workers of dask on these engines, and with the last one the scheduler and this client's `distributed.Client`."""
        from mpicluster.client.dask_cluster import stop_dask

        stop_dask(self, targets)

    become_distributed = become_dask
    stop_distributed = stop_dask

    # -- the cluster -------------------------------------------------------------------------------------------------

    def status(self, *, timeout: float = CONNECT_TIMEOUT) -> dict[str, Any]:
        """What the hub knows: engines, tasks, clients, what it turned away."""
        answer: dict[str, Any] = msgspec.json.decode(self._ask(m.Status, timeout))
        answer["profile"] = self.contact.profile
        return answer

    def _attach(self, size: int, place: str) -> bytes:
        """Have the hub expect so many engines of another MPI world: what they need to know, an `Invitation`."""
        answer = self._ask(lambda number: m.Attach(number, size, place))
        if answer.error:
            raise ClusterError(answer.error)
        data: bytes = answer.data
        return data

    def shutdown(self, targets: Targets = "all", restart: bool = False, hub: bool = False, block: bool | None = None) -> None:
        """Stop the whole cluster: engines and hub. Returns when the hub has said so.

        IPython Parallel's arguments may be given as long as they mean that: the engines are one MPI job, and the hub ends with them.

        Raises
        ------
        ValueError
            only some engines are meant, or a restart.
        TimeoutError
            it does not answer; `mpicluster stop` ends it all the same.
        """
        if restart:
            raise ValueError("engines are not restarted by a client: stop the cluster, and start it again")
        if (
            not (isinstance(targets, str) and targets == "all")
            and self._lost is None
            and set(select(targets, self._live())) != set(self._ids)
        ):
            raise ValueError(f"the engines are one MPI job, of which {targets!r} cannot be stopped alone; shutdown() stops all")
        try:
            self._connection.say([m.Shutdown()])
        except (ClosedError, ClusterStopped):
            return
        with self._changed:
            if not self._changed.wait_for(lambda: self._lost is not None, STOP_GRACE):
                raise TimeoutError(f"the hub of cluster {self.contact.cluster} does not answer within {STOP_GRACE:g} s")

    def spin(self) -> None:
        """Nothing: results come by themselves. As are `spin_thread` and `stop_spin_thread`, it is here for IPython Parallel's sake."""
        warnings.warn("spinning does nothing: results come by themselves", DeprecationWarning, stacklevel=2)

    def spin_thread(self, interval: float = 1.0) -> None:
        """Nothing, see `spin`."""
        warnings.warn("spinning does nothing: results come by themselves", DeprecationWarning, stacklevel=2)

    stop_spin_thread = spin

    def close(self) -> None:
        """Disconnect. What was submitted is done, unheard; results that are not here raise `ClosedError`.

        If the connection, by ssh, is down now, the cluster has not heard of what was submitted since: a RuntimeWarning says so.
        Waits for large data that are on their way, as long as they move; calls whose data no engine has asked for are dropped.
        """
        self._flush_feeds()
        if not (self._connection.inherited or self._connection.in_listener):
            self._transfers.finish(lambda: self._lost is not None)
        down = self._connection.away and self._lost is None
        self._end("this client was closed", ClosedError)
        self._closer()
        self._transfers.release()
        with self._guard:
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            callbacks.shutdown(wait=False)
        if down:
            warnings.warn("closed while the connection was down: what was submitted since is not done", RuntimeWarning, stacklevel=2)

    # -- in IPython --------------------------------------------------------------------------------------------------

    def activate(self, targets: Targets = "all", suffix: str = "") -> Any:
        """Have the magics ``%px``, ``%%px``, ``%autopx``, ``%pxresult`` and ``%pxconfig``, with ``suffix``, run on these engines.

        Returns their `DirectView`, which blocks. The first client that is made in IPython does this by itself.

        Raises
        ------
        RuntimeError
            this is not IPython.
        """
        view = self.direct_view(targets, block=True)
        view.activate(suffix)
        return view

    def _repr_html_(self) -> str:
        from mpicluster.client.html import client_html

        return client_html(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self._lost or f"{len(self)} engines"
        return f"<Client: {state}, cluster {self.contact.cluster}, profile {self.contact.profile!r}>"

    def _wait_until(self, done: Callable[[], bool], changed: threading.Condition, timeout: float | None) -> bool:
        """Wait for ``done()``, which changes under ``changed``; whether it did within ``timeout`` seconds."""
        if timeout is not None and timeout > threading.TIMEOUT_MAX:
            timeout = None
        until = None if timeout is None else time.monotonic() + timeout
        if not done():
            if self._connection.inherited:
                raise ClosedError("this result belongs to the parent process; make a new Client() after a fork")
            self._connection.serve(done, self._take, timeout)
        with changed:
            while not done():  # not in one go: a signal that another thread of this process received wakes nobody
                left = _LOOK_UP if until is None else until - time.monotonic()
                if left <= 0.0:
                    return False
                changed.wait(min(left, _LOOK_UP))
        return True

    def _take(self, message: m.ToClient) -> bool:
        """Handle a small result in the thread of a caller, which may be interrupted at any time."""
        if type(message) is m.Written:
            self._on_written(message)
            return True
        if type(message) is not m.Result or message.sizes or self._transfers.receiving:
            return False
        pending = self._pending.get(message.task)
        if pending is not None:
            if pending.result.watched:
                return False
            self._deliver(message, (), pending)
        return True

    # -- the listening thread ----------------------------------------------------------------------------------------

    def _on_message(self, message: m.ToClient, frame: Any) -> None:
        kind = type(message)
        if kind is m.Result:
            self._on_result(message)  # type: ignore[arg-type]
        elif kind is m.Written:
            self._on_written(message)  # type: ignore[arg-type]
        elif kind is m.Chunk:
            whole = self._transfers.receive(message, frame, self._connection)  # type: ignore[arg-type]
            if whole is not None:
                self._deliver(*whole)
        elif kind is m.Credit:
            self._transfers.send(message, self._connection)  # type: ignore[arg-type]
        elif isinstance(message, m.Engines | m.Welcome):
            self._on_news(message)
        elif isinstance(message, m.Verdict):
            self._on_answer(message.request, message.cancelled)
        elif isinstance(message, m.Answer):
            if not self._on_answer(message.request, message) and message.error:
                self._on_late_refusal(message)
        elif isinstance(message, m.Recalled):
            self._on_recalled(message)
        elif isinstance(message, m.StatusReply):
            self._on_answer(message.request, message.text)
        elif isinstance(message, m.Farewell):
            self._on_lost(message.reason)

    def _on_answer(self, number: int, value: Any) -> bool:
        """Whether somebody waits for it."""
        with self._guard:
            answer = self._questions.pop(number, None)
        if answer is not None:
            answer.set_result(value)
        return answer is not None

    def _on_result(self, message: m.Result) -> None:
        if message.sizes and message.outcome in (m.OK, m.FAILED):
            instead = self._transfers.expect(message, self._connection)
            if instead is not None:
                self._deliver(instead, ())
            return
        self._transfers.end(message)
        self._deliver(message, ())

    def _on_written(self, message: m.Written) -> None:
        with self._guard:
            pending = self._pending.get(message.task)
            slot = None if pending is None else pending.slots if isinstance(pending.slots, int) else pending.slots.get(message.engine)
        if pending is not None and slot is not None:
            pending.result._write(slot, message.output, message.engine)

    def _deliver(self, message: m.Result, buffers: Sequence[Any], pending: Pending | None = None) -> None:
        if pending is None:
            with self._guard:
                pending = self._pending.get(message.task)
        if pending is None:
            return
        slots = pending.slots
        slot = slots if isinstance(slots, int) else slots.get(message.engine)
        if slot is None:
            return
        pending.result._deliver(slot, Reply(message, buffers, time.time()))
        with self._guard:  # after it was delivered: this may be interrupted, and is then done again
            if not isinstance(slots, int):
                slots.pop(message.engine, None)
            if isinstance(slots, int) or not slots:
                self._pending.remove(message.task)
                self._transfers.forget(message.task)

    def _on_lost(self, reason: str) -> None:
        self._end(reason, ClusterStopped)
        self._transfers.release()

    def _end(self, reason: str, kind: type[Exception]) -> None:
        """No more answers will come: everything that waits fails."""
        with self._changed:
            if self._lost is None:
                self._lost, self._kind = reason, kind
            results = self._pending.results() + [r for r in self._recalls.values() if isinstance(r, AsyncResult)]
            self._pending.clear()
            self._recalls.clear()
            self._transfers.clear()
            questions = list(self._questions.values())
            self._questions.clear()
            self._engines, self._ids = {}, []
            self._changed.notify_all()
        for result in results:
            result._fail(kind(f"{result._name} has no result: {self._lost}"))
        for question in questions:
            question.set_exception(kind(f"there is no answer: {self._lost}"))


def _close(connection: Connection, tunnel: Tunnel | None) -> None:
    """A client is closed, or gone."""
    if tunnel is not None and connection.away:
        tunnel.close()  # there is nobody to say goodbye to; and it may be connecting
    connection.close()
    if tunnel is not None:
        tunnel.close()
