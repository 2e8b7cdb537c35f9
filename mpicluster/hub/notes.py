"""What the scheduler writes down for the history: values only, made on the hub's hot path, so as small as can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from mpicluster.wire.messages import STDERR, STDOUT, Piece, Result, Submit

__all__ = ["Ended", "Note", "Submitted", "Wrote", "newest"]


class Submitted(NamedTuple):
    """A job has come."""

    job: int
    client: str
    submit: Submit


class Wrote(NamedTuple):
    """A part of a job writes while it runs."""

    job: int
    part: int
    output: Sequence[Piece]


class Ended(NamedTuple):
    """A part of a job has ended."""

    job: int
    part: int
    result: Result


Note: TypeAlias = Submitted | Wrote | Ended


def newest(pieces: Sequence[Piece], limit: int) -> list[Piece]:
    """The last pieces, together at most ``limit`` bytes: text is cut, what cannot be cut is kept or left out as a whole."""
    if sum(len(content) for _, content in pieces) <= limit:
        return list(pieces)
    kept: list[Piece] = []
    for kind, content in reversed(pieces):
        if len(content) <= limit:
            kept.append((kind, content))
            limit -= len(content)
        elif kind in (STDOUT, STDERR) and limit > 0:
            kept.append((kind, content[-limit:].decode("utf-8", "ignore").encode()))
            limit = 0
    kept.reverse()
    return kept
