"""Ids of many tasks, kept as runs of numbers: a million of them take no more memory than the calls they came from."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from mpicluster.ids import task_id

__all__ = ["Names"]


class _Run(NamedTuple):
    """Tasks ``first``, ``first + 1``, ... of a client; each one task, or one on each of some engines."""

    client: str
    first: int
    tasks: int
    engines: tuple[int, ...] | None

    @property
    def size(self) -> int:
        return self.tasks * len(self.engines or (-1,))

    def name(self, i: int) -> str:
        if self.engines is None:
            return task_id(self.client, self.first + i)
        task, position = divmod(i, len(self.engines))
        return task_id(self.client, self.first + task, self.engines[position])


class Names(Sequence[str]):
    """Ids of tasks in the order in which they were submitted. A sequence, equal to the list of its ids."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        #: position of the end of each run
        self._ends: list[int] = []

    def add(self, client: str, first: int, count: int, engines: Sequence[int] | None = None) -> None:
        """Tasks from ``first`` on were submitted."""
        where = None if engines is None else tuple(engines)
        size = count * len(where or (-1,))
        last = self._runs[-1] if self._runs else None
        if last is not None and last.first + last.tasks == first and last.engines == where and last.client == client:
            self._runs[-1] = _Run(client, last.first, last.tasks + count, where)
            self._ends[-1] += size
            return
        self._runs.append(_Run(client, first, count, where))
        self._ends.append(len(self) + size)

    def clear(self) -> None:
        """Forget them."""
        self._runs.clear()
        self._ends.clear()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"there is no task {index}: {len(self)} have been submitted")
        return self._at(position)

    def _at(self, position: int) -> str:
        which = bisect.bisect_right(self._ends, position)
        return self._runs[which].name(position - (self._ends[which] - self._runs[which].size))

    def __iter__(self) -> Iterator[str]:
        for run in list(self._runs):
            yield from map(run.name, range(run.size))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | tuple | Names):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=False))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if len(self) <= 20:
            return repr(list(self))
        return f"<{len(self)} ids of tasks: {self[0]!r} ... {self[-1]!r}>"
