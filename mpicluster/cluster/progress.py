"""One line on stderr while a cluster starts, where a person looks on."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["Progress", "is_interactive"]


def is_interactive() -> bool:
    """Whether a person looks on: stderr is a terminal, or this is a notebook."""
    shell = sys.modules.get("IPython")
    if shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell":
        return True
    return sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """``Starting 4 engines with Open MPI 5.0.11 ... 4 of 4 in 1.8 s``."""

    def __init__(self, n: int, mpi: str, *, shown: bool | None = None) -> None:
        self._head = f"Starting {n} engine{'s' if n != 1 else ''} with {mpi} ..."
        self._n = n
        self._shown = is_interactive() if shown is None else shown
        self._redraws = self._shown and is_interactive()
        self._began = time.monotonic()
        self._finished = False

    def _write(self, text: str) -> None:
        if self._shown:
            print(text, end="", file=sys.stderr, flush=True)

    def update(self, here: int) -> None:
        """So many are there."""
        if self._redraws:
            self._write(f"\r{self._head} {here} of {self._n}")

    def done(self, here: int) -> None:
        """All are there."""
        took = time.monotonic() - self._began
        if self._redraws:
            self._write("\r")
        self._write(f"{self._head if self._redraws else ''} {here} of {self._n} in {took:.1f} s\n")
        self._finished = True

    def __enter__(self) -> Progress:
        self._write(self._head)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if not self._finished:
            self._write("\n")
