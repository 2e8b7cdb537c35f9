"""A large payload in pieces: where each chunk goes when it comes, and which chunk goes next. No sockets, no threads."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.buffers import allocate
from mpicluster.config import CHUNK, WINDOW
from mpicluster.serial.payload import Buffer

__all__ = ["Incoming", "Outgoing"]


class Incoming:
    """A payload being received into buffers of known sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.buffers: list[Any] = [allocate(size) for size in sizes]
        self.starts = [0, *itertools.accumulate(sizes)][:-1]
        self.total = sum(sizes)
        self.received = 0
        self.credited = 0
        self.lost: str | None = None

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes where they belong; a chunk may span buffers. They must lie within the payload."""
        if offset < 0 or offset + data.nbytes > self.total:
            raise ValueError("a chunk outside its payload")
        source = np.frombuffer(data, np.uint8)
        first = bisect.bisect_right(self.starts, offset) - 1
        for start, buffer in zip(self.starts[first:], self.buffers[first:], strict=True):
            if start >= offset + source.size:
                break
            low, high = max(offset, start), min(offset + source.size, start + buffer.size)
            if low < high:
                buffer[low - start : high - start] = source[low - offset : high - offset]
        self.received += source.size

    def more(self) -> int:
        """Bytes to allow the sender now, so that about `WINDOW` is under way; 0 when enough is allowed."""
        ahead = self.credited - self.received
        if ahead > WINDOW // 2:
            return 0
        more = min(WINDOW - ahead, self.total - self.credited)
        self.credited += more
        return more

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self.received >= self.total


class Outgoing:
    """A payload being sent, as far as the receiver allowed."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.views = [memoryview(b).cast("B") for b in buffers]
        self.position = 0
        self.total = sum(v.nbytes for v in self.views)
        self.credit = 0
        self._index = 0
        self._within = 0

    def next_chunk(self) -> tuple[int, memoryview] | None:
        """Offset and bytes of the next chunk, None when all is sent or credit is used up."""
        while self._index < len(self.views) and self._within >= self.views[self._index].nbytes:
            self._index, self._within = self._index + 1, 0
        if self._index == len(self.views) or self.credit <= 0:
            return None
        view = self.views[self._index][self._within : self._within + CHUNK]
        offset = self.position
        self._within += view.nbytes
        self.position += view.nbytes
        self.credit -= view.nbytes
        return offset, view

    @property
    def complete(self) -> bool:
        """Whether all of it was handed out."""
        return self.position >= self.total
