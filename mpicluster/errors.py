"""Every exception that mpicluster raises. Imports nothing of ours but `tracebacks`, and that when IPython shows one.

::

    ClusterError
    ├── what you asked for
    │   ├── TargetError (IndexError)           no such engine, or no engine at all in the selection
    │   ├── ClosedError (RuntimeError)         the client, or the cluster behind it, was closed
    │   ├── FlagError (KeyError, TypeError)    a view has no such flag
    │   ├── SerializationError (TypeError)     an object cannot travel
    │   ├── StdinNotImplementedError (EOFError, NotImplementedError)   input() on an engine, where nobody can type
    │   └── UnknownTask (KeyError)             the hub remembers no such task
    ├── where it runs
    │   ├── NoCluster (ConnectionError)        nothing to connect to
    │   ├── LaunchError (RuntimeError)         the cluster did not start
    │   ├── NoEnginesRegistered                the cluster has no engines (left)
    │   ├── EngineError                        an engine died, or its MPI world broke
    │   │   └── ArrayLost                      an array had a part on an engine that is not here
    │   └── ClusterStopped (ConnectionError)   the cluster ended while work was under way
    ├── what became of a task
    │   ├── TaskAborted (CancelledError)       cancelled before it started
    │   ├── TaskTimeout                        it ran longer than its time limit
    │   ├── TaskRejectError                    the cluster does not take it
    │   ├── UnmetDependency                    an engine has not what it needs
    │   │   └── ImpossibleDependency           no engine has, or what it waits for did not end as it must
    │   │       ├── InvalidDependency          it waits for what is no task
    │   │       └── DependencyTimeout (TaskTimeout)   it had not begun in time
    │   ├── NoHistory (RuntimeError)           the hub keeps no history, or cannot any more
    │   ├── NotKept (LookupError)              a value is too large for the hub to have kept it
    │   └── RemoteError                        your function raised; also has the type it raised
    │       ├── CompositeError                 several did
    │       └── AlreadyDisplayedError          it did, as you have seen
    └── ours
        └── ProtocolError (ValueError)         a message that breaks the rules

A waiting call that runs out of time raises the builtin ``TimeoutError``. `TaskTimeout` is none: who waits once more after a
``TimeoutError`` must not do so for a task that has ended.

``IPythonError`` and ``KernelError`` are `ClusterError` under the names that IPython Parallel has for the base of its own.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

__all__ = [
    "AlreadyDisplayedError",
    "ArrayLost",
    "ClosedError",
    "ClusterError",
    "ClusterStopped",
    "CompositeError",
    "DependencyTimeout",
    "EngineError",
    "FlagError",
    "IPythonError",
    "ImpossibleDependency",
    "InvalidDependency",
    "KernelError",
    "LaunchError",
    "NoCluster",
    "NoEnginesRegistered",
    "NoHistory",
    "NotKept",
    "ProtocolError",
    "RemoteError",
    "SerializationError",
    "StdinNotImplementedError",
    "TargetError",
    "TaskAborted",
    "TaskRejectError",
    "TaskTimeout",
    "TimeoutError",
    "UnknownTask",
    "UnmetDependency",
    "appearance",
    "headings",
]

TimeoutError = builtins.TimeoutError  # noqa: A001 - which IPython Parallel has here too
#: the same cell has other numbers on engines that ran more of them, or fewer
_CELL_NUMBER = re.compile(r"(?<=<ipython-input-)\d+-")


class ClusterError(Exception):
    """Base of all of them."""


IPythonError = KernelError = ClusterError


class TargetError(ClusterError, IndexError):
    """The engines asked for do not exist."""


class ClosedError(ClusterError, RuntimeError):
    """The client was closed."""


class FlagError(ClusterError, KeyError, TypeError):
    """A view has no such flag."""

    __str__ = Exception.__str__  # not as KeyError has it, in quotes


class SerializationError(ClusterError, TypeError):
    """An object cannot be sent: it does not pickle, or does not unpickle at the other end."""


class StdinNotImplementedError(ClusterError, EOFError, NotImplementedError):
    """Code on an engine asks for what a person types, and there is none: it is also an `EOFError`, as at the end of any input."""


class NoCluster(ClusterError, ConnectionError):
    """There is no cluster to connect to, or it does not answer."""


class LaunchError(ClusterError, RuntimeError):
    """A cluster could not be started."""


class NoEnginesRegistered(ClusterError):
    """The cluster has no engine to run this on."""


class EngineError(ClusterError):
    """An engine died, or the MPI world it is part of broke under the task."""


class ArrayLost(EngineError):
    """A part of an array was on an engine that died, or that has no part in this task."""


class ClusterStopped(ClusterError, ConnectionError):
    """The cluster ended while work was under way."""


class TaskAborted(ClusterError, CancelledError):
    """The task was cancelled before it started."""


class TaskTimeout(ClusterError):
    """The task ran longer than its time limit, and was interrupted."""


class TaskRejectError(ClusterError):
    """The cluster does not take the task."""


class UnmetDependency(ClusterError):
    """An engine has not what a task needs: raise it in a dependency, and the task goes to another engine."""


class ImpossibleDependency(UnmetDependency):
    """A task cannot run any more: no engine meets its dependency, or a task that it waits for did not end as it must."""


class InvalidDependency(ImpossibleDependency):
    """A task waits for something that is no task of this cluster."""


class DependencyTimeout(ImpossibleDependency, TaskTimeout):
    """The task had not begun when its timeout was over."""


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
        several engines raised;
    ``rendered``
        the traceback of a cell as its IPython shows it, with colour codes; empty otherwise.
    """

    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    engine_info: dict[str, Any] = {}  # replaced on each instance
    rendered: str = ""

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
        return [self.header(), *self.traceback.splitlines(), *getattr(self, "__notes__", ())]

    def print_traceback(self, excid: int | None = None) -> None:
        """Print what `render_traceback` gives."""
        print("\n".join(self.render_traceback()))

    def colored_traceback(self) -> list[str]:
        """`render_traceback` for a person: in colour, with the lines of source around."""
        return [self.header(), *self._colored()]

    def _colored(self) -> list[str]:
        from mpicluster.tracebacks import paint

        return self.rendered.splitlines() if self.rendered else paint(self.traceback)

    def _render_traceback_(self, *_ipython: Any, **_options: Any) -> list[str]:
        """Called by IPython, which then shows the engine's traceback instead of the client's."""
        from mpicluster.tracebacks import as_wanted

        return as_wanted(self.colored_traceback())


