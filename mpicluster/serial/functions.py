"""How functions travel.

A function of an importable module travels by name. A function of the interactive session (``__main__``) travels by
value, and what it calls *global* is then the namespace of the engine it runs on: this is how code on the engines sees
what was pushed, scattered or executed there. Functions and classes of the session that it refers to travel with it;
data and modules do not (push them, or import them there).
"""

from __future__ import annotations

import dis
import functools
import importlib.util
import io
import marshal
import sys
import types
from collections.abc import Callable
from typing import Any

import cloudpickle

__all__ = [
    "Pickler",
    "bind_namespace",
    "dumps",
    "engine_namespace",
    "from_lean",
    "global_names",
    "install",
    "interactive",
    "lean",
    "take_companions",
]

_MAIN = "__main__"
#: What `functools.lru_cache` makes.
_Cached: Any = type(functools.lru_cache(len))
#: Bytecode is good for one version of Python.
_MAGIC = importlib.util.MAGIC_NUMBER

#: Where functions of a session find their globals in this process; the engine binds its own.
_namespace: dict[str, Any] | None = None
#: What arrived with functions and was put in that namespace: replaced by the next version, never against the user.
_arrived: dict[str, Any] = {}
#: What arrived with the functions unpickled since `take_companions`.
_latest: dict[str, Any] = {}


def bind_namespace(namespace: dict[str, Any]) -> None:
    """Let functions that arrive from a session use ``namespace`` as their globals."""
    global _namespace
    _namespace = namespace
    _arrived.clear()


def engine_namespace() -> dict[str, Any] | None:
    """The namespace of this engine; None where there is none, as at a client."""
    return _namespace


def _globals() -> dict[str, Any]:
    return sys.modules[_MAIN].__dict__ if _namespace is None else _namespace


def install(companions: dict[str, Any]) -> None:
    """Put what came with a function into the namespace, except where the user has something of that name."""
    namespace = _globals()
    for name, value in companions.items():
        if name not in namespace or (name in _arrived and namespace[name] is _arrived[name]):
            namespace[name] = _arrived[name] = value


def take_companions() -> dict[str, Any]:
    """What came with the functions unpickled since the last call, to be put back before a function is called again."""
    taken = dict(_latest)
    _latest.clear()
    return taken


@functools.lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> tuple[str, ...]:
    """Names that code looks up as globals, those of nested functions included."""
    names = {i.argval: None for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names.update(dict.fromkeys(global_names(const)))
    return tuple(names)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, but for functions of the session."""

    def reducer_override(self, obj: Any) -> Any:
        """Called by the C pickler for everything but plain data."""
        if obj is _make or obj is _fill:
            return NotImplemented  # by name; asking cloudpickle takes longer than all the rest
        if type(obj) is types.FunctionType and obj.__module__ == _MAIN and obj.__globals__ is _globals():
            return _reduce(obj)
        if type(obj) is _Cached and obj.__module__ == _MAIN:
            return _cache, (obj.cache_parameters(), obj.__wrapped__)
        return super().reducer_override(obj)


def dumps(obj: Any, buffer_callback: Callable[[Any], Any] | None = None) -> bytes:
    """Pickle with protocol 5."""
    with io.BytesIO() as f:
        Pickler(f, protocol=5, buffer_callback=buffer_callback).dump(obj)
        return f.getvalue()


def interactive(f: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a module one of the session: it travels by value, closure included, and its globals are the engine's namespace.

    Raises
    ------
    TypeError
        it is no Python function.
    """
    if not isinstance(f, types.FunctionType):
        raise TypeError(f"interactive takes a Python function, whose globals it changes, not {f!r}")
    own = types.FunctionType(f.__code__, _globals(), f.__name__, f.__defaults__, f.__closure__)
    own.__kwdefaults__ = f.__kwdefaults__
    functools.update_wrapper(own, f)
    del own.__dict__["__wrapped__"]  # it would travel too
    own.__module__ = _MAIN
    return own


def _companions(f: types.FunctionType) -> dict[str, Any]:
    """Functions and classes of the session that a function refers to."""
    found = {}
    for name in global_names(f.__code__):
        value = f.__globals__.get(name)
        ours = isinstance(value, types.FunctionType | type | _Cached) or getattr(type(value), "_companion", False)
        if ours and getattr(value, "__module__", None) == _MAIN:
            found[name] = value
    return found


def lean(f: types.FunctionType) -> bytes | None:
    """A function of the session that is nothing but its code, in a form five times faster than a pickle; None for others."""
    if (
        f.__module__ != _MAIN
        or f.__globals__ is not _globals()
        or f.__closure__
        or f.__defaults__
        or f.__kwdefaults__
        or f.__annotations__
        or f.__dict__
        or _companions(f)
    ):
        return None
    return marshal.dumps((_MAGIC, f.__code__, f.__name__, f.__qualname__, f.__doc__))


def from_lean(data: bytes | memoryview) -> types.FunctionType:
    """The inverse of `lean`."""
    magic, code, name, qualname, doc = marshal.loads(data)
    f = _make(code, 0, magic)
    f.__name__, f.__qualname__, f.__doc__, f.__module__ = name, qualname, doc, _MAIN
    return f


def _reduce(f: types.FunctionType) -> tuple[Any, ...]:
    cells: list[tuple[Any, ...]] = []
    for cell in f.__closure__ or ():
        try:
            cells.append((cell.cell_contents,))
        except ValueError:
            cells.append(())
    attributes = {
        "__name__": f.__name__,
        "__qualname__": f.__qualname__,
        "__annotations__": f.__annotations__,
        "__kwdefaults__": f.__kwdefaults__,
        "__defaults__": f.__defaults__,
        "__module__": f.__module__,
        "__doc__": f.__doc__,
    }
    # made first, filled afterwards: a recursive function refers to itself
    return _make, (f.__code__, len(cells), _MAGIC), (attributes, f.__dict__, cells, _companions(f)), None, None, _fill


def _cache(parameters: dict[str, Any], f: Callable[..., Any]) -> Any:
    return functools.update_wrapper(functools.lru_cache(**parameters)(f), f)


def _make(code: types.CodeType, cells: int, magic: bytes) -> types.FunctionType:
    if magic != _MAGIC:
        raise ImportError(f"a function's code comes from another version of Python than {sys.version.split()[0]}, which is here")
    return types.FunctionType(code, _globals(), None, None, tuple(types.CellType() for _ in range(cells)))


def _fill(f: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any], list[tuple[Any, ...]], dict[str, Any]]) -> None:
    attributes, own, cells, companions = state
    for name, value in attributes.items():
        setattr(f, name, value)
    f.__dict__.update(own)
    for cell, content in zip(f.__closure__ or (), cells, strict=True):
        if content:
            cell.cell_contents = content[0]
    install(companions)
    _latest.update(companions)
