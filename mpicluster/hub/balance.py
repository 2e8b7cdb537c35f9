"""Which engine gets the next balanced part. Pure: holds the queues, decides, sends nothing.

Parts go to the least loaded engine that they may run on, and each engine has a little work ahead, enough for about
`PREFETCH_TIME`, so that it never waits for the hub. Clients take turns. Work that piled up at one engine while
another is idle is taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from mpicluster.config import PREFETCH_MAX, PREFETCH_TIME
from mpicluster.hub.records import EngineRecord, Part, State

__all__ = ["Balancer"]

#: Work is taken back from an engine whose oldest task is at least this old.
_PATIENCE = 0.005


class Balancer:
    """Queues of waiting parts.

    Invariants: every part in a queue is WAITING or ENDED (cancelled: dropped when it comes up); ``hungry`` holds
    exactly the engines with room.
    """

    def __init__(self, engines: Mapping[int, EngineRecord]) -> None:
        self._engines = engines
        #: by client and the engines allowed, so that clients take turns
        self._queues: dict[tuple[str, tuple[int, ...]], deque[Part]] = {}
        self.hungry: set[int] = set()
        #: engines without a part, and with more than one
        self._idle: set[int] = set()
        self._crowded: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many parts wait."""
        return sum(part.state is State.WAITING for queue in self._queues.values() for part in queue)

    def add(self, parts: Iterable[Part], *, first: bool = False) -> None:
        """Queue parts; ``first`` for those that have waited already."""
        for part in parts:
            submit = part.job.submit
            key = (part.job.client.id, tuple(submit.allowed))
            queue = self._queues.setdefault(key, deque())
            if first:
                queue.appendleft(part)
            else:
                queue.append(part)

    def depth(self, engine: EngineRecord) -> int:
        """How many parts this engine may have at a time."""
        if engine.mean is None:
            return 2
        return 1 + max(1, min(PREFETCH_MAX, int(PREFETCH_TIME / max(engine.mean, 1e-6))))

    def update(self, engine: EngineRecord) -> None:
        """Note how many parts an engine has, whenever that has changed."""
        me, load = engine.info.id, len(engine.parts)
        (self.hungry.add if load < self.depth(engine) else self.hungry.discard)(me)
        (self._idle.discard if load else self._idle.add)(me)
        (self._crowded.add if load > 1 else self._crowded.discard)(me)

    def remove(self, engine: int) -> None:
        """An engine is gone."""
        self.hungry.discard(engine)
        self._idle.discard(engine)
        self._crowded.discard(engine)

    def assignments(self) -> Iterable[tuple[EngineRecord, Part]]:
        """Pairs to assign now; the caller assigns each before it asks for the next."""
        while self._queues and self.hungry:
            progress = False
            for engine in sorted((self._engines[i] for i in self.hungry), key=lambda e: len(e.parts)):
                if engine.info.id not in self.hungry:
                    continue
                part = self._next_for(engine)
                if part is not None:
                    progress = True
                    yield engine, part
                    self.update(engine)
                if not self._queues:
                    return
            if not progress:
                return

    def _next_for(self, engine: EngineRecord) -> Part | None:
        me = engine.info.id
        for key in list(self._queues):
            queue = self._queues[key]
            while queue and queue[0].state is not State.WAITING:
                queue.popleft()
            if not queue:
                del self._queues[key]
                continue
            if key[1] and me not in key[1]:
                continue
            part = queue[0]
            if part.avoid == me and any(other != me and (not key[1] or other in key[1]) for other in self._engines):
                # it failed here: another engine first; meanwhile this one takes the next that it may
                part = next((p for p in queue if p.state is State.WAITING and p.avoid != me), part)
                if part.avoid == me:
                    continue
                queue.remove(part)
            else:
                queue.popleft()
            if queue:
                self._queues[key] = self._queues.pop(key)  # to the end: the next client's turn
            else:
                del self._queues[key]
            return part
        return None

    def drop_impossible(self) -> list[Part]:
        """Take out the parts whose allowed engines are all gone."""
        lost: list[Part] = []
        for key in list(self._queues):
            if not self._engines or (key[1] and not any(i in self._engines for i in key[1])):
                lost += [p for p in self._queues.pop(key) if p.state is State.WAITING]
        return lost

    def to_withdraw(self, now: float) -> list[tuple[EngineRecord, list[Part]]]:
        """Parts to take back from engines that have too many, while others have none."""
        if self._queues or not self._idle or not self._crowded:
            return []
        chosen = []
        for engine in [self._engines[i] for i in self._crowded]:
            if engine.withdrawing or now - engine.begun_at < _PATIENCE:
                continue
            # the oldest is running; half of the rest, the newest, goes elsewhere
            rest = [p for p in list(engine.parts.values())[1:] if self._movable(p, self._idle)]
            if rest:
                chosen.append((engine, rest[len(rest) // 2 :]))
        return chosen

    @staticmethod
    def _movable(part: Part, idle: set[int]) -> bool:
        submit = part.job.submit
        return (
            part.balanced
            and part.state is State.ASSIGNED
            and not submit.sizes
            and any(i != part.avoid and (not submit.allowed or i in submit.allowed) for i in idle)  # else it would come back
        )

    def wake_at(self, now: float) -> float | None:
        """When `to_withdraw` will have more to say than at ``now`` if nothing happens."""
        if self._queues or not self._idle or not self._crowded:
            return None
        times = [self._engines[i].begun_at + _PATIENCE for i in self._crowded if not self._engines[i].withdrawing]
        return min((t for t in times if t > now), default=None)
