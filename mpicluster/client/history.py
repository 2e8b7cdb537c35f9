"""What a client asks of the hub's history: records, results of whoever's tasks, and to have them forgotten or run again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from mpicluster.client.byname import ByName
from mpicluster.client.hubresult import AsyncHubResult
from mpicluster.client.names import Names
from mpicluster.client.result import AsyncResult
from mpicluster.errors import ClusterError, NoHistory, TaskAborted, UnknownTask
from mpicluster.ids import Targets, parse_task_id, select, task_id
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["Jobs", "Remembering", "ViewHistory"]

#: Tasks as a person names them: an id, a position in the history, a result, or several of these.
Jobs: TypeAlias = "str | int | AsyncResult | Iterable[str | int | AsyncResult] | None"

#: A page is answered behind all that is to be written before it.
_TIMEOUT = 60.0
#: Ids asked for at a time.
_IDS = 2000
_FAULTS: Mapping[int, type[Exception]] = {m.NO_HISTORY: NoHistory, m.UNKNOWN: UnknownTask, m.NONSENSE: ValueError}
_recollection = msgspec.msgpack.Decoder(tuple[int, list[m.Remembered]])
_submits = msgspec.msgpack.Decoder(list[m.Submit])


def names_of(jobs: Jobs, history: Sequence[str]) -> tuple[list[str], bool]:
    """Ids of tasks, and whether one was asked for and not a list. Positions count in ``history``; None is the last.

    Raises
    ------
    TypeError
        it is none of what names a task.
    IndexError
        there is no such position.
    """
    single = not isinstance(jobs, Iterable) or isinstance(jobs, str | AsyncResult)
    names: list[str] = []
    for job in [-1 if jobs is None else jobs] if single else jobs:  # type: ignore[union-attr]
        if isinstance(job, AsyncResult):
            names += job.msg_ids
        elif isinstance(job, str):
            names.append(job)
        elif isinstance(job, int) and not isinstance(job, bool):
            names.append(history[job])
        else:
            raise TypeError(f"a task is named by its id, its position in the history, or its result, not {job!r}")
    return list(dict.fromkeys(names)), single


class Remembering:
    """The part of `Client` that asks the hub's history. All its methods raise `NoHistory` when there is none."""

    def __init__(self) -> None:
        self._names = Names()
        #: results that wait for tasks of others, by the question that watches them; what came before a result was made
        self._recalls: dict[int, AsyncHubResult | list[m.Remembered]] = {}

    @property
    def _me(self) -> Client:
        return cast("Client", self)

    @property
    def history(self) -> Names:
        """Ids of the tasks that this client has submitted, in order."""
        return self._names

    @property
    def results(self) -> ByName:
        """Values of this client's tasks by id: ``rc.results[id]`` is ``rc.get_result(id).get()``."""
        return ByName(self.history, lambda name: self.get_result(name).get())

    @property
    def metadata(self) -> ByName:
        """`Metadata` of this client's tasks by id: ``rc.metadata[id]`` is ``rc.get_result(id).metadata``."""
        return ByName(self.history, lambda name: self.get_result(name).metadata)

    def _put(self, make: Callable[[int], m.Question]) -> bytes:
        """Ask a question; the answer's bytes, or what is wrong, raised."""
        answer: m.Answer = self._me._ask(make, _TIMEOUT)
        if answer.error:
            raise _FAULTS.get(answer.fault, ClusterError)(answer.error)
        return answer.data

    def _pages(self, make: Callable[..., m.Question]) -> Iterable[Any]:
        """What a question gives that is answered in pages."""
        start = 0
        while start >= 0:
            found, start = msgspec.msgpack.decode(self._put(functools.partial(make, start=start)))
            yield found

    # -- records -----------------------------------------------------------------------------------------------------

    def hub_history(self) -> Names:
        """Ids of all tasks that the hub remembers, of all clients, in the order in which they were submitted."""
        names = Names()
        for runs in self._pages(m.History):
            for run in runs:
                names.add(*run)
        return names

    def db_query(self, query: Mapping[str, Any], keys: str | Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Records of tasks that match a query, oldest first.

        Parameters
        ----------
        query
            conditions by field, which must all hold: a value, or operators (``$lt $gt $lte $gte $eq $ne $in $nin $all $mod $exists
            $glob``) with their operands: ``{"label": "fit", "completed": {"$gt": an_hour_ago}}``. Moments are ``datetime`` objects; one
            without a time zone is local time.
        keys
            fields that are wanted, by default all but payloads (``buffers``, ``result_buffers``); ``msg_id`` comes always.

        Raises
        ------
        ValueError
            there is no such field or operator, or it does not take this operand.
        """
        packed = _packed(query)
        wanted = [keys] if isinstance(keys, str) else list(keys or ())
        return [r for page in self._pages(lambda number, start: m.Find(number, packed, wanted, start)) for r in page]

    # -- results -----------------------------------------------------------------------------------------------------

    def result_status(self, msg_ids: Jobs, status_only: bool = True) -> dict[str, Any]:
        """How tasks are: ``{"pending": [ids], "completed": [ids]}``; without ``status_only``, values (or errors) by id as well.

        Raises
        ------
        UnknownTask
            the hub remembers no such task.
        """
        names, _ = names_of(msg_ids, self.history)
        parts, _ = self._recall(names, results=not status_only, watch=False)
        done = [part for part in parts if part.outcome >= 0]
        status: dict[str, Any] = {"pending": [p.id for p in parts if p.outcome < 0], "completed": [p.id for p in done]}
        if not status_only:
            for part in done:
                error = (result := AsyncHubResult(self._me, [part], single=True)).exception() if part.outcome != m.ABORTED else None
                status[part.id] = _aborted(part) if part.outcome == m.ABORTED else error if error is not None else result.get()
        return status

    def _recall(
        self,
        names: Sequence[str],
        *,
        results: bool,
        watch: bool,
    ) -> tuple[list[m.Remembered], list[int]]:
        """What is known of tasks, and the numbers of the questions that go on watching those under way."""
        parts: list[m.Remembered] = []
        watching: list[int] = []

        def question(number: int, some: list[str]) -> m.Recall:
            if watch:
                watching.append(number)
                self._recalls[number] = []
            return m.Recall(number, some, results, watch)

        position = 0
        try:
            while position < len(names):
                some = list(names[position : position + _IDS])
                known, found = _recollection.decode(self._put(functools.partial(question, some=some)))
                parts += found
                position += known
        except BaseException:
            self._unwatch(watching)
            raise
        return parts, watching

    def _unwatch(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._recalls.pop(number, None)

    def get_result(
        self,
        indices_or_msg_ids: Jobs = None,
        block: bool | None = None,
        owner: bool = True,
    ) -> AsyncResult:
        """The result of tasks: of this client, of another, of one that has gone; that have ended, or are under way.

        Parameters
        ----------
        indices_or_msg_ids
            an id, a position in `history`, a result, or a list of these; by default the last task.
        block
            whether to wait for it.
        owner
            without meaning here, where each result keeps its values as long as somebody keeps the result.

        Raises
        ------
        UnknownTask
            the hub remembers no such task.
        """
        names, single = names_of(indices_or_msg_ids, self.history)
        result = self._under_way(names) or self._from_hub(names, single=single)
        if self._me.block if block is None else block:
            result.wait()
        return result

    def _under_way(self, names: Sequence[str]) -> AsyncResult | None:
        """The very result of just these tasks, if it waits for some of them here."""
        if not names:
            return None
        client, task, _ = parse_name(names[0])
        with self._me._guard:
            pending = self._me._pending.get(task) if client == self._me.id else None
        return pending.result if pending is not None and pending.result.msg_ids == names else None

    def _from_hub(self, names: Sequence[str], *, single: bool) -> AsyncResult:
        if not names:
            raise ValueError("no task was named")
        parts, watching = self._recall(names, results=True, watch=True)
        assemble = _assembling({part.kind for part in parts}) if len(names) == 1 and parse_name(names[0])[2] < 0 else None
        result = AsyncHubResult(self._me, parts, single=single and len(parts) == 1, assemble=assemble)
        with self._me._guard:
            early = [part for number in watching for part in self._recalls.get(number, ())]
            for number in watching:
                self._recalls[number] = result
            lost = self._me._lost
        for part in early:
            result._remember(part)
        if lost is not None:
            result._fail(self._me._kind(f"{result!r} has no result: {lost}"))
        if result.done():
            self._unwatch(watching)
        return result

    def _on_recalled(self, message: m.Recalled) -> None:
        """A task has ended that somebody asked for; in the listening thread."""
        with self._me._guard:
            waiting = self._recalls.get(message.request)
            if isinstance(waiting, list):
                waiting.append(message.part)
        if isinstance(waiting, AsyncHubResult):
            waiting._remember(message.part)
            if waiting.done():
                with self._me._guard:
                    self._unwatch([number for number, result in self._recalls.items() if result is waiting])

    def _on_late_refusal(self, answer: m.Answer) -> None:
        """The history stops: what was to be told will not be."""
        with self._me._guard:
            waiting = self._recalls.pop(answer.request, None)
        if isinstance(waiting, AsyncHubResult):
            waiting._fail(NoHistory(answer.error))

    # -- again, and no more ------------------------------------------------------------------------------------------

    def resubmit(
        self,
        indices_or_msg_ids: Jobs = None,
        metadata: Mapping[str, Any] | None = None,
        block: bool | None = None,
    ) -> AsyncResult:
        """Run finished tasks again, whoever submitted them, under new ids: a balanced one anywhere, a direct one on its engine.

        The old records say as what they were ``resubmitted``.

        Parameters
        ----------
        metadata
            not possible: a task runs again as it was.

        Raises
        ------
        UnknownTask
            the hub remembers no such task.
        ClusterError
            one is under way; its data were too large to be kept; or it is a part of a collective, which needs all of them.
        """
        if metadata:
            raise ValueError("a task is run again as it was; metadata cannot be changed")
        names, single = names_of(indices_or_msg_ids, self.history)
        if not names:
            raise ValueError("no task was named")
        with self._me._guard:
            first, self._me._next_task = self._me._next_task, self._me._next_task + len(names)
        submits = _submits.decode(self._put(lambda number: m.Resubmit(number, first, names)))
        slots = sum(len(s.data) if s.targets is None else len(s.targets) for s in submits)
        kinds = {s.kind for s in submits}
        assemble = _assembling(kinds) if len(submits) == 1 and submits[0].targets is not None else None
        what = f"{kinds.pop()}, resubmitted" if len(kinds) == 1 else f"{slots} tasks, resubmitted"
        result = AsyncResult(self._me, what, slots, single=single and slots == 1, assemble=assemble)
        slot = 0
        for s in submits:
            self._me._submit(
                result,
                slot,
                s.kind,
                targets=s.targets,
                data=s.data,
                fn=s.fn,
                allowed=s.allowed,
                bulk=s.bulk,
                collective=s.collective,
                retries=s.retries,
                terms=s.terms,
                first=s.first,
            )
            slot += len(s.data) if s.targets is None else len(s.targets)
        if self._me.block if block is None else block:
            result.wait()
        return result

    def queue_status(self, targets: Targets = "all", verbose: bool = False) -> dict[Any, Any]:
        """What each engine has: ``queue`` (tasks for it alone), ``tasks`` (balanced ones) and ``completed``; and what is ``unassigned``.

        Numbers, or ids with ``verbose``. Of a single engine (an int), its dict alone.
        """
        engines = select(targets, self._me._live())
        status: dict[Any, Any] = msgspec.msgpack.decode(self._put(lambda number: m.QueueStatus(number, engines, verbose)))
        if verbose:
            for engine in engines:
                status[engine]["completed"] = []
            for record in self.db_query({"engine_id": {"$in": engines}, "status": {"$ne": None}}, ["engine_id"]):
                status[record["engine_id"]]["completed"].append(record["msg_id"])
        return status[targets] if isinstance(targets, int) else status

    def purge_local_results(self, jobs: Jobs = (), targets: Any = ()) -> None:
        """Nothing to do: a client keeps no results beside those that you hold. Complains about what is still under way.

        Raises
        ------
        RuntimeError
            some of it is.
        """
        with self._me._guard:
            pending = [(task, [-1] if isinstance(p.slots, int) else list(p.slots)) for task, p in self._me._pending.tasks()]
        under_way = [task_id(self._me.id, task, engine) for task, engines in pending for engine in engines]
        if not _everything(jobs, targets):
            named = set(names_of(jobs, self.history)[0])
            engines = set(_engines(targets))
            under_way = [n for n in under_way if n in named or parse_name(n)[2] in engines]
        if under_way:
            raise RuntimeError(f"{len(under_way)} of these tasks are under way, {under_way[0]} for one; wait for them, or cancel them")

    def purge_hub_results(self, jobs: Jobs = (), targets: Any = ()) -> None:
        """Have the hub forget finished tasks: those named, and all that ran on these engines; ``"all"`` for everything.

        Raises
        ------
        UnknownTask
            the hub remembers no such task.
        ClusterError
            one is under way.
        ValueError
            nothing was named.
        """
        everything = _everything(jobs, targets)
        names = [] if everything else names_of(jobs, self.history)[0]
        engines = [] if everything else _engines(targets)
        if not (everything or names or engines):
            raise ValueError("name jobs or targets to forget, or 'all'")
        for _ in self._pages(lambda number, start: m.Purge(number, names, engines, everything, start)):
            pass

    def purge_results(self, jobs: Jobs = (), targets: Any = ()) -> None:
        """`purge_local_results` and `purge_hub_results`."""
        self.purge_local_results(jobs, targets)
        self.purge_hub_results(jobs, targets)

    def purge_everything(self) -> None:
        """`purge_results` of all, and of `history`."""
        self.purge_results("all")
        with self._me._guard:
            self._names.clear()


class ViewHistory:
    """The part of the views that asks the hub's history about what was submitted through them."""

    client: Client
    targets: Any

    def __init__(self) -> None:
        #: ids of the tasks submitted through this view, in order
        self.history = Names()

    @property
    def results(self) -> ByName:
        """Values of this view's tasks by id."""
        return ByName(self.history, lambda name: self.client.get_result(name).get())

    def get_result(
        self,
        indices_or_msg_ids: Jobs = None,
        block: bool | None = None,
        owner: bool = False,
    ) -> AsyncResult:
        """`Client.get_result`; positions count in this view's history."""
        return self.client.get_result(names_of_one(indices_or_msg_ids, self.history), block, owner)

    def queue_status(self, targets: Targets = None, verbose: bool = False) -> dict[Any, Any]:
        """`Client.queue_status`, by default of this view's engines."""
        chosen = self.targets if targets is None else targets
        return self.client.queue_status("all" if chosen is None else chosen, verbose)

    def purge_results(self, jobs: Jobs = (), targets: Any = ()) -> None:
        """`Client.purge_results`; targets ``"all"`` are this view's, and positions count in its history."""
        if targets is None or (isinstance(targets, str) and targets == "all"):
            targets = "all" if self.targets is None else self.targets
        self.client.purge_results(jobs if jobs == "all" else names_of(jobs, self.history)[0], targets)


def names_of_one(jobs: Jobs, history: Sequence[str]) -> Jobs:
    """Ids of tasks, still one or a list as they were given."""
    names, single = names_of(jobs, history)
    return names[0] if single and len(names) == 1 else names


def parse_name(name: str) -> tuple[str, int, int]:
    """`parse_task_id`, for a person.

    Raises
    ------
    UnknownTask
        it is no id.
    """
    try:
        return parse_task_id(name)
    except ValueError as e:
        raise UnknownTask(str(e)) from None


def _packed(query: Any) -> bytes:
    if not isinstance(query, Mapping):
        raise ValueError(f"a query is a dict of fields and conditions, not {query!r}")  # noqa: TRY004 - as the hub does
    try:
        return msgspec.msgpack.encode(_aware(query))
    except (TypeError, OverflowError) as e:
        raise ValueError(f"a query takes numbers, texts, moments and lists of these: {e}") from e


def _aware(value: Any) -> Any:
    """With moments that say their time zone: local time, where they did not."""
    if isinstance(value, datetime):
        return value.astimezone()
    if isinstance(value, Mapping):
        return {str(key): _aware(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_aware(v) for v in value]
    return list(value) if isinstance(value, Names | range) else value


def _everything(jobs: Any, targets: Any) -> bool:
    return any(isinstance(x, str) and x == "all" for x in (jobs, targets))


def _engines(targets: Any) -> list[int]:
    """Engines whose records are meant: also such as are gone."""
    chosen = [targets] if isinstance(targets, int) else list(() if targets is None else targets)
    if not all(isinstance(t, int) and t >= 0 for t in chosen):
        raise TypeError(f"targets must be 'all' or ids of engines, not {targets!r}")
    return chosen


def _aborted(part: m.Remembered) -> Exception:
    return TaskAborted(f"task {part.id} was cancelled before it started")


def _assembling(kinds: set[str]) -> Callable[[list[Any]], Any] | None:
    """How the values of all engines become one, for collectives whose value is one."""
    if kinds == {"reduce"}:
        return lambda values: values[0][1]
    if kinds == {"gather"}:
        from mpicluster.client.direct import joined

        return lambda values: joined(values[0], "b")
    return None
