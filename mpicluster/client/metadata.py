"""What is known of a task apart from its value: where and when it ran, and what it wrote."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Any

from mpicluster.config import OUTPUT_KEPT
from mpicluster.serial.payload import decode
from mpicluster.wire.messages import DATA, DISPLAY, STDERR, STDOUT, Piece

__all__ = ["Metadata", "Written"]


class Metadata(dict[str, Any]):
    """What is known of one task, by key or by attribute.

    ``msg_id``, ``label``, ``engine_id``, ``engine_uuid``, ``status`` (None while it is under way, ``"ok"``, ``"error"``, ``"aborted"`` or
    ``"lost"``); the moments ``submitted``, ``started``, ``completed``, ``received``; ``follow`` and ``after``; ``stdout``, ``stderr``,
    ``outputs`` (what it displayed, as notebooks have it), ``execute_input``, ``execute_result``, ``error``, ``data`` (what it published).
    """

    def __init__(self, **known: Any) -> None:
        super().__init__(
            msg_id=None,
            label=None,
            submitted=None,
            started=None,
            completed=None,
            received=None,
            engine_uuid=None,
            engine_id=None,
            follow=None,
            after=None,
            status=None,
            execute_input=None,
            execute_result=None,
            error=None,
            stdout="",
            stderr="",
            outputs=[],
            data={},
        )
        for key, value in known.items():
            self[key] = value

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self:
            raise KeyError(f"metadata has no key {key!r}; it has {', '.join(self)}")
        super().__setitem__(key, value)


class Written:
    """What one task has written on one engine, in order. Beyond `OUTPUT_KEPT`, the oldest is dropped."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self._dropped = 0

    def add(self, pieces: Iterable[Piece]) -> None:
        """It has written more."""
        for piece in pieces:
            self._pieces.append(piece)
            self._size += len(piece[1])
        while self._size > OUTPUT_KEPT and len(self._pieces) > 1:
            size = len(self._pieces.popleft()[1])
            self._size -= size
            self._dropped += size

    def copy(self) -> Written:
        """The same so far; more is added to each by itself."""
        other = Written()
        other._pieces, other._size, other._dropped = self._pieces.copy(), self._size, self._dropped
        return other

    def _text(self, channel: int) -> str:
        text = b"".join(content for kind, content in self._pieces if kind == channel).decode("utf-8", "replace")
        return f"[the first {self._dropped} bytes of output were dropped]\n{text}" if self._dropped else text

    @property
    def stdout(self) -> str:
        """Text on standard output."""
        return self._text(STDOUT)

    @property
    def stderr(self) -> str:
        """Text on standard error."""
        return self._text(STDERR)

    @property
    def displayed(self) -> list[dict[str, Any]]:
        """What was displayed, as notebooks have it: dicts with ``output_type``, ``data`` and ``metadata``."""
        return [json.loads(content) for kind, content in self._pieces if kind == DISPLAY]

    @property
    def data(self) -> dict[str, Any]:
        """What was published: the newest value of each name."""
        published: dict[str, Any] = {}
        for kind, content in self._pieces:
            if kind == DATA:
                published.update(decode(content, what="published data"))
        return published
