"""What a task writes: kept in order while it runs, sent on by the control thread meanwhile, and the rest with its result.

Any thread of the user's may write. A write only appends to a deque, which needs no lock, so an interrupt cannot leave one locked;
the lock guards who takes what was written, and what is counted as sent.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from mpicluster.config import CHUNK, MAX_OUTPUT
from mpicluster.wire.messages import DATA, STDERR, STDOUT, Output, Piece

__all__ = ["Recorder"]

#: What is displayed goes in one piece: an image, say.
_LARGEST = 16 * 1024 * 1024


class Recorder:
    """Standard output and error of this process, and what is displayed. Standard input is empty, since nobody is there to type.

    ``on_write`` is called at the first write after each `take`, from the thread that wrote.
    """

    def __init__(self) -> None:
        self.on_write: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        #: the assignment that writes; 0 for none: what is written then goes to the engine's log
        self._seq = 0
        self._written: deque[tuple[int, str | bytes]] = deque()
        self._size = 0
        #: what was published and not sent yet, the newest of each name
        self._published: dict[str, bytes] = {}
        #: how many `Output` of this assignment have been taken
        self._taken = 0
        #: how many pieces at the front of what was written are the beginning of a line, which waits for its end: none or one
        self._begun = 0
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for the life of the process
        self.out, self.err = _Stream(self, STDOUT, sys.stdout), _Stream(self, STDERR, sys.stderr)
        sys.stdout, sys.stderr = self.out, self.err
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """A child of this engine writes to the engine's log: nobody would send what it records."""
        self._seq = 0

    def begin(self, seq: int) -> None:
        """What is written from now on is this assignment's."""
        self._written.clear()
        self._published.clear()
        self._size = self._taken = self._begun = 0
        self._seq = seq

    @property
    def recording(self) -> bool:
        """Whether an assignment writes."""
        return self._seq != 0

    def write(self, channel: int, content: str | bytes) -> bool:
        """Keep what is written; False when no assignment runs. Beyond `MAX_OUTPUT` it is dropped, which is said once."""
        if not self._seq:
            return False
        first = not self._written
        room = MAX_OUTPUT - self._size
        self._size += len(content)
        if isinstance(content, str):
            for start in range(0, min(len(content), room), CHUNK):
                self._written.append((channel, content[start : min(start + CHUNK, room)]))
        elif len(content) > _LARGEST:
            self._written.append((STDERR, f"[something of {len(content)} bytes was not shown: {_LARGEST >> 20} MiB is the most]\n"))
        elif len(content) <= room:
            self._written.append((channel, content))
        if 0 <= room < len(content):
            self._written.append((STDERR, f"\n[output above {MAX_OUTPUT >> 20} MiB of this task was dropped]\n"))
        if first:
            self.on_write()
        return True

    def publish(self, name: str, payload: bytes) -> bool:
        """Keep a published value, in the place of an older one that was not sent yet; False when no assignment runs."""
        if not self._seq:
            return False
        first = not self._written and not self._published
        with self._lock:
            self._published[name] = payload
        if first:
            self.on_write()
        return True

    def take(self) -> Output | None:
        """What was written and not taken before; called by the control thread, which sends it.

        The beginning of a line is kept back when there are whole ones before it: who reads the output of many engines would see it cut.
        The next `take` has it, whether its end has come or not.
        """
        if not self._written and not self._published:
            return None
        with self._lock:
            seq, pieces = self._seq, self._pieces(CHUNK)
            if not pieces or not seq:
                return None
            self._taken += 1
            self._begun = 0
            channel, content = pieces[-1]
            end = content.rfind(b"\n") + 1 if channel in (STDOUT, STDERR) else 0
            if 0 < end < len(content):
                pieces[-1] = (channel, content[:end])
                self._written.appendleft((channel, content[end:].decode()))
                self._begun = 1
            return Output(seq, pieces)

    @property
    def more(self) -> bool:
        """Whether more was written and not taken than the beginning of a line."""
        return len(self._written) > self._begun

    def end(self) -> tuple[list[Output], list[Piece], int]:
        """The assignment ends: messages to send before its result, what is to go with the result, and how many were sent in all."""
        seq = self._seq
        if not self._written and not self._published and not self._taken:
            self._seq = 0
            return [], [], 0
        with self._lock:
            self._seq = 0
            messages = []
            pieces = self._pieces(CHUNK)
            while self._written:
                messages.append(Output(seq, pieces))
                pieces = self._pieces(CHUNK)
            self._taken += len(messages)
            return messages, pieces, self._taken

    def _pieces(self, limit: int) -> list[Piece]:
        """Take about ``limit`` bytes of what was written, neighbours of one kind put together."""
        published, self._published = self._published, {}
        pieces: list[Piece] = [(DATA, name.encode() + b"\0" + payload) for name, payload in published.items()]
        texts: list[str] = []
        size, last = 0, 0
        while self._written and size < limit:
            channel, content = self._written.popleft()
            if channel != last and texts:
                pieces.append((last, _encoded(texts)))
                texts = []
            last = channel
            size += len(content)
            if isinstance(content, str):
                texts.append(content)
            else:
                pieces.append((channel, content))
        if texts:
            pieces.append((last, _encoded(texts)))
        return pieces


def _encoded(texts: list[str]) -> bytes:
    return "".join(texts).encode("utf-8", "backslashreplace")


class _Stream(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``: what a task writes is recorded, the rest goes to the engine's log."""

    def __init__(self, recorder: Recorder, channel: int, original: TextIO) -> None:
        self._recorder = recorder
        self._channel = channel
        self._original = original

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> io.BufferedWriter:
        """For those who write bytes."""
        return io.BufferedWriter(_Bytes(self))

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._original.fileno()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text and not self._recorder.write(self._channel, text):
            return self._original.write(text)
        return len(text)

    def flush(self) -> None:
        if not self._recorder.recording:
            self._original.flush()


class _Bytes(io.RawIOBase):
    """The bytes beneath a stream."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode(errors="replace"))
        return len(data)
