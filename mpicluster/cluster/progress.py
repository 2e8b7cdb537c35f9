"""What a person sees while a cluster starts: a bar on stderr, or a line in a log that was asked for."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from mpicluster.client.progress import Bar, interactive

__all__ = ["Progress"]


class Progress:
    """A bar where a person looks on, ``Starting 4 engines with Open MPI 5.0.11 ... 4 of 4 in 1.8 s`` where one was asked for."""

    def __init__(self, n: int, mpi: str, *, shown: bool | None = None) -> None:
        head = f"Starting {n} engine{'s' if n != 1 else ''} with {mpi}"
        looks_on = interactive()
        self._bar = Bar(n, head, "engine", shown=looks_on and shown is not False)
        self._line = f"{head} ..." if shown and not looks_on else ""
        self._n = n
        self._began = time.monotonic()
        self._finished = False
        self._said = ""

    def _write(self, text: str) -> None:
        if self._line:
            print(text, end="", file=sys.stderr, flush=True)

    def update(self, here: int) -> None:
        """So many are there."""
        self._bar.update(here)

    def say(self, state: str) -> None:
        """What it waits for, when that changes."""
        if state != self._said:
            self._said = state
            self._write(f" {state} ...")

    def done(self, here: int) -> None:
        """All are there."""
        self._bar.update(here)
        self._write(f" {here} of {self._n} in {time.monotonic() - self._began:.1f} s\n")
        self._finished = True

    def __enter__(self) -> Progress:
        self._write(self._line)
        self._bar.update(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._bar.close()
        if not self._finished:
            self._write("\n")
