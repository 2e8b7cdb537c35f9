"""Values and facts of tasks by their ids, as IPython Parallel has them in dicts. Nothing is kept here: the hub is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["ByName"]


class ByName(Mapping[str, Any]):
    """For each id of a history, what ``find(id)`` gives. To iterate over it costs nothing; each look-up asks for that task."""

    def __init__(self, names: Sequence[str], find: Callable[[str], Any]) -> None:
        self._names = names
        self._find = find

    def __getitem__(self, name: str) -> Any:
        return self._find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return f"<of {len(self)} tasks, by their ids>"
