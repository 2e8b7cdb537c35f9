"""What goes wrong on one rank, and what the others are told of it. No messages: see `Mesh.settle`."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import numpy as np

__all__ = ["Failure", "described", "restored"]

#: Exceptions that all ranks raise alike when one of them did.
_SHARED: dict[str, type[Exception]] = {
    e.__name__: e
    for e in (
        ValueError, TypeError, IndexError, KeyError, MemoryError, ImportError, OSError, FileNotFoundError, FileExistsError,
        IsADirectoryError, NotADirectoryError, PermissionError, np.linalg.LinAlgError, FloatingPointError, OverflowError, RuntimeWarning,
    )
}  # fmt: skip


class Failure:
    """Keeps the first exception of what is done within it, whatever it is: the others wait for this rank, and must hear of it later.

    ::

        failure = Failure()
        with failure:
            part = compute()
        mesh.exchange(...)
        mesh.settle(failure.error)
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __enter__(self) -> Failure:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        self.error = self.error or error
        return True


def described(error: Exception) -> tuple[str, tuple[Any, ...]]:
    """An error's type, or the nearest that others can raise, and what to make it of: an OSError keeps its number and its file."""
    name = next((c.__name__ for c in type(error).__mro__ if c.__name__ in _SHARED), type(error).__name__)
    made = [os.fspath(a) if isinstance(a, os.PathLike) else a for a in error.__reduce__()[1]] if type(error).__name__ == name else []
    return name, tuple(made) if made and all(isinstance(a, str | int) for a in made) else (str(error),)


def restored(rank: int, name: str, arguments: tuple[Any, ...]) -> Exception:
    """The exception to raise for what a rank described."""
    return _SHARED[name](*arguments) if name in _SHARED else RuntimeError(f"rank {rank}: {name}: {', '.join(map(str, arguments))}")
