"""What a contender's process tells the harness: one JSON line per record, in a file of its own.

A file and not standard output, for that belongs to the MPI launchers and libraries that like to talk.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import msgspec

from benchmarks.linalg.measures import MatrixSize
from benchmarks.measures import Size

__all__ = ["Began", "Ended", "Failed", "Record", "Request", "Sampled", "read"]


class Request(msgspec.Struct, frozen=True):
    """What the harness asks of a contender's process (its only argument, as JSON)."""

    engines: int
    measures: list[str]
    size: Size | MatrixSize
    #: the file for the records
    records: str


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The contender is at it; if nothing follows, this is where it hung."""

    measure: str


class Sampled(msgspec.Struct, frozen=True, tag="sampled"):
    """The samples of one measure in one round, in the measure's unit."""

    measure: str
    samples: list[float]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A measure (or the start, or the end) that did not work, and why."""

    measure: str
    reason: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The contender has stopped its cluster and is about to exit."""


Record: TypeAlias = Began | Sampled | Failed | Ended


def read(path: Path) -> list[Record]:
    """All complete records in the file; none while there is no file."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [msgspec.json.decode(line, type=Record) for line in lines if line.endswith(b"\n")]
