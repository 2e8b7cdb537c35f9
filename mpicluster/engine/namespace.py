"""What user code sees on an engine: the module ``__main__``."""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

from mpicluster.serial.functions import bind_namespace

__all__ = ["Namespace"]


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
