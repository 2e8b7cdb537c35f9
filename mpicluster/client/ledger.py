"""Tasks of a client under way: whose they are. The tasks of a map are one entry, so that a million of them cost a byte each."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mpicluster.client.result import AsyncResult

__all__ = ["Ledger", "Pending"]


class Pending(NamedTuple):
    """Which slots of which result a task fills: by engine, or one."""

    result: AsyncResult
    slots: dict[int, int] | int


class _Run:
    """Tasks with numbers one after another, for slots one after another."""

    __slots__ = ("answered", "first", "left", "result", "slot")

    def __init__(self, first: int, count: int, result: AsyncResult, slot: int) -> None:
        self.first, self.result, self.slot = first, result, slot
        self.answered = bytearray(count)
        self.left = count


class Ledger:
    """The caller guards it."""

    def __init__(self) -> None:
        self._single: dict[int, Pending] = {}
        #: runs by their first task, which rises
        self._firsts: list[int] = []
        self._runs: list[_Run] = []
        #: the one that was asked for last, as answers of a map come together
        self._recent: _Run | None = None

    def add(self, task: int, pending: Pending) -> None:
        """One task is under way."""
        self._single[task] = pending

    def add_run(self, first: int, count: int, result: AsyncResult, slot: int) -> None:
        """So many tasks are under way, for the slots of a result from ``slot`` on."""
        position = bisect.bisect(self._firsts, first)
        self._firsts.insert(position, first)
        self._runs.insert(position, _Run(first, count, result, slot))

    def _run_of(self, task: int) -> _Run | None:
        run = self._recent
        if run is not None and 0 <= task - run.first < len(run.answered):
            return run
        position = bisect.bisect_right(self._firsts, task) - 1
        run = self._runs[position] if position >= 0 else None
        if run is None or task - run.first >= len(run.answered):
            return None
        self._recent = run
        return run

    def get(self, task: int) -> Pending | None:
        """What is pending of a task; None if it is not under way."""
        single = self._single.get(task)
        if single is not None or not self._runs:
            return single
        run = self._run_of(task)
        if run is None or run.answered[task - run.first]:
            return None
        return Pending(run.result, run.slot + task - run.first)

    def remove(self, task: int) -> None:
        """A task has its answer. A second time changes nothing."""
        if self._single.pop(task, None) is not None:
            return
        run = self._run_of(task)
        if run is None or run.answered[task - run.first]:
            return
        run.answered[task - run.first] = 1
        run.left -= 1
        if not run.left:
            self._drop(run.first)

    def remove_run(self, first: int, count: int) -> None:
        """Tasks that were added last were not sent."""
        if count == 1:
            self._single.pop(first, None)
        else:
            self._drop(first)

    def _drop(self, first: int) -> None:
        position = bisect.bisect_left(self._firsts, first)
        if position < len(self._firsts) and self._firsts[position] == first:
            del self._firsts[position], self._runs[position]
        self._recent = None

    def results(self) -> list[AsyncResult]:
        """All results that wait for something."""
        found = [p.result for p in self._single.values()] + [run.result for run in self._runs]
        return list({id(result): result for result in found}.values())

    def tasks(self) -> Iterator[tuple[int, Pending]]:
        """All tasks under way."""
        yield from list(self._single.items())
        for run in list(self._runs):
            for i, answered in enumerate(run.answered):
                if not answered:
                    yield run.first + i, Pending(run.result, run.slot + i)

    def clear(self) -> None:
        """Nothing is under way any more."""
        self._single.clear()
        self._firsts.clear()
        self._runs.clear()
        self._recent = None
