"""What user code sees on an engine: the module ``__main__``, and where its output goes."""

from __future__ import annotations

import builtins
import io
import os
import sys
import types
from typing import Any, TextIO

from mpicluster.config import MAX_OUTPUT
from mpicluster.serial.functions import bind_namespace

__all__ = ["Namespace", "Output"]


class Namespace:
    """The user's module. ``values`` is its dict: one object for the engine's whole life."""

    def __init__(self) -> None:
        self.module = types.ModuleType("__main__", "The namespace of this engine.")
        self.values: dict[str, Any] = self.module.__dict__
        self.values["__builtins__"] = builtins  # as every module has it that was executed
        self._given: dict[str, Any] = {}
        self._start = dict(self.values)
        sys.modules["__main__"] = self.module  # classes defined here are found by name
        bind_namespace(self.values)
        self._shell: Any = None

    def give(self, **names: Any) -> None:
        """Set names that belong to the engine (``comm``, ``rank``, ``size``), unless the user has taken them."""
        for name, value in names.items():
            if name not in self.values or self.values[name] is self._given.get(name):
                self.values[name] = value
            self._given[name] = value

    def clear(self) -> None:
        """Back to the beginning; the engine's own names stay."""
        keep = {"__builtins__": self.values.get("__builtins__")}
        if self._shell is not None:
            self._shell.reset(new_session=False)
        else:
            self.values.clear()
        self.values.update({**self._start, **keep, **self._given})
        bind_namespace(self.values)

    def shell(self) -> Any:
        """The IPython shell of this namespace, made at first use: importing IPython takes longer than MPI's start."""
        if self._shell is None:
            from IPython.core.interactiveshell import InteractiveShell
            from traitlets.config import Config

            settings = Config()
            settings.HistoryManager.enabled = False
            settings.InteractiveShell.colors = "nocolor"
            out = sys.stdout, sys.stderr
            make: Any = InteractiveShell
            self._shell = make(config=settings, user_module=self.module, user_ns=self.values)
            self._shell.ask_exit = sys.exit  # what `exit` does
            self._shell.showtraceback = self._shell.showsyntaxerror = _show_nothing  # the error goes to the client
            sys.stdout, sys.stderr = out
        return self._shell

    def execute(self, code: str) -> None:
        """Run code as a cell of the shell, magics included; raises what it raises."""
        result = self.shell().run_cell(code, store_history=False, silent=True)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            raise error

    def get(self, name: str) -> Any:
        """The value of a name; dots and other expressions are evaluated."""
        if name in self.values:
            return self.values[name]
        return eval(name, self.values)

    def set(self, name: str, value: Any) -> None:
        """Set a name; ``a.b`` sets an attribute."""
        owner, dot, attribute = name.rpartition(".")
        if dot:
            setattr(self.get(owner), attribute, value)
        else:
            self.values[name] = value


def _show_nothing(*_args: Any, **_options: Any) -> None:
    """Stands for what would print a traceback on the engine."""


class _Stream(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``: keeps what a task writes, passes on the rest."""

    def __init__(self, original: TextIO) -> None:
        self._original = original
        self._kept: list[str] | None = None
        self._size = 0

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
        kept = self._kept  # another thread may write while the task ends
        if kept is None:
            return self._original.write(text)
        room = MAX_OUTPUT - self._size
        if room > 0:
            kept.append(text[:room])
            if len(text) >= room:
                kept.append(f"\n[output above {MAX_OUTPUT} characters was dropped]\n")
        self._size += len(text)
        return len(text)

    def flush(self) -> None:
        if self._kept is None:
            self._original.flush()

    def begin(self) -> None:
        self._kept, self._size = [], 0

    def end(self) -> str:
        kept, self._kept = self._kept, None
        return "".join(kept).encode("utf-8", "backslashreplace").decode() if kept else ""


class _Bytes(io.RawIOBase):
    """The bytes beneath a stream."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode(errors="replace"))
        return len(data)


class Output:
    """Standard output and error of this process; its standard input is empty, since nobody is there to type."""

    def __init__(self) -> None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for the life of the process
        self.out, self.err = _Stream(sys.stdout), _Stream(sys.stderr)
        sys.stdout, sys.stderr = self.out, self.err

    def begin(self) -> None:
        """Keep what is written from now on."""
        self.out.begin()
        self.err.begin()

    def end(self) -> tuple[str, str]:
        """What was written since `begin`: standard output and error."""
        return self.out.end(), self.err.end()
