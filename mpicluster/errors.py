"""Every exception that mpicluster raises. Imports nothing of ours.

::

    ClusterError
    ├── what you asked for
    │   ├── TargetError (IndexError)           no such engine, or no engine at all in the selection
    │   ├── ClosedError (RuntimeError)         the client, or the cluster behind it, was closed
    │   ├── SerializationError (TypeError)     an object cannot travel
    │   └── UnknownTask (KeyError)             the hub remembers no such task
    ├── where it runs
    │   ├── NoCluster (ConnectionError)        nothing to connect to
    │   ├── LaunchError (RuntimeError)         the cluster did not start
    │   ├── NoEnginesRegistered                the cluster has no engines (left)
    │   ├── EngineError                        an engine died, or its MPI world broke
    │   └── ClusterStopped (ConnectionError)   the cluster ended while work was under way
    ├── what became of a task
    │   ├── TaskAborted (CancelledError)       cancelled before it started
    │   ├── NoHistory (RuntimeError)           the hub keeps no history, or cannot any more
    │   ├── NotKept (LookupError)              a value is too large for the hub to have kept it
    │   └── RemoteError                        your function raised; also has the type it raised
    │       └── CompositeError                 several did
    └── ours
        └── ProtocolError (ValueError)         a message that breaks the rules

A waiting call that runs out of time raises the builtin ``TimeoutError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

__all__ = [
    "ClosedError",
    "ClusterError",
    "ClusterStopped",
    "CompositeError",
    "EngineError",
    "LaunchError",
    "NoCluster",
    "NoEnginesRegistered",
    "NoHistory",
    "NotKept",
    "ProtocolError",
    "RemoteError",
    "SerializationError",
    "TargetError",
    "TaskAborted",
    "UnknownTask",
]


class ClusterError(Exception):
    """Base of all of them."""


class TargetError(ClusterError, IndexError):
    """The engines asked for do not exist."""


class ClosedError(ClusterError, RuntimeError):
    """The client was closed."""


class SerializationError(ClusterError, TypeError):
    """An object cannot be sent: it does not pickle, or does not unpickle at the other end."""


class NoCluster(ClusterError, ConnectionError):
    """There is no cluster to connect to, or it does not answer."""


class LaunchError(ClusterError, RuntimeError):
    """A cluster could not be started."""


class NoEnginesRegistered(ClusterError):
    """The cluster has no engine to run this on."""


class EngineError(ClusterError):
    """An engine died, or the MPI world it is part of broke under the task."""


class ClusterStopped(ClusterError, ConnectionError):
    """The cluster ended while work was under way."""


class TaskAborted(ClusterError, CancelledError):
    """The task was cancelled before it started."""


class UnknownTask(ClusterError, KeyError):
    """The hub remembers no such task: it was never submitted to this cluster, or has been forgotten."""

    __str__ = Exception.__str__  # a KeyError shows its text in quotes


class NoHistory(ClusterError, RuntimeError):
    """The hub keeps no history: it was started without one, or could not write it any more. `Client.status` says which."""


class NotKept(ClusterError, LookupError):
    """The task is remembered, its value is not: it was too large, or the history had no room."""


class ProtocolError(ClusterError, ValueError):
    """A message breaks the rules of the wire."""


class RemoteError(ClusterError):
    """A function raised on an engine.

    What is raised at the client is an instance of a class that inherits from both `RemoteError` and the type
    raised on the engine, so ``except ZeroDivisionError`` catches it. What ends a program (``SystemExit``, ``KeyboardInterrupt``)
    ended no more than a task there, and is a plain `RemoteError` here.

    ``ename``, ``evalue``
        name of the type and text of the exception;
    ``traceback``
        the engine's traceback, as text;
    ``engine_info``
        where: a dict of ``engine_id``, ``rank``, ``host``, ``pid`` and ``method`` (``"apply"``, ``"execute"``, ...); empty if
        several engines raised.
    """

    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    engine_info: dict[str, Any] = {}  # replaced on each instance

    def __str__(self) -> str:
        return f"{self.ename}: {self.evalue}\n{self.where()}" if self.ename else super().__str__()

    def where(self) -> str:
        """One line that says where it was raised."""
        info = self.engine_info
        if not info:
            return ""
        return f"[engine {info['engine_id']}, rank {info['rank']} on {info['host']}, pid {info['pid']}]"

    def header(self) -> str:
        """``[0:apply]:``, as IPython Parallel heads an engine's traceback."""
        info = self.engine_info
        return f"[{info.get('engine_id', '?')}:{info.get('method', '?')}]:"

    def render_traceback(self) -> list[str]:
        """The engine's traceback under its header, in lines."""
        return [self.header(), *self.traceback.splitlines()]

    def print_traceback(self, excid: int | None = None) -> None:
        """Print what `render_traceback` gives."""
        print("\n".join(self.render_traceback()))

    def _render_traceback_(self) -> list[str]:
        """Called by IPython, which then shows the engine's traceback instead of the client's."""
        return self.render_traceback()


class CompositeError(RemoteError):
    """Several engines raised. When all raised one type, it is of that type too, so ``except ZeroDivisionError`` catches it.

    ``errors``
        the exceptions, in the order of the targets.
    """

    #: how many tracebacks `render_traceback` writes out in full
    tb_limit = 4

    def __init__(self, message: str, errors: Sequence[Exception]) -> None:
        self.args = (message, list(errors))  # the types it may also have take other arguments
        self.message = message
        self.errors = tuple(errors)
        self.ename, self.evalue = "CompositeError", message
        if len(self.errors) == 1:
            self.engine_info = dict(getattr(self.errors[0], "engine_info", {}))
        self.traceback = "\n".join(self.render_traceback())

    def __reduce__(self) -> tuple[Any, ...]:
        return CompositeError, (self.message, list(self.errors))

    @property
    def elist(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """``(ename, evalue, traceback, engine_info)`` of each, as IPython Parallel gives them."""
        return [
            (e.ename, e.evalue, e.traceback, e.engine_info) if isinstance(e, RemoteError) else (type(e).__name__, str(e), "", {})
            for e in self.errors
        ]

    def __str__(self) -> str:
        lines = [f"{_header(e)} {_summary(e)}" for e in self.errors[: self.tb_limit]]
        more = len(self.errors) - self.tb_limit
        return "\n".join([self.message, *lines, *([f"... and {more} more"] if more > 0 else [])])

    def render_traceback(self) -> list[str]:
        """Each engine's traceback under its header, the first `tb_limit` of them."""
        lines: list[str] = []
        for e in self.errors[: self.tb_limit]:
            lines += [""] if lines else []
            lines += e.render_traceback() if isinstance(e, RemoteError) else [_header(e), *f"{type(e).__name__}: {e}".splitlines()]
        more = len(self.errors) - self.tb_limit
        return [*lines, "", f"... and {more} more"] if more > 0 else lines

    def print_traceback(self, excid: int | None = None) -> None:
        """Print all tracebacks, or only that of the ``excid``-th error."""
        chosen = self if excid is None else self.errors[excid]
        print("\n".join(chosen.render_traceback()) if isinstance(chosen, RemoteError) else repr(chosen))

    def raise_exception(self, excid: int = 0) -> None:
        """Raise the ``excid``-th error by itself."""
        raise self.errors[excid]


def _header(error: Exception) -> str:
    return error.header() if isinstance(error, RemoteError) else "[?]:"


def _summary(error: Exception) -> str:
    return f"{error.ename}: {error.evalue}" if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
