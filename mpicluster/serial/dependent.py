"""Functions that say what an engine must have for them. Checked on the engine, before the call.

::

    @depend(has_gpu)
    def train(x): ...

    @require("numpy", helper, table=[1, 2, 3])
    def solve(x):
        return numpy.linalg.solve(helper(x), table)
"""

from __future__ import annotations

import functools
import importlib
import types
from collections.abc import Callable
from typing import Any

from mpicluster.errors import UnmetDependency
from mpicluster.serial import functions

__all__ = ["depend", "dependent", "require"]


class dependent:  # noqa: N801 - its name in IPython Parallel, where it is called like a function
    """``f``, to be called only where ``df(*args, **kwargs)`` is true.

    Where it returns False, or raises `UnmetDependency`, the call raises `UnmetDependency`: a task of a load-balanced view then goes to
    another engine, and fails with `ImpossibleDependency` when there is none left.
    """

    #: a function of the session takes those that it refers to with it
    _companion = True

    def __init__(self, f: Callable[..., Any], df: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        for function in (f, df):
            if not callable(function):
                raise TypeError(f"{function!r} is not callable")
        self.f, self.df = f, df
        self.dargs, self.dkwargs = args, kwargs
        functools.update_wrapper(self, f, updated=())

    @property
    def func_name(self) -> str:
        """Name of the function."""
        return str(getattr(self.f, "__name__", type(self.f).__name__))

    def __repr__(self) -> str:
        return f"<dependent {self.func_name}>"

    def check_dependency(self) -> bool:
        """Whether this process has what the function needs."""
        met = self.df.meet(self.f) if isinstance(self.df, _Requirement) else self.df(*self.dargs, **self.dkwargs)
        return met is not False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's value, where it may run."""
        if not self.check_dependency():
            name = getattr(self.df, "__name__", repr(self.df))
            raise UnmetDependency(f"{self.func_name} cannot run here: its dependency {name} is not met")
        return self.f(*args, **kwargs)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    def __reduce__(self) -> tuple[Any, ...]:
        return _dependent, (self.f, self.df, self.dargs, self.dkwargs)


def _dependent(f: Callable[..., Any], df: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dependent:
    return dependent(f, df, *args, **kwargs)


def depend(df: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], dependent]:
    """A decorator: the function runs only on engines where ``df(*args, **kwargs)`` does not return False."""
    if not callable(df):
        raise TypeError(f"depend takes a function to be called on the engine, not {df!r}")
    return lambda f: dependent(f, df, *args, **kwargs)


def require(*objects: Any, **named: Any) -> Callable[[Callable[..., Any]], dependent]:
    """A decorator: what the function uses is there when it is called.

    Parameters
    ----------
    objects
        modules, or their names (``"numpy"``, ``"numpy as np"``), which the engine imports; functions and classes, which travel, and are
        found there under their names.
    named
        any other objects, and their names.

    They are put into the engine's namespace, and into the globals of a function that has others. A module that an engine cannot import
    is an `UnmetDependency`.

    Raises
    ------
    TypeError
        one of the objects has no name that code could use.
    """
    modules: list[str] = []
    values = dict(named)
    for x in objects:
        if isinstance(x, types.ModuleType):
            modules.append(x.__name__)
        elif isinstance(x, str):
            modules.append(x)
        elif str(name := getattr(x, "__name__", "")).isidentifier():
            values[name] = x
        else:
            raise TypeError(f"require needs a name for {x!r}: give it as a keyword, require(name=...)")
    for text in modules:
        if not all(part.isidentifier() for name in text.split(" as ") for part in name.split(".")) or text.count(" as ") > 1:
            raise TypeError(f"{text!r} is not the name of a module")
    return lambda f: dependent(f, _Requirement(modules, values))


class _Requirement:
    """Modules to import and objects to have in the namespace."""

    def __init__(self, modules: list[str], values: dict[str, Any]) -> None:
        self._modules, self._values = modules, values

    def __repr__(self) -> str:
        return f"require({', '.join([*map(repr, self._modules), *self._values])})"

    def __call__(self) -> bool:
        return self.meet(None)

    def meet(self, f: Any) -> bool:
        """Import and set everything; where a function of other globals finds it, too."""
        found = dict(self._values)
        for text in self._modules:
            name, _, alias = text.partition(" as ")
            try:
                module = importlib.import_module(name)
                top = importlib.import_module(name.partition(".")[0])
            except ImportError as e:
                raise UnmetDependency(f"the module {name!r} cannot be imported here: {e}") from e
            found[alias or top.__name__] = module if alias else top
        namespace = functions.engine_namespace()
        if namespace is not None:
            namespace.update(found)
        while isinstance(f, dependent | functools.partial):
            f = f.f if isinstance(f, dependent) else f.func
        if isinstance(f, types.FunctionType) and f.__globals__ is not namespace:
            for name in functions.global_names(f.__code__):
                if name in found:
                    f.__globals__.setdefault(name, found[name])
        return True
