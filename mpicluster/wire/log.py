"""What one end of a connection that may drop has said, as long as the other may not have heard it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

__all__ = ["HEARD_EVERY", "Log"]

#: One end tells the other how much it has heard after so many envelopes.
HEARD_EVERY = 8


class Log:
    """What was said, and may not have been heard: envelopes, the oldest first."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Any, ...]] = deque()
        #: how many the other end has heard
        self.heard = 0
        self.nbytes = 0

    def add(self, *parts: Any) -> None:
        """An envelope is said."""
        self._kept.append(parts)
        self.nbytes += sum(map(len, parts))

    def forget(self, heard: int) -> None:
        """The other end has heard so many, counted from the first."""
        while self.heard < heard and self._kept:
            self.nbytes -= sum(map(len, self._kept.popleft()))
            self.heard += 1

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._kept)
