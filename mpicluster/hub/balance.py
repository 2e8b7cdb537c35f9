"""Which engine gets the next balanced part. Pure: holds the queues, decides, sends nothing.

Parts go to the least loaded engine that they may run on, and each engine has a little work ahead, enough for about
`PREFETCH_TIME`, so that it never waits for the hub. Clients take turns. Work that piled up at one engine while
another is idle is taken back.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from mpicluster.config import PREFETCH_MAX, PREFETCH_TIME, SCHEMES
from mpicluster.hub.records import EngineRecord, Job, Part, State

__all__ = ["Balancer"]

#: Work is taken back from an engine whose oldest task is at least this old.
_PATIENCE = 0.005
#: So many parts that have ended may stay in the queues.
_STALE_KEPT = 64


class _Key(NamedTuple):
    """What the parts of one queue have in common."""

    client: str
    #: engines that may have them; empty for any
    allowed: frozenset[int]
    #: the engine where they failed last
    avoid: int | None
    #: engines that lack what they need
    unfit: frozenset[int]
    #: higher first, among those of one client
    priority: int


class Balancer:
    """Queues of waiting parts.

    Invariants: every part in a queue is WAITING or ENDED (cancelled: dropped when it comes up); ``hungry`` holds
    exactly the engines with room.
    """

    def __init__(self, engines: Mapping[int, EngineRecord], scheme: str = "leastload") -> None:
        """``scheme`` is the order in which engines with room are served, one of `SCHEMES`."""
        if scheme not in SCHEMES:
            raise ValueError(f"there is no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
        self._engines = engines
        self._scheme = scheme
        self._random = random.Random()
        #: the engine that was served last, in turn
        self._last = -1
        #: so that clients take turns, and what some engines may not have is passed over at once
        self._queues: dict[_Key, deque[Part]] = {}
        #: whether priorities matter
        self._ranked = False
        self.hungry: set[int] = set()
        #: how many parts may have ended where they wait
        self._stale = 0
        #: engines without a part, and those that may have more than they work on
        self._idle: set[int] = set()
        self._laden: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many parts wait."""
        return sum(part.state is State.WAITING for queue in self._queues.values() for part in queue)

    def add(self, parts: Iterable[Part], *, first: bool = False) -> None:
        """Queue parts; ``first`` for those that have waited already."""
        before: Part | None = None
        for part in parts:
            if before is None or part.job is not before.job or part.avoid != before.avoid or part.unfit != before.unfit:
                key = _Key(part.job.client.id, part.job.allowed, part.avoid, part.unfit, part.job.priority)
                queue = self._queues.setdefault(key, deque())
                self._ranked = self._ranked or key.priority != 0
            before = part
            if first:
                queue.appendleft(part)
            else:
                queue.append(part)

    def dropped(self) -> None:
        """A part has ended while it waited. They are taken out when they are most of what is there."""
        self._stale += 1
        if self._stale > _STALE_KEPT and self._stale * 2 > sum(map(len, self._queues.values())):
            kept = ((key, deque(p for p in queue if p.state is State.WAITING)) for key, queue in self._queues.items())
            self._queues = {key: queue for key, queue in kept if queue}
            self._stale = 0

    def depth(self, engine: EngineRecord) -> int:
        """How many parts this engine may have at a time."""
        if engine.stuck is not None:
            return 0
        mean = engine.mean
        if mean is None or mean > PREFETCH_TIME:
            return 2
        return PREFETCH_MAX + 1 if mean * PREFETCH_MAX <= PREFETCH_TIME else 1 + int(PREFETCH_TIME / mean)

    def update(self, engine: EngineRecord) -> None:
        """Note how many parts an engine has, whenever that has changed."""
        me, load = engine.info.id, len(engine.parts)
        (self.hungry.add if load < self.depth(engine) else self.hungry.discard)(me)
        (self._idle.discard if load or engine.stuck is not None else self._idle.add)(me)
        (self._laden.add if load > 1 and engine.movable else self._laden.discard)(me)

    def remove(self, engine: int) -> None:
        """An engine is gone."""
        self.hungry.discard(engine)
        self._idle.discard(engine)
        self._laden.discard(engine)

    def assignments(self) -> Iterable[tuple[EngineRecord, Part]]:
        """Pairs to assign now; the caller assigns each, and calls `update`, before it asks for the next."""
        while self._queues and self.hungry:
            progress = False
            for number in self._in_order():
                if number not in self.hungry:
                    continue
                engine = self._engines[number]
                part = self._next_for(engine)
                if part is not None:
                    progress = True
                    self._last = number
                    yield engine, part
                if not self._queues:
                    return
            if not progress:
                return

    def _in_order(self) -> Iterable[int]:
        """Engines with room for something that waits, in the order of the scheme."""
        eligible = self.hungry
        if all(key.allowed for key in self._queues):
            eligible = self.hungry & frozenset[int]().union(*(key.allowed for key in self._queues))
        if self._scheme == "random":
            return self._random.sample(sorted(eligible), len(eligible))
        if self._scheme == "roundrobin":
            return sorted(eligible, key=lambda i: (i <= self._last, i))
        if self._scheme == "weighted":  # those with less are likely to be first
            return sorted(eligible, key=lambda i: self._random.expovariate(1.0 / (1 + len(self._engines[i].parts))))
        return self._least_loaded(eligible)

    def _least_loaded(self, eligible: Set[int]) -> Iterable[int]:
        yield from sorted(eligible & self._idle)
        yield from sorted(eligible - self._idle, key=lambda i: len(self._engines[i].parts))

    def _next_for(self, engine: EngineRecord) -> Part | None:
        me = engine.info.id
        for key in self._by_rank() if self._ranked else list(self._queues):
            queue = self._queues[key]
            while queue and queue[0].state is not State.WAITING:
                queue.popleft()
            if not queue:
                del self._queues[key]
                continue
            if (key.allowed and me not in key.allowed) or me in key.unfit:
                continue
            if key.avoid == me and self.has_taker(key.allowed, key.unfit, besides=me):
                continue  # it failed here: another engine first
            part = queue.popleft()
            if not queue:
                del self._queues[key]
            elif len(self._queues) > 1:
                self._queues[key] = self._queues.pop(key)  # to the end: the next client's turn
            return part
        return None

    def has_taker(self, allowed: Set[int], unfit: Set[int] = frozenset(), *, besides: int = -1) -> bool:
        """Whether an engine takes work that may have a part: one of ``allowed``, if that is not empty, and not of ``unfit``."""
        engines = self._engines
        return any(i not in unfit and i != besides and i in engines and engines[i].stuck is None for i in allowed or engines)

    def _by_rank(self) -> list[_Key]:
        """Queues in the order in which they are served: clients take turns, each with what is most urgent first."""
        self._ranked = any(key.priority for key in self._queues)
        turns = {key.client: turn for turn, key in enumerate(self._queues)}  # who was served goes to the end
        return sorted(self._queues, key=lambda key: (turns[key.client], -key.priority))

    def drop_impossible(self) -> list[Part]:
        """Take out the parts whose allowed engines are all gone, or take no work."""
        lost: list[Part] = []
        for key in list(self._queues):
            if not self.has_taker(key.allowed, key.unfit):
                lost += [p for p in self._queues.pop(key) if p.state is State.WAITING]
        return lost

    def to_withdraw(self, now: float) -> list[tuple[EngineRecord, list[Part]]]:
        """Parts to take back from engines that have too many, while others have none."""
        if not self._idle or not self._laden:
            return []
        chosen = []
        homes: dict[Job, Set[int]] = {}
        for engine in [self._engines[i] for i in self._laden]:
            if engine.withdrawing or now < engine.begun_at + _PATIENCE or not engine.crowded:
                continue
            oldest = next(iter(engine.parts.values()))  # it is running
            rest: list[Part] = []
            for job, held in engine.movable.items():
                if job not in homes:
                    homes[job] = self._idle & job.allowed if job.allowed else self._idle
                where = homes[job]
                if where:  # where it failed last it would not be run
                    rest += [p for p in held.values() if p is not oldest and (len(where) > 1 or p.avoid not in where) and where - p.unfit]
            if rest:
                rest.sort(key=lambda p: p.seq)
                chosen.append((engine, rest[len(rest) // 2 :]))  # half of them, the newest
        return chosen

    def wake_at(self, now: float) -> float | None:
        """When `to_withdraw` will have more to say than at ``now`` if nothing happens."""
        if not self._idle or not self._laden:
            return None
        laden = [self._engines[i] for i in self._laden]
        times = [e.begun_at + _PATIENCE for e in laden if e.begun_at + _PATIENCE > now and not e.withdrawing and e.crowded]
        return min(times) if times else None
