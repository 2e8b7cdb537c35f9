"""What user code sees on an engine: the module ``__main__``, and the builtins that IPython users expect."""

from __future__ import annotations

import builtins
import getpass
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

from mpicluster import engine
from mpicluster.engine.output import Recorder
from mpicluster.errors import StdinNotImplementedError
from mpicluster.serial.functions import bind_namespace

__all__ = ["Namespace"]


class Namespace:
    """The user's module. ``values`` is its dict: one object for the engine's whole life. What must not be interrupted is ``held``."""

    def __init__(self, recorder: Recorder, held: Callable[[], AbstractContextManager[None]]) -> None:
        self.module = types.ModuleType("__main__", "The namespace of this engine.")
        self.values: dict[str, Any] = self.module.__dict__
        self.values["__builtins__"] = builtins  # as every module has it that was executed
        self._given: dict[str, Any] = {}
        self._start = dict(self.values)
        self._recorder = recorder
        self._held = held
        self._shell: Any = None
        sys.modules["__main__"] = self.module  # classes defined here are found by name
        bind_namespace(self.values)
        self._prepare_process()

    def _prepare_process(self) -> None:
        """Have the shell made when user code first needs it, without importing IPython before."""
        engine.current_recorder = self._recorder
        builtins.input = _no_input
        getpass.getpass = _no_password
        builtins.display = self._display  # type: ignore[attr-defined]
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # figures are shown as in a notebook
        sys.meta_path.insert(0, _Watch(self.shell))

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
        """The IPython shell of this namespace."""
        if self._shell is None:
            with self._held():  # half an import would fail for good
                from mpicluster.engine.shell import make_shell

                self._shell = make_shell(self.module, self._recorder)
        return self._shell

    def _display(self, *objects: Any, **options: Any) -> Any:
        """IPython's ``display``, which imports it first."""
        self.shell()
        from mpicluster.engine.shell import display

        return display(*objects, **options)

    def execute(self, code: str, *, silent: bool = True) -> int:
        """Run code as a cell of the shell, magics included; raises what it raises. Returns the cell's number."""
        count: int = self.shell().execute(code, silent=silent)
        return count

    def render(self, error: BaseException) -> str:
        """The traceback of a cell that just failed, in colour; empty for what is no cell, which must stay cheap."""
        text: str = self._shell.render(error) if self._shell is not None else ""
        return text

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


class _Watch:
    """Sees IPython being imported by user code: from then on, who asks for the current shell gets this engine's."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._making = False

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None) -> ModuleSpec | None:
        if name != "IPython.core.interactiveshell":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then_watch(module: types.ModuleType) -> None:
                execute(module)
                self._watch(module)

            spec.loader.exec_module = then_watch  # type: ignore[method-assign]
        return spec

    def _watch(self, module: Any) -> None:
        original = module.InteractiveShell.initialized

        def initialized(_cls: Any) -> bool:
            if not original() and not self._making:
                self._making = True
                try:
                    self._shell()
                finally:
                    self._making = False
            return bool(original())

        module.InteractiveShell.initialized = classmethod(initialized)


def _no_input(prompt: object = "") -> NoReturn:
    """Stands for ``input``."""
    raise StdinNotImplementedError(f"input({str(prompt)!r}) was called on an engine, where nobody can type: pass the value as an argument")


def _no_password(prompt: str = "Password: ", *_args: Any, **_options: Any) -> NoReturn:
    """Stands for ``getpass.getpass``."""
    raise StdinNotImplementedError(f"getpass({prompt!r}) was called on an engine, where nobody can type: pass the value as an argument")
