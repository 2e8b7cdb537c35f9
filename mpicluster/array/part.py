"""One rank's part of an array, as it travels. Knows no MPI: a client that pulls an array by its name from one engine gets this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpicluster.array.layout import Layout, Shape

__all__ = ["Part", "bind"]


@dataclass(eq=False)
class Part:
    """What one rank holds of an array."""

    #: the ranks that hold the array, by their number in the job: on engines, the engine ids
    members: tuple[int, ...]
    rank: int
    layout: Layout
    shape: Shape
    values: Any

    def restored(self) -> Any:
        """The array, where its ranks are; else this."""
        return self if _restore is None else _restore(self)

    def __repr__(self) -> str:
        others = f"{len(self.members)} engines" if len(self.members) > 1 else "1 engine"
        return (
            f"<part of an array of shape {self.shape} on {others}, from engine {self.members[self.rank]}: {self.layout!r}, "
            f"block of shape {self.values.shape}; rc.xp.from_engines(name) gives the array>"
        )


_restore: Callable[[Part], Any] | None = None


def bind(restore: Callable[[Part], Any]) -> None:
    """Set how parts become arrays in this process."""
    global _restore
    _restore = restore
