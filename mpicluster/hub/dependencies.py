"""Which submissions wait for other tasks, and when they may go on. Pure: knows tasks by name, not what they are.

For each submission that waits: how many tasks it still waits for. For each task that is waited for: who does. So the end of a task costs
as much as there are submissions that it frees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mpicluster.hub.outcomes import Ended

__all__ = ["Dependencies", "Gate", "Name", "Verdict"]


class Name(NamedTuple):
    """A task, or one engine's part of it."""

    client: int
    task: int
    #: -1 for all of it
    engine: int


class Gate:
    """One condition: all of some tasks, or any, that ended well, or badly, or either."""

    __slots__ = ("_left", "all", "engines", "failure", "success")

    def __init__(self, count: int, *, all_: bool, success: bool, failure: bool) -> None:
        self.all, self.success, self.failure = all_, success, failure
        self._left = count
        #: engines where the tasks ran: all of them, or any
        self.engines: frozenset[int] | None = None

    def ended(self, what: Ended) -> str | None:
        """One of the tasks has ended. Why the condition cannot be met any more, None if it can, or is."""
        self._left -= 1
        if self.success if what.well else self.failure:
            if self.engines is None:
                self.engines = what.engines
            else:
                self.engines = self.engines & what.engines if self.all else self.engines | what.engines
            if not self.all:
                self._left = 0
        elif self.all:
            return "a task it depends on ended " + ("well" if what.well else "badly")
        elif self._left == 0 and self.engines is None:
            return "none of the tasks it depends on ended as it should"
        return None

    @property
    def open(self) -> bool:
        """Whether it is met."""
        return self._left <= 0


class Waiting:
    """One submission that waits."""

    __slots__ = ("after", "follow", "key", "over")

    def __init__(self, key: object, after: Gate | None, follow: Gate | None) -> None:
        #: what it is to the caller
        self.key = key
        self.after, self.follow = after, follow
        #: it waits no more
        self.over = False

    @property
    def open(self) -> bool:
        """Whether it may go on."""
        return (self.after is None or self.after.open) and (self.follow is None or self.follow.open)


class Verdict(NamedTuple):
    """A submission waits no more: why not, or where it may run now (None: anywhere)."""

    key: object
    impossible: str
    engines: frozenset[int] | None


class Dependencies:
    """All that waits."""

    def __init__(self) -> None:
        self._waiting: dict[object, Waiting] = {}
        #: who waits for what, with which of its conditions
        self._by_name: dict[Name, list[tuple[Waiting, Gate]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: object, after: tuple[Gate, Sequence[Name]] | None, follow: tuple[Gate, Sequence[Name]] | None) -> None:
        """Let a submission wait. Of what has ended already, `Gate.ended` has been told before, and it is not among the names."""
        waiting = Waiting(key, after[0] if after else None, follow[0] if follow else None)
        self._waiting[key] = waiting
        for condition in (after, follow):
            if condition is not None:
                for name in condition[1]:
                    self._by_name.setdefault(name, []).append((waiting, condition[0]))

    def drop(self, key: object) -> None:
        """A submission waits no more: it was cancelled."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting.over = True  # taken out of the lists when what it waits for ends

    def ended(self, name: Name, what: Ended) -> Iterable[Verdict]:
        """A task, or a part of it, has ended: what waits no more."""
        for waiting, gate in self._by_name.pop(name, ()):
            if waiting.over or gate.open:
                continue
            impossible = gate.ended(what)
            if gate is waiting.follow and gate.all and gate.engines == frozenset():
                impossible = impossible or "the tasks it is to follow ran on different engines, or nowhere"
            if impossible is not None or waiting.open:
                self.drop(waiting.key)
                follow = waiting.follow
                yield Verdict(waiting.key, impossible or "", None if follow is None else follow.engines or frozenset())
