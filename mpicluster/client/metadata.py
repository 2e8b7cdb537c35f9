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
    Available while the task runs.
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
        self.pieces: deque[Piece] = deque()
        self._size = 0
        self._dropped = 0
        #: what was published, encoded: the newest of each name
        self._published: dict[str, bytes] = {}

    def add(self, pieces: Iterable[Piece]) -> None:
        """It has written more."""
        for piece in pieces:
            if piece[0] == DATA:
                name, _, payload = piece[1].partition(b"\0")
                self._published[name.decode()] = payload
                continue
            self.pieces.append(piece)
            self._size += len(piece[1])
        while self._size > OUTPUT_KEPT and len(self.pieces) > 1:
            size = len(self.pieces.popleft()[1])
            self._size -= size
            self._dropped += size

    def copy(self) -> Written:
        """The same so far; more is added to each by itself."""
        other = Written()
        other.pieces, other._size, other._dropped = self.pieces.copy(), self._size, self._dropped
        other._published = dict(self._published)
        return other

    def _text(self, channel: int) -> str:
        text = b"".join(content for kind, content in list(self.pieces) if kind == channel).decode("utf-8", "replace")
        return f"[the first {self._dropped} bytes of output were dropped]\n{text}" if self._dropped else text

    @property
    def stdout(self) -> str:
        """Text on standard output."""
        return self._text(STDOUT)

    @property
    def stderr(self) -> str:
        """Text on standard error."""
        return self._text(STDERR)

    def settled(self) -> list[tuple[int, Any]]:
        """Text as it came, and displays (dicts, as notebooks have them) as they were in the end: cleared and updated as they say."""
        parts: list[tuple[int, Any]] = []
        clear = False
        for channel, content in list(self.pieces):
            if channel != DISPLAY:
                parts.append((channel, content))
                continue
            output = json.loads(content)
            kind = output["output_type"]
            if kind == "update_display_data":
                _update(parts, output)
                continue
            if clear or (kind == "clear_output" and not output["wait"]):
                parts = [p for p in parts if p[0] != DISPLAY]
            clear = kind == "clear_output" and output["wait"]
            if kind != "clear_output":
                parts.append((channel, output))
        return parts

    @property
    def displayed(self) -> list[dict[str, Any]]:
        """What was displayed: dicts with ``output_type``, ``data`` and ``metadata``."""
        return [content for channel, content in self.settled() if channel == DISPLAY]

    @property
    def data(self) -> dict[str, Any]:
        """What was published: the newest value of each name."""
        return {name: decode(payload, what=f"published {name!r}") for name, payload in list(self._published.items())}


def _update(parts: list[tuple[int, Any]], output: dict[str, Any]) -> None:
    name = output.get("transient", {}).get("display_id")
    for channel, earlier in parts:
        if channel == DISPLAY and name is not None and earlier.get("transient", {}).get("display_id") == name:
            earlier.update(data=output["data"], metadata=output["metadata"])
