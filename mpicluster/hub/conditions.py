"""What a submission asks beyond being run: other tasks to wait for or to be near to, and times. Pure.

Knows jobs and parts; the scheduler carries out what is said here.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from mpicluster.errors import ProtocolError
from mpicluster.hub.dependencies import Dependencies, Gate, Name
from mpicluster.hub.outcomes import Ended, Outcomes
from mpicluster.hub.records import ClientRecord, Job, Part
from mpicluster.wire import messages as m

__all__ = ["Conditions", "Refused", "Release", "TooLate"]

#: Other tasks that one submission may name.
_MOST_NEEDS = 1_000_000


class Release(NamedTuple):
    """A job waits no more for others; where it may run now (None: as before)."""

    job: Job
    engines: frozenset[int] | None


class Refused(NamedTuple):
    """A job cannot come to run, and why."""

    job: Job
    why: str


class TooLate(NamedTuple):
    """Parts of a job that have not begun are not to begin any more, and why."""

    job: Job
    why: str


Finding: TypeAlias = Release | Refused | TooLate


class Conditions:
    """All jobs with terms that matter before they run. ``findings`` says what has become of them since it was asked last."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._live: dict[int, ClientRecord] = {}
        self.outcomes = Outcomes()
        self._dependencies = Dependencies()
        self._deadlines: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._ended: deque[tuple[Name, Ended]] = deque()
        self._findings: deque[Finding] = deque()

    def client_came(self, client: ClientRecord) -> None:
        """Its tasks may be named from now on."""
        self._numbers[client.id] = client.number
        self._live[client.number] = client

    def client_gone(self, client: ClientRecord) -> None:
        """Its tasks are known for a while, those that have ended."""
        if self._live.pop(client.number, None) is not None:
            self.outcomes.forget(client.number)

    def admit(self, job: Job, now: float) -> bool:
        """Whether a job may go on at once; if not, a finding will say when, or why not.

        Raises
        ------
        ProtocolError
            its terms make no sense; nothing has changed.
        """
        terms = job.submit.terms
        if terms is None:
            return True
        _check(terms, balanced=job.submit.targets is None)
        if terms.timeout > 0:
            heapq.heappush(self._deadlines, (now + terms.timeout, next(self._order), job))
        if terms.after is None and terms.follow is None:
            return True
        conditions: list[tuple[Gate, list[Name]] | None] = []
        for needs in (terms.after, terms.follow):
            if needs is None:
                conditions.append(None)
                continue
            condition = self._condition(job.client, needs)
            if isinstance(condition, str):
                self._findings.append(Refused(job, condition))
                return False
            conditions.append(condition)
        after, follow = conditions
        if follow is not None and follow[0].all and follow[0].engines == frozenset():
            self._findings.append(Refused(job, "the tasks it is to follow ran on different engines, or nowhere"))
        elif all(c is None or c[0].open for c in conditions):
            self._findings.append(Release(job, follow[0].engines or frozenset() if follow is not None else None))
        else:
            job.held = True
            self._dependencies.add(job, after, follow)
        return False

    def _condition(self, client: ClientRecord, needs: m.Needs) -> tuple[Gate, list[Name]] | str:
        """A condition, and the tasks that it still waits for; or why it cannot be met."""
        names = [Name(client.number, task, engine) for task, engine in needs.own]
        for id_, task, engine in needs.others:
            if id_ not in self._numbers:
                return f"unknown task {id_}_{task}: the hub knows no client of that name"
            names.append(Name(self._numbers[id_], task, engine))
        names = list(dict.fromkeys(names))
        gate = Gate(len(names), all_=needs.all, success=needs.success, failure=needs.failure)
        left = []
        for name in names:
            ended = self.outcomes.get(*name)
            if ended is not None:
                impossible = None if gate.open else gate.ended(ended)
                if impossible is not None:
                    return impossible
            elif self._under_way(name):
                left.append(name)
            else:
                return f"unknown task {name.task}: it was not submitted, or is forgotten"
        return gate, left

    def _under_way(self, name: Name) -> bool:
        client = self._live.get(name.client)
        parts = client.parts.get(name.task) if client is not None else None
        return bool(parts) and (name.engine < 0 or any(p.engine == name.engine and not p.balanced for p in parts or ()))

    def ended(self, part: Part, outcome: int) -> None:
        """A part has ended."""
        job, task = part.job, part.task
        client, well = job.client.number, outcome == m.OK
        several = len(job.parts) > 1
        if several:
            self.outcomes.ended(client, task, part.engine, well=well, last=job.open == 0)
        else:
            self.outcomes.ended_one(client, task, part.engine, well=well)
        if not self._dependencies:
            return
        if job.held and job.open == 0:
            self._dependencies.drop(job)
        if not part.balanced and part.engine is not None:
            self._ended.append((Name(client, task, part.engine), Ended(well, frozenset([part.engine]))))
        if (not several or job.open == 0) and (whole := self.outcomes.get(client, task, -1)) is not None:
            self._ended.append((Name(client, task, -1), whole))

    def findings(self, now: float) -> Iterator[Finding]:
        """What is to be done; the caller does each before it asks for the next, which may add to them."""
        while True:
            if self._findings:
                yield self._findings.popleft()
            elif self._ended:
                for key, impossible, engines in self._dependencies.ended(*self._ended.popleft()):
                    assert isinstance(key, Job)
                    key.held = False
                    self._findings.append(Refused(key, impossible) if impossible else Release(key, engines))
            elif self._deadlines and self._deadlines[0][0] <= now:
                job = heapq.heappop(self._deadlines)[2]
                if job.open:
                    assert job.submit.terms is not None
                    waits = "the tasks it depends on had not ended" if job.held else "it had not begun"
                    self._findings.append(TooLate(job, f"{waits} within its timeout of {job.submit.terms.timeout:g} s"))
            else:
                return

    def wake_at(self) -> float | None:
        """When `findings` has more to say if nothing happens."""
        while self._deadlines and not self._deadlines[0][2].open:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None


def _check(terms: m.Terms, *, balanced: bool) -> None:
    """Raise `ProtocolError` for what makes no sense."""
    if not all(0.0 <= t < 1e9 for t in (terms.timeout, terms.time_limit)):
        raise ProtocolError("a time is negative, or too long")
    if not -(2**31) < terms.priority < 2**31:
        raise ProtocolError("a priority is out of range")
    if not balanced and (terms.after is not None or terms.follow is not None):
        raise ProtocolError("what is for certain engines cannot wait for other tasks")
    for needs in (terms.after, terms.follow):
        if needs is not None and not 0 < len(needs.own) + len(needs.others) <= _MOST_NEEDS:
            raise ProtocolError("a dependency names no task, or too many")
        if needs is not None and not (needs.success or needs.failure):
            raise ProtocolError("a dependency must accept success or failure")
