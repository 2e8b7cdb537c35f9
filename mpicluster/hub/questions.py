"""What a person asks the hub: of its history, answered from the store a page at a time, and of its queues, from the scheduler's books.

Each answer is bounded in size and in what is looked at, so that no question holds up what is to be written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from mpicluster.hub.query import Query
from mpicluster.hub.records import State
from mpicluster.hub.remembered import DEFAULT_FIELDS, FIELDS, Record, name_of, status_of
from mpicluster.hub.scheduler import Scheduler
from mpicluster.hub.store import MANY, PURGED, Request, Row, Store
from mpicluster.ids import parse_task_id, task_id
from mpicluster.wire import messages as m

__all__ = ["HistoryQuestion", "Questions", "Recollection", "Refused", "queue_status"]

HistoryQuestion: TypeAlias = m.History | m.Find | m.Recall | m.Purge | m.Resubmit

#: Parts that are looked at for one answer, and about how large it gets.
_PAGE_PARTS = 8192
_PAGE_BYTES = 4 * 1024 * 1024
#: A place in the history is the number of a job, and 32 bits for the part of it.
_BITS, _LAST = 32, 2**62
#: Moments in records are rounded.
_MICROSECONDS = 1e-5
_encoder = msgspec.msgpack.Encoder()


class Refused(Exception):
    """There is no answer: the fault (`m.UNKNOWN`, ...), and why."""

    def __init__(self, fault: int, why: str) -> None:
        super().__init__(why)
        self.fault = fault


class Recollection(NamedTuple):
    """The answer to a `Recall`: of how many of its ids, their parts, and those of them that are under way (job, index)."""

    known: int
    parts: list[m.Remembered]
    under_way: dict[tuple[int, int], Request]


def _excluding(query: Query) -> Callable[[Row], bool]:
    """What can be seen of a row at once: that it is not of the engines or of the status that are asked for."""
    engines, statuses = query.among("engine_id"), query.among("status")
    outcomes = None if statuses is None else [o for o in m.OUTCOMES if status_of(o) in statuses]

    def plainly_not(row: Row) -> bool:
        elsewhere = engines is not None and row.engine >= 0 and row.engine not in engines
        return elsewhere or (outcomes is not None and row.outcome not in outcomes)

    return plainly_not


def _a_little_before(moment: float | None) -> float | None:
    return None if moment is None else moment - _MICROSECONDS


class Questions:
    """Answers from a store. All methods raise `Refused`, and `StoreError` when the file cannot be read."""

    def __init__(self, cluster: str, store: Store) -> None:
        self._cluster = cluster
        self._store = store

    # -- records -----------------------------------------------------------------------------------------------------

    def history(self, start: int) -> bytes:
        """A page of all submissions: client, first task, number of tasks, and engines."""
        requests = self._store.requests(max(0, min(start, _LAST)))
        runs = [run for request in requests for run in self._runs(request)]
        return _encoder.encode((runs, requests[-1].job + 1 if len(requests) == MANY else -1))

    def _runs(self, request: Request) -> Iterator[tuple[str, int, int, list[int] | None]]:
        """A submission as client, first task, number of tasks, and engines; without what has been forgotten of it."""
        if not request.gone:
            yield request.client, request.first, request.parts if request.targets is None else 1, request.targets
            return
        rows = self._store.results([request.job]).get(request.job, {})
        left = [i for i in range(request.parts) if i not in rows or rows[i].outcome != PURGED]
        if request.targets is not None:
            yield request.client, request.first, 1, [request.targets[i] for i in left]
        else:
            yield from ((request.client, request.first + i, 1, None) for i in left)

    def find(self, question: m.Find) -> bytes:
        """A page of the records that match a query."""
        query = self._query(question.query)
        keys = list(dict.fromkeys(["msg_id", *(question.keys or DEFAULT_FIELDS)]))
        if unknown := [k for k in keys if k not in FIELDS]:
            raise Refused(m.NONSENSE, f"records have no field {unknown[0]!r}; they have {', '.join(FIELDS)}")
        start, skip = divmod(max(0, min(question.start, _LAST)), 1 << _BITS)
        found: list[msgspec.Raw] = []
        seen, size = 0, 0
        plainly_not = _excluding(query)
        ended_only = query.at_least("completed") is not None
        requests, next_job = self._candidates(query, start)
        rows = self._store.results([r.job for r in requests], _a_little_before(query.at_least("completed")))
        for request in requests:
            for index in range(skip if request.job == start else 0, request.parts):
                if seen >= _PAGE_PARTS or size >= _PAGE_BYTES:
                    return _encoder.encode((found, request.job << _BITS | index))
                seen += 1
                row = rows.get(request.job, {}).get(index) or self._store.unfinished(request, index)
                if ended_only if row is None else row.outcome == PURGED or plainly_not(row):
                    continue
                record = self._record(request, index, row)
                if query.matches(record.value):
                    found.append(msgspec.Raw(_encoder.encode({key: record.value(key) for key in keys})))
                    size += len(found[-1])
        return _encoder.encode((found, -1 if next_job < 0 else next_job << _BITS))

    def _query(self, packed: bytes) -> Query:
        try:
            return Query(msgspec.msgpack.decode(packed), frozenset(FIELDS))
        except (ValueError, TypeError) as e:  # msgspec's errors are ValueErrors
            raise Refused(m.NONSENSE, str(e)) from e

    def _candidates(self, query: Query, start: int) -> tuple[list[Request], int]:
        """Some of the requests that may have what is asked for, from job ``start`` on, and where the others begin (-1: that is all)."""
        requests, complete = self._requests(query, start)
        parts = 0
        for i, request in enumerate(requests):
            parts += request.parts
            if parts >= _PAGE_PARTS and i + 1 < len(requests):
                return requests[: i + 1], request.job + 1
        return requests, -1 if complete else requests[-1].job + 1

    def _requests(self, query: Query, start: int) -> tuple[list[Request], bool]:
        """Requests, oldest first, as far as the query can be put into SQL, and whether there are no more."""
        names = query.among("msg_id")
        if names is not None:
            found = {r.job: r for name in names if (r := self._request_of(name)) is not None and r.job >= start}
            return [found[job] for job in sorted(found)], True
        where: list[str] = []
        values: list[str | float | None] = []
        for field, column in (("client_uuid", "name"), ("label", "label"), ("kind", "kind")):
            options = query.among(field)
            if options is not None and len(options) <= 100:
                where.append(f"AND {column} IN ({', '.join('?' * len(options))})")
                values += ["" if x is None else x if isinstance(x, str) else None for x in options]
        if (bound := _a_little_before(query.at_least("submitted"))) is not None:
            where.append("AND submitted >= ?")
            values.append(bound)
        if (bound := query.at_most("submitted")) is not None:
            where.append("AND submitted <= ?")
            values.append(bound + _MICROSECONDS)
        found_ = self._store.requests(start, " ".join(where), values)
        return found_, len(found_) < MANY

    def _request_of(self, name: Any) -> Request | None:
        try:
            client, task, _ = parse_task_id(name)
        except ValueError:
            return None
        return self._store.find(client, task)

    def _record(self, request: Request, index: int, row: Row | None) -> Record:
        store = self._store
        return Record(self._cluster, request, index, row, submit_of=store.submit_of, output_of=store.output_of, again=store.again)

    # -- tasks by name -----------------------------------------------------------------------------------------------

    def _parts(self, names: Iterable[str]) -> Iterator[tuple[str, Request, list[int]]]:
        """What each of these ids means."""
        for name in names:
            try:
                client, task, engine = parse_task_id(name)
            except ValueError as e:
                raise Refused(m.UNKNOWN, str(e)) from e
            request = self._store.find(client, task)
            indices = [] if request is None else request.indices(task, engine)
            if request is None or not indices:
                raise Refused(m.UNKNOWN, f"the cluster knows no task {name!r}: it was never submitted here, or has been forgotten")
            yield name, request, indices

    def recall(self, question: m.Recall) -> Recollection:
        """What has become of tasks."""
        answer = Recollection(0, [], {})
        known, size = 0, 0
        rows: dict[int, dict[int, Row]] = {}
        for name, request, indices in self._parts(question.ids):
            if size >= _PAGE_BYTES or len(answer.parts) >= _PAGE_PARTS:
                break
            if request.job not in rows:  # ids of one map come together
                rows = self._store.results([request.job])
            for index in indices:
                row = rows.get(request.job, {}).get(index) or self._store.unfinished(request, index)
                if row is not None and row.outcome == PURGED:
                    raise Refused(m.UNKNOWN, f"the result of task {name!r} has been forgotten")
                if row is None:
                    answer.under_way[request.job, index] = request
                part = self.remembered(request, index, row, results=question.results)
                answer.parts.append(part)
                size += len(part.data) + sum(len(content) for _, content in part.output)
            known += 1
        return answer._replace(known=known)

    def remembered(self, request: Request, index: int, row: Row | None, *, results: bool) -> m.Remembered:
        """A part, for a client."""
        record = self._record(request, index, row)
        if row is None:
            row = Row(index, -1 if record.engine is None else record.engine, -1, b"", 0, 0.0, 0.0, 0.0, record.output())
        return m.Remembered(
            name_of(request, index),
            row.outcome,
            row.engine,
            row.data if results else b"",
            row.dropped,
            request.submitted,
            row.started,
            row.completed or row.received,
            request.kind,
            request.label,
            row.output if results else [],
        )

    def purge(self, question: m.Purge) -> tuple[int, int]:
        """Forget finished tasks: how many there were, and where to go on (-1: that was all)."""
        store = self._store
        start = max(0, min(question.start, _LAST))
        named = [(request, i) for _, request, indices in self._parts(question.ids) for i in indices] if start == 0 else []
        rows = store.results([r.job for r, _ in named])
        for request, index in named:
            if index not in rows.get(request.job, {}) and store.unfinished(request, index) is None:
                why = f"task {name_of(request, index)} is still under way; cancel it, or wait for it, before it is forgotten"
                raise Refused(m.UNFIT, why)
        forgotten = store.forget(named)
        if not question.everything and not question.engines:
            return forgotten, -1
        requests = store.requests(start)
        if question.everything:
            forgotten += store.forget_ended(requests)
            requests_of = [r for r in requests if store.is_open(r.job)]
        else:
            requests_of = requests
        parts = 0
        for i, request in enumerate(requests_of):
            parts += request.parts
            going = self._ended_on(request, None if question.everything else question.engines)
            forgotten += store.forget(going) if going else 0
            if parts >= _PAGE_PARTS and i + 1 < len(requests_of):
                return forgotten, request.job + 1
        return forgotten, requests[-1].job + 1 if len(requests) == MANY else -1

    def _ended_on(self, request: Request, engines: list[int] | None) -> list[tuple[Request, int]]:
        """Parts that have ended on these engines, or on any."""
        rows = self._store.results([request.job]).get(request.job, {})
        return [(request, i) for i, row in rows.items() if row.outcome != PURGED and (engines is None or row.engine in engines)]

    def resubmit(self, client: str, question: m.Resubmit) -> list[m.Submit]:
        """What finished tasks were, to be submitted again, and noted under their new names."""
        chosen: dict[int, tuple[Request, dict[int, None]]] = {}
        for _, request, indices in self._parts(question.ids):
            chosen.setdefault(request.job, (request, {}))[1].update(dict.fromkeys(indices))
        again: list[m.Submit] = []
        marks: list[tuple[int, int, str]] = []
        task = question.first
        for job, (request, picked) in chosen.items():
            indices = list(picked) if request.targets is None else sorted(picked)
            submit = self._store.submit_of(job)
            self._check_again(request, indices, submit)
            assert submit is not None
            data = [submit.data[i if len(submit.data) > 1 else 0] for i in indices]
            targets = None
            if request.targets is not None:
                targets = [request.targets[i] for i in indices]
                data = data if len(submit.data) > 1 else submit.data
            for offset, index in enumerate(indices):
                marks.append((job, index, task_id(client, task + offset) if targets is None else task_id(client, task, targets[offset])))
            again.append(msgspec.structs.replace(submit, first=task, targets=targets, data=data, terms=_again(submit.terms)))
            task += len(indices) if targets is None else 1
        self._store.mark_again(marks)
        return again

    def _check_again(self, request: Request, indices: list[int], submit: m.Submit | None) -> None:
        """Raise what stands in the way of a second run."""
        rows = self._store.results([request.job]).get(request.job, {})
        for index in indices:
            row = rows.get(index) or self._store.unfinished(request, index)
            if row is None:
                raise Refused(m.UNFIT, f"task {name_of(request, index)} is still under way; it can be resubmitted when it has ended")
        name = name_of(request, indices[0])
        if submit is None:
            raise Refused(m.UNFIT, f"what task {name} was given is not kept: the history had no room for it; call the function again")
        if submit.sizes:
            what = f"{sum(submit.sizes)} bytes of task {name}'s data are not kept"
            raise Refused(m.UNFIT, f"{what}; call the function again")
        if submit.collective and len(indices) < request.parts:
            whole = task_id(request.client, request.first)
            raise Refused(m.UNFIT, f"task {name} is one engine's part of a {submit.collective}, which needs them all: resubmit {whole!r}")


def _again(terms: m.Terms | None) -> m.Terms | None:
    """What a second run keeps of the terms: what it waited for has ended long ago."""
    return None if terms is None else msgspec.structs.replace(terms, after=None, follow=None)


# -- queues ----------------------------------------------------------------------------------------------------------


def queue_status(scheduler: Scheduler, question: m.QueueStatus) -> bytes:
    """What each engine has: ``queue`` (given to it directly) and ``tasks`` (balanced), running ones included, and ``completed``."""
    answer: dict[Any, Any] = {}
    for engine_id in question.engines:
        engine = scheduler.engines.get(engine_id)
        if engine is None:
            raise Refused(m.UNKNOWN, f"there is no engine {engine_id}; engines: {sorted(scheduler.engines)}")
        parts = [*engine.delivering.values(), *engine.parts.values()]
        direct = [task_id(p.job.client.id, p.task, engine_id) for p in parts if not p.balanced]
        balanced = [task_id(p.job.client.id, p.task) for p in parts if p.balanced]
        answer[engine_id] = {
            "queue": direct if question.verbose else len(direct),
            "tasks": balanced if question.verbose else len(balanced),
            "completed": engine.done,
        }
    if question.verbose:
        waiting = (p for c in scheduler.clients.values() for parts in c.parts.values() for p in parts if p.state is State.WAITING)
        answer["unassigned"] = [task_id(p.job.client.id, p.task) for p in waiting]
    else:
        answer["unassigned"] = scheduler.balancer.waiting
    return _encoder.encode(answer)
