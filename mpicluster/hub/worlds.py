"""The MPI worlds of which engines are. A cluster begins with one; each later job that attaches brings its own. Pure.

No message of MPI goes from one to another. So each heals for itself, and what engines do together stays within one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpicluster.hub.records import EngineRecord

__all__ = ["MpiWorld", "Worlds"]


class MpiWorld:
    """One of them."""

    def __init__(self, number: int, first: int, size: int) -> None:
        self.number = number
        #: ids of its engines, as many as it starts with
        self.ids = range(first, first + size)
        self.mpi = ""
        self.survives = True
        #: whether it could not go on
        self.lost = False
        #: how often it has shrunk, and the engines that have not healed since
        self.epoch = 0
        self.healing: set[int] = set()
        self.heal_started: float | None = None
        #: targets of collectives whose communicator the engines keep, in this epoch
        self.groups: set[tuple[int, ...]] = set()
        #: engines of gangs whose communicator is sound, and kept
        self.gangs: set[tuple[int, ...]] = set()
        #: how often the user's communicator was made anew, and what of that the present epoch began with
        self.turn = self.first_turn = 0

    def shrink(self, left: Iterable[int], now: float) -> None:
        """One of its engines is gone: those that are left heal. Their communicators are those of a new epoch."""
        self.epoch += 1
        self.groups.clear()
        self.gangs.clear()
        self.turn += 1
        self.first_turn = self.turn
        self.healing = set(left)
        self.heal_started = now if self.healing else None

    def lose(self) -> None:
        """It cannot go on."""
        self.lost, self.survives = True, False
        self.groups.clear()
        self.gangs.clear()
        self.healing.clear()
        self.heal_started = None


class Worlds:
    """All of a cluster, by their numbers."""

    def __init__(self, size: int) -> None:
        self._known = {0: MpiWorld(0, 0, size)}
        self._next_id = size
        #: what was asked for by who starts engines, and not yet by them
        self._places: dict[str, MpiWorld] = {}

    def __getitem__(self, number: int) -> MpiWorld:
        return self._known[number]

    def __iter__(self) -> Iterator[MpiWorld]:
        return iter(self._known.values())

    def of(self, engine: EngineRecord) -> MpiWorld:
        """That of an engine."""
        return self._known[engine.info.world]

    def has(self, engine: int, world: int) -> bool:
        """Whether an engine of this id may be in that world."""
        return world in self._known and engine in self._known[world].ids

    def invite(self, size: int, place: str = "") -> MpiWorld | None:
        """A world of so many engines is to come: a new one, or that of the place. None if the place is another number of engines'."""
        reserved = self._places.get(place)
        if reserved is not None:
            if len(reserved.ids) != size:
                return None
            return self._places.pop(place)
        world = MpiWorld(len(self._known), self._next_id, size)
        self._known[world.number] = world
        self._next_id += size
        if place:
            self._places[place] = world
        return world

    def common(self, engines: Iterable[int], known: Mapping[int, EngineRecord]) -> MpiWorld | None:
        """The world of all of these engines; None if they are of several."""
        numbers = {known[i].info.world for i in engines}
        return self._known[numbers.pop()] if len(numbers) == 1 else None
