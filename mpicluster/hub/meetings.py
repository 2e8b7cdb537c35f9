"""What several engines do together: who waits at the door, when it opens, and who is let go when one does not come. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mpicluster.config import GROUPS_KEPT
from mpicluster.hub.records import EngineRecord, Job, Part, Send, State
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.hub.scheduler import Scheduler

__all__ = ["Meetings"]

#: What runs code of the user's on several engines, which may wait for each other in MPI.
_GANGS = frozenset({"spmd", "arrays"})
_TOGETHER = frozenset({"apply", "execute"}) | _GANGS


class Meetings:
    """The doors of collectives. All targets enter, or none."""

    def __init__(self, hub: Scheduler) -> None:
        self._hub = hub
        #: jobs of which all parts are at the door
        self.waiting: list[Job] = []

    def can(self, targets: Sequence[int]) -> bool:
        """Whether these engines are of one MPI world, as far as they are there."""
        there = [i for i in targets if i in self._hub.engines]
        return not there or self._hub.worlds.common(there, self._hub.engines) is not None

    def need_no_door(self, job: Job) -> bool:
        """Whether a gang may enter at once: its engines are idle, or about to be, have a communicator, and can be freed from it."""
        hub, key = self._hub, tuple(job.submit.targets or ())
        world = hub.worlds.common(key, hub.engines)
        gang = job.submit.kind in _GANGS and job.submit.collective == "spmd"
        if not gang or world is None or key not in world.gangs or not world.survives or world.healing:
            return False
        return all(p.job.told is not None for i in key for p in hub.engines[i].parts.values())

    def ready(self, engine: EngineRecord, message: m.Ready, now: float) -> None:
        """A target is at the door."""
        part = engine.parts.get(message.seq)
        if part is None:
            return
        job = part.job
        part.to("ready")
        if job.abandoned or not job.submit.collective:
            self.turn_away(part, m.ABANDONED)
            return
        job.metas[engine.info.id] = message.meta
        if len(job.metas) == len(job.parts):
            self.waiting.append(job)

    def open_doors(self) -> None:
        """Let in whose targets are all there, except in worlds that are being mended."""
        hub, waiting = self._hub, []
        for job in self.waiting:
            if job.abandoned:
                continue
            world = hub.worlds.common((p.engine for p in job.parts if p.engine is not None), hub.engines)
            assert world is not None
            if world.healing:
                waiting.append(job)
                continue
            metas = _runs(job.metas[p.engine] for p in job.parts if p.engine is not None)
            key = tuple(job.submit.targets or ())
            known = world.gangs if job.submit.kind in _GANGS else world.groups
            fresh = key not in known
            keep = not fresh or len(known) < GROUPS_KEPT
            if keep:
                known.add(key)
            for part in job.parts:
                assert part.engine is not None
                part.to("enter")
                hub.out.append(Send(hub.engines[part.engine].main, m.Enter(part.seq, world.epoch, metas, keep, fresh)))
            job.metas.clear()
        self.waiting = waiting

    def abandon(self, job: Job, cause: Part, outcome: int = m.ABANDONED) -> None:
        """A target will not come: let the others go that stand at the door."""
        if job.abandoned:
            return
        job.abandoned = True
        for part in job.parts:
            if part is not cause and part.state is State.READY:
                self.turn_away(part, outcome)

    def turn_away(self, part: Part, outcome: int) -> None:
        """Let a part go that stands at the door of a collective, which will not happen."""
        assert part.engine is not None
        engine = self._hub.engines.get(part.engine)
        if engine is not None:
            engine.release(part.seq)
            self._hub.out.append(Send(engine.main, m.Abandon(part.seq)))
            self._hub.balancer.update(engine)
        self._hub.end_part(part, outcome, b"")

    def failed(self, job: Job, part: Part) -> None:
        """One engine of several has failed, or is gone: the others may wait for it in MPI, or have had it tell their results."""
        hub = self._hub
        if job.submit.kind in _GANGS:  # its communicator is revoked, be it of one
            for world in hub.worlds:
                world.gangs.discard(tuple(job.submit.targets or ()))
        if len(job.parts) < 2 or job.submit.kind not in _TOGETHER:
            return
        why = f"engine {part.engine} has failed"
        for other in job.parts:
            if other is not part and other.state in (State.ASSIGNED, State.ENTERED) and other.engine in hub.engines:
                hub.out.append(Send(hub.engines[other.engine].control, m.Free(other.seq, why)))


def _runs(metas: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Runs of equal ones: as many as there are engines would make a message of a square's size."""
    return [(sum(1 for _ in run), meta) for meta, run in itertools.groupby(metas)]