class CompositeError(RemoteError):
    """Several engines raised. When all raised one type, it is of that type too, so ``except ZeroDivisionError`` catches it.

    ``errors``
        the exceptions, in the order of the targets.
    """

    #: how many different tracebacks are written out in full
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
        groups = _alike(self.errors, _summary)
        return "\n".join([self.message, *headings(self.errors)[: self.tb_limit], *self._rest(groups)])

    def _rest(self, groups: list[list[Exception]]) -> list[str]:
        more = sum(map(len, groups[self.tb_limit :]))
        return [f"... and {more} more"] if more else []

    def _rendered(self, render: Callable[[Exception], list[str]]) -> list[str]:
        groups = _alike(self.errors, appearance)
        lines: list[str] = []
        for alike in groups[: self.tb_limit]:
            lines += [*([""] if lines else []), _headers(alike), *render(alike[0])]
        rest = self._rest(groups)
        return [*lines, "", *rest] if rest else lines

    def render_traceback(self) -> list[str]:
        """Each traceback under the engines that had it, the first `tb_limit` of them."""
        lines = self._rendered(lambda e: (e.traceback if isinstance(e, RemoteError) else _summary(e)).splitlines())
        return [*lines, *getattr(self, "__notes__", ())]

    def colored_traceback(self) -> list[str]:
        """`render_traceback` for a person: in colour, with the lines of source around."""
        lines = self._rendered(lambda e: e._colored() if isinstance(e, RemoteError) else _summary(e).splitlines())
        return [*lines, *getattr(self, "__notes__", ())]

    def print_traceback(self, excid: int | None = None) -> None:
        """Print all tracebacks, or only that of the ``excid``-th error."""
        chosen = self if excid is None else self.errors[excid]
        print("\n".join(chosen.render_traceback()) if isinstance(chosen, RemoteError) else repr(chosen))

    def raise_exception(self, excid: int = 0) -> None:
        """Raise the ``excid``-th error by itself."""
        raise self.errors[excid]


class AlreadyDisplayedError(RemoteError):
    """What `%px` raises for an error that it has shown while it came.

    ``original_error``
        the error itself; also the ``__cause__``.
    """

    def __init__(self, original: Exception) -> None:
        super().__init__(original)
        self.original_error = original
        self.ename, self.evalue = type(original).__name__, str(original).partition("\n")[0]
        self.traceback = getattr(original, "traceback", "")
        self.__cause__ = original

    def __reduce__(self) -> tuple[Any, ...]:
        return AlreadyDisplayedError, (self.original_error,)

    def render_traceback(self) -> list[str]:
        """One line: how many errors there were."""
        count = len(getattr(self.original_error, "errors", [self.original_error]))
        return [f"{count} error{'s' if count != 1 else ''}"]

    colored_traceback = render_traceback


def appearance(error: Exception) -> tuple[str, str]:
    """What a person sees of an error: equal for engines that failed alike."""
    return _summary(error), _CELL_NUMBER.sub("", getattr(error, "traceback", ""))


def headings(errors: Sequence[Exception]) -> list[str]:
    """One line for each kind among these errors: the engines, type and text."""
    return [f"{_headers(alike)} {_summary(alike[0])}" for alike in _alike(errors, _summary)]


def _alike(errors: Sequence[Exception], key: Callable[[Exception], Any]) -> list[list[Exception]]:
    """Errors in groups that look the same, in order of their first."""
    groups: dict[Any, list[Exception]] = {}
    for error in errors:
        groups.setdefault(key(error), []).append(error)
    return list(groups.values())


def _headers(errors: Sequence[Exception]) -> str:
    """``[0,1,2,3:execute]:`` for all of them; many engines in a row as ``0-63``."""
    infos = [e.engine_info for e in errors if isinstance(e, RemoteError) and e.engine_info]
    if not infos:
        return "[?]:"
    engines = _numbers(sorted({int(info["engine_id"]) for info in infos}))
    tasks = f" {len(errors)} tasks" if len(errors) > len({info["engine_id"] for info in infos}) else ""
    return f"[{engines}:{infos[0].get('method', '?')}]{tasks}:"


def _numbers(ids: list[int]) -> str:
    if len(ids) <= 8:
        return ",".join(map(str, ids))
    runs: list[list[int]] = []
    for i in ids:
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in runs)


def _summary(error: Exception) -> str:
    return f"{error.ename}: {error.evalue}" if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
