"""What became of every task, compactly: a byte and a number each, so that a million of them are five megabytes. Pure."""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

__all__ = ["Ended", "Outcomes"]

#: Tasks on one page: their numbers rise, but a client may leave gaps.
_PAGE: Final = 4096
#: Clients that have gone whose tasks are still known.
_GONE_KEPT: Final = 64
#: Of a task: a part of it ended well; one did not; all have ended.
_WELL, _BADLY, _ALL = 1, 2, 4


class Ended(NamedTuple):
    """What is known of a task that has ended, or of one engine's part of it."""

    well: bool
    #: where it ran
    engines: frozenset[int]


class _Page:
    __slots__ = ("flags", "places")

    def __init__(self) -> None:
        self.flags = bytearray(_PAGE)
        #: the engine; or, of a task for several, -1 - the number of their set
        self.places = array("i", bytes(4 * _PAGE))


class Outcomes:
    """By client (its number) and task."""

    def __init__(self) -> None:
        self._pages: dict[int, dict[int, _Page]] = {}
        #: sets of engines, numbered: there are few
        self._sets: list[frozenset[int]] = [frozenset()]
        self._numbers: dict[frozenset[int], int] = {self._sets[0]: 0}
        #: tasks of which parts ended well and others not: engines where it ended well
        self._mixed: dict[tuple[int, int], set[int]] = {}
        self._gone: list[int] = []
        #: the page that was written last
        self._newest_key: tuple[int, int] = (-1, -1)
        self._newest = _Page()

    def _page(self, client: int, task: int) -> _Page:
        key = client, task // _PAGE
        if key != self._newest_key:  # most tasks end in about the order in which they were submitted
            pages = self._pages.setdefault(client, {})
            page = pages.get(key[1])
            if page is None:
                page = pages[key[1]] = _Page()
            self._newest_key, self._newest = key, page
        return self._newest

    def ended_one(self, client: int, task: int, engine: int | None, *, well: bool) -> None:
        """`ended` for a task of one part, as most are."""
        page = self._page(client, task)
        page.flags[task % _PAGE] = _ALL | (_WELL if well else _BADLY)
        page.places[task % _PAGE] = -1 if engine is None else engine

    def ended(self, client: int, task: int, engine: int | None, *, well: bool, last: bool) -> None:
        """A part of a task for several engines has ended; ``last`` if the task has with it."""
        page = self._page(client, task)
        at = task % _PAGE
        before = page.flags[at]
        page.flags[at] = before | (_WELL if well else _BADLY) | (_ALL if last else 0)
        where = self._sets[-1 - page.places[at]] if before else frozenset[int]()
        mixed = page.flags[at] & (_WELL | _BADLY) == _WELL | _BADLY
        if mixed and (client, task) not in self._mixed:
            self._mixed[client, task] = set(where) if before & _WELL else set()
        if engine is not None:
            if mixed and well:
                self._mixed[client, task].add(engine)
            where |= {engine}
            if where not in self._numbers:
                self._numbers[where] = len(self._sets)
                self._sets.append(where)
        page.places[at] = -1 - self._numbers[where]

    def get(self, client: int, task: int, engine: int) -> Ended | None:
        """Of a task (engine -1: all of it) that has ended; None if it has not, or is not known."""
        page = self._pages.get(client, {}).get(task // _PAGE)
        at = task % _PAGE
        if page is None or not page.flags[at]:
            return None
        flags, place = page.flags[at], page.places[at]
        engines = frozenset([place]) if place >= 0 else self._sets[-1 - place]
        if engine < 0:
            return Ended(not flags & _BADLY, engines) if flags & _ALL else None
        if engine not in engines:
            return None
        mixed = self._mixed.get((client, task))
        return Ended(engine in mixed if mixed is not None else bool(flags & _WELL), frozenset([engine]))

    def forget(self, client: int) -> None:
        """A client has gone: its tasks are known for a while."""
        self._gone.append(client)
        while len(self._gone) > _GONE_KEPT:
            oldest = self._gone.pop(0)
            self._pages.pop(oldest, None)
            self._newest_key = (-1, -1)
            for key in [k for k in self._mixed if k[0] == oldest]:
                del self._mixed[key]
