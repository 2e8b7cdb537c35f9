"""Chunks of bulk payloads in memory that two processes of one host share. No sockets: who is told of a chunk is others' part.

The sender makes a `Ring`, an anonymous file of a few slots, which no other user can open and which goes away with its
processes, however they end. A receiver opens it through ``/proc`` as a `Reader`, and knows by a random token that it is the
right one; where it cannot (another host, another container), chunks go by message.

A slot is the sender's until it is used, then the receiver's until it writes the use's number beside it. Each of these numbers
has one writer, so a receiver that comes too late can hold a slot back, but never frees it for another.
"""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from mpicluster.config import CHUNK, RING_SLOTS

__all__ = ["Reader", "Ring"]

_TOKEN = 16
#: The token, then what the receivers write; the slots begin on a page of their own.
_RELEASED, _HEAD = 64, 4096
_SIZE = _HEAD + RING_SLOTS * CHUNK
#: Numbers of uses, one byte each; 0 is before the first.
_USES = 255


class Ring:
    """The sender's end. Not thread-safe."""

    @classmethod
    def make(cls) -> Ring | None:
        """A new one; None if this system has no such thing."""
        try:
            return cls()
        except (OSError, AttributeError):
            return None

    def __init__(self) -> None:
        """Make one; `OSError` if this system has no such thing."""
        self._fd = os.memfd_create("mpicluster-ring", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._fd, _SIZE)
            self._memory = mmap.mmap(self._fd, _SIZE)
        except BaseException:
            os.close(self._fd)
            raise
        weakref.finalize(self, os.close, self._fd)
        self.token = secrets.token_bytes(_TOKEN)
        self._memory[:_TOKEN] = self.token
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._uses = [0] * RING_SLOTS
        #: for whom each slot was used last
        self._owners: list[Hashable] = [None] * RING_SLOTS
        #: taken back although they were not released
        self._reclaimed: set[int] = set()

    @property
    def place(self) -> tuple[int, int, bytes]:
        """Where receivers find it: a process, its descriptor, and the token."""
        return os.getpid(), self._fd, self.token

    def put(self, chunk: memoryview, owner: Hashable) -> tuple[int, int] | None:
        """Copy a chunk into a slot; its number and that of the use. None when all slots are taken."""
        for slot in range(RING_SLOTS):
            if self._memory[_RELEASED + slot] == self._uses[slot] or slot in self._reclaimed:
                use = self._uses[slot] = self._uses[slot] % _USES + 1  # never the last one's: it may still be released
                self._owners[slot] = owner
                self._reclaimed.discard(slot)
                start = _HEAD + slot * CHUNK
                self._bytes[start : start + chunk.nbytes] = np.frombuffer(chunk, np.uint8)
                return slot, use
        return None

    def reclaim(self, over: Callable[[Any], bool]) -> None:
        """Take back the slots of owners who read no more: ``over(owner)`` says for which that is so."""
        for slot in range(RING_SLOTS):
            if self._memory[_RELEASED + slot] != self._uses[slot] and over(self._owners[slot]):
                self._reclaimed.add(slot)


class Reader:
    """A receiver's end. Not thread-safe."""

    def __init__(self, pid: int, fd: int, token: bytes) -> None:
        """Open a ring.

        Raises
        ------
        OSError
            it is not there, or not for this process.
        """
        with open(f"/proc/{pid:d}/fd/{fd:d}", "r+b", buffering=0) as f:
            if os.fstat(f.fileno()).st_size != _SIZE:
                raise OSError(f"descriptor {fd} of process {pid} is no ring")
            self._memory = mmap.mmap(f.fileno(), _SIZE)
        if self._memory[:_TOKEN] != token:
            raise OSError(f"descriptor {fd} of process {pid} is another ring")
        self._bytes = np.frombuffer(self._memory, np.uint8)

    def view(self, slot: int, nbytes: int) -> memoryview:
        """What is in a slot, to be copied before it is released.

        Raises
        ------
        ValueError
            there is no such slot, or it is not so large.
        """
        if not (0 <= slot < RING_SLOTS and 0 <= nbytes <= CHUNK):
            raise ValueError(f"there are no {nbytes} bytes in slot {slot} of a ring")
        start = _HEAD + slot * CHUNK
        return self._bytes[start : start + nbytes].data

    def release(self, slot: int, use: int) -> None:
        """This use of a slot is over."""
        self._memory[_RELEASED + slot] = use
