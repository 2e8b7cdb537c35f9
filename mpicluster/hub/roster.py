"""Engines that come and go, and MPI worlds that heal or are lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from mpicluster.config import HEAL_TIMEOUT
from mpicluster.errors import ProtocolError
from mpicluster.hub.records import EngineRecord, Send, State
from mpicluster.hub.worlds import MpiWorld
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.hub.scheduler import Scheduler

__all__ = ["Roster"]


class Roster:
    """Who is there."""

    def __init__(self, hub: Scheduler) -> None:
        self._hub = hub
        #: engines of which one channel is here, by id
        self.arriving: dict[int, EngineRecord] = {}
        #: how often an engine was lost
        self.epoch = 0

    def register(self, message: m.Register, address: bytes, now: float) -> None:
        """One of an engine's two channels is here.

        Raises
        ------
        ProtocolError
            it is none of this cluster's engines, or that channel is here already.
        """
        hub, info = self._hub, message.engine
        if not hub.worlds.has(info.id, info.world) or message.channel not in ("main", "control"):
            raise ProtocolError(f"there is no channel {message.channel!r} of an engine {info.id}")
        engine = self.arriving.get(info.id) or EngineRecord(info)
        if info.id in hub.engines or message.channel in engine.channels:
            raise ProtocolError(f"engine {info.id} registers its channel {message.channel!r} twice")
        self.arriving[info.id] = engine
        engine.channels.add(message.channel)
        engine.ring = message.ring or engine.ring
        if message.channel == "main":
            engine.main = address
        else:
            engine.control = address
        world = hub.worlds[info.world]
        world.mpi, world.survives = message.mpi, message.survives
        hub.out.append(Send(address, m.Registered()))
        if len(engine.channels) == 2:
            del self.arriving[info.id]
            hub.engines[info.id] = engine
            hub.balancer.update(engine)
            self._announce("")
            self._greet(engine, world, now)

    def _greet(self, engine: EngineRecord, world: MpiWorld, now: float) -> None:
        """Tell a new engine what has happened before."""
        hub = self._hub
        if hub.ended is not None:
            hub.out.append(Send(engine.control, m.Stop(hub.ended)))
        elif world.lost:
            self.lost(engine.info.id, "came to an MPI world that cannot go on", now)
            return
        elif world.epoch > 0:  # another died before this one was here
            world.healing.add(engine.info.id)
            world.heal_started = now
            alive = self.alive(world)  # it shrinks as often as the others did, or some would wait for it
            hub.out += [Send(engine.control, m.Heal(epoch, alive, world.first_turn)) for epoch in range(1, world.epoch + 1)]
        hub.out += [Send(engine.control, m.Refresh(turn)) for turn in range(world.first_turn + 1, world.turn + 1)]

    def lost(self, engine_id: int, reason: str, now: float) -> None:
        """An engine's process is gone, or one of its channels: it is told to end then, and so is its world, if that cannot go on."""
        hub = self._hub
        engine = self._remove(engine_id, "the hub has lost a connection to it", now)
        if engine is None or hub.ended is not None:
            return
        world, text = hub.worlds.of(engine), f"{_described(engine)} {reason}"
        last = not hub.engines and not self.arriving
        if not last and (world.survives or self._others(world)):
            self._bury({engine_id: (engine, text)}, text)
            if world.survives:
                alive = self.alive(world)
                world.shrink(alive, now)
                hub.out += [Send(hub.engines[i].control, m.Heal(world.epoch, alive, world.turn)) for i in alive]
            else:
                self._lose_world(world, text, now)
            hub.end_impossible(text)
            return
        for part in [*engine.parts.values(), *engine.delivering.values()]:
            part.job.abandoned = True  # who stands at its door hears the farewell, and nothing before
        self._bury({engine_id: (engine, text)}, None)
        if last:
            hub.end(f"the last engine is gone: {text}")
        else:
            hub.end(f"{text}; {world.mpi} cannot go on with a dead rank, so the cluster ends (Open MPI with --with-ft ulfm can)")

    def _remove(self, engine_id: int, why: str, now: float) -> EngineRecord | None:
        """Take an engine out, and tell it to end. What it has done counts."""
        hub = self._hub
        engine = hub.engines.get(engine_id)
        if engine is not None and hub.ended is None:
            for part in [p for p in engine.parts.values() if p.done is not None]:
                assert part.done is not None
                part.outputs = part.done.outputs  # no more of them will come
                hub.done(engine, part.done, now)
        gone = hub.engines.pop(engine_id, None) or self.arriving.pop(engine_id, None)
        if gone is not None:
            hub.out += [Send(a, m.Stop(why)) for a in (gone.control,) if a]
            if hub.ended is None:
                hub.balancer.remove(engine_id)
        return gone

    def _bury(self, gone: Mapping[int, tuple[EngineRecord, str]], news: str | None) -> None:
        """Engines were removed, each for its reason: what they had is lost, or runs elsewhere. ``news`` is said if the cluster goes on."""
        if news is not None:
            self.epoch += len(gone)
            self._announce(news)  # first: whoever hears of a task that was lost is to know which engines are left
        for engine_id, (engine, text) in gone.items():
            self._hub.endings.engine_lost(engine_id)
            running = next(iter(engine.parts.values()), None)
            for part in [*reversed(engine.parts.values()), *engine.delivering.values()]:  # the oldest is to be first again
                if part.state is not State.ENDED:  # as a part of what was to be done together with one that is gone, too
                    self._hub.part_lost(part, text, was_running=part is running)
            engine.parts.clear()
            engine.delivering.clear()

    def _lose_world(self, world: MpiWorld, why: str, now: float) -> None:
        """A world cannot go on: all its engines are lost, if there are others; else the cluster ends."""
        if not self._others(world):
            self._hub.end(why)
            return
        world.lose()
        gone: dict[int, tuple[EngineRecord, str]] = {}
        for i in self.alive(world):
            engine = self._remove(i, f"its MPI world cannot go on: {why}", now)
            if engine is not None:
                gone[i] = engine, f"{_described(engine)} is of an MPI world that cannot go on: {why}"
        if gone:
            self._bury(gone, f"an MPI world cannot go on: {why}")
        self._hub.end_impossible(why)

    def _others(self, world: MpiWorld) -> bool:
        """Whether there are engines of another world."""
        return any(e.info.world != world.number for e in self._hub.engines.values())

    def alive(self, world: MpiWorld) -> list[int]:
        """Engines of a world that are here."""
        return sorted(i for i, e in self._hub.engines.items() if e.info.world == world.number)

    def _announce(self, reason: str) -> None:
        news = m.Engines(self.epoch, [e.info for e in self._hub.engines.values()], reason)
        self._hub.out += [Send(c.address, news) for c in self._hub.clients.values()]

    # -- a world is mended -------------------------------------------------------------------------------------------

    def healed(self, engine: EngineRecord, message: m.Healed, now: float) -> None:
        """An engine has a communicator of those that are left."""
        if engine.info.id not in message.engines:
            raise ProtocolError(f"engine {engine.info.id} healed into a world without it")
        world = self._hub.worlds.of(engine)
        if message.epoch == world.epoch:
            world.healing.discard(engine.info.id)
            engine.info = msgspec.structs.replace(engine.info, rank=message.engines.index(engine.info.id))
            if not world.healing:
                world.heal_started = None
                self._announce("")

    def heal_failed(self, engine: EngineRecord, message: m.HealFailed, now: float) -> None:
        """An engine has none."""
        world = self._hub.worlds.of(engine)
        if message.epoch == world.epoch:  # else another rank died meanwhile, and the next attempt is under way
            self._lose_world(world, f"the MPI world could not be mended after a rank died: {message.reason}", now)

    def end_overdue(self, now: float) -> None:
        """Give up worlds that should have healed by now."""
        for world in self._hub.worlds:
            if world.heal_started is not None and now - world.heal_started > HEAL_TIMEOUT:
                self._lose_world(world, f"engines {sorted(world.healing)} did not mend their MPI world within {HEAL_TIMEOUT:.0f} s", now)

    def wake_at(self) -> float | None:
        """When `end_overdue` should be called next if nothing happens."""
        return min((w.heal_started + HEAL_TIMEOUT for w in self._hub.worlds if w.heal_started is not None), default=None)


def _described(engine: EngineRecord) -> str:
    info = engine.info
    return f"engine {info.id} (rank {info.rank}, pid {info.pid} on {info.host})"
