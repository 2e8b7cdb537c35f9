"""A remote failure as a value: caught on an engine, raised at the client with its type, text, traceback and place."""

from __future__ import annotations

import functools
import inspect
import linecache
import traceback
import types
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from mpicluster.errors import ClusterError, CompositeError, RemoteError, SerializationError, TaskTimeout, UnmetDependency
from mpicluster.serial.payload import decode, encode_inline

__all__ = ["Failure", "Guarded", "bind_capture", "capture", "compose", "restore"]

_RULE = "-" * 75
#: A failure rides in a message: larger texts are cut, and a larger exception keeps its name only.
_MAX_TEXT = 256 * 1024
_MAX_ARGUMENT = 64 * 1024
#: Of what exceptions keep, this stays: ``obj`` may be of any size, the others are looked after by themselves.
_LEFT_BEHIND = frozenset({"args", "obj", "exceptions"})
_OWN_FOLDER = __file__.rpartition("/serial/")[0] + "/"


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of an exception where it was raised."""

    ename: str
    evalue: str
    traceback: str
    #: engine_id, rank, host, pid, method
    info: dict[str, int | str]
    #: the exception itself, pickled; empty if it does not pickle
    pickled: bytes
    #: the traceback in colour, of a cell
    rendered: str = ""


_decoder = msgspec.msgpack.Decoder(Failure)


def capture(error: BaseException, info: dict[str, int | str], rendered: str = "") -> bytes:
    """Put an exception that was just caught into bytes. Never raises on account of the exception.

    ``rendered``: its traceback in colour, where somebody has made one.
    """
    text = _text(error)
    trace = _short(_clean(_render(error, text)))
    failure = Failure(type(error).__name__, _short(text), trace, info, _pack(error, text), _short(_clean(rendered)))
    return msgspec.msgpack.encode(failure)


def _text(error: BaseException) -> str:
    try:
        return _clean(str(error))
    except Exception as e:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<its text raised {type(e).__name__}>"


def _clean(text: str) -> str:
    """Without what UTF-8 has no bytes for."""
    return text.encode("utf-8", "backslashreplace").decode()


def _pack(error: BaseException, text: str) -> bytes:
    """Type, arguments and attributes, pickled; as much of them as travels and is small enough, but at least the type."""
    kind, args, state = _take_apart(error)
    portable = {name: value for name, value in state.items() if _travels(value)} if not _travels(state) else state
    for content in (
        (kind, args, portable),
        (kind, args, {}),
        (kind, (text[:_MAX_ARGUMENT],), portable),
        (kind, (text[:_MAX_ARGUMENT],), {}),
    ):
        try:
            pickled = encode_inline(content)
            if len(pickled) <= _MAX_TEXT and _put_together(*decode(pickled)) is not None:
                return pickled
        except SerializationError:
            continue
    return b""


def _travels(value: Any) -> bool:
    try:
        decode(encode_inline(value))
    except SerializationError:
        return False
    return True


def restore(data: bytes) -> RemoteError:
    """The exception to raise at the client: of a class that is both a `RemoteError` and the type that was raised."""
    failure = _decoder.decode(data)
    error: BaseException | None = None
    if failure.pickled:
        try:
            error = _put_together(*decode(failure.pickled))
        except SerializationError:
            pass  # its module is not here; the texts are
    if not isinstance(error, RemoteError):
        error = RemoteError(failure.evalue)
    error.ename, error.evalue, error.traceback = failure.ename, failure.evalue, failure.traceback
    error.engine_info = dict(failure.info)
    if failure.rendered:
        error.rendered = failure.rendered
    return error


def _take_apart(error: BaseException) -> tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]:
    """What an exception is made of, whatever its ``__init__`` and ``__reduce__`` are like."""
    args = error.args
    state = dict(error.__dict__)
    for kind in type(error).__mro__:
        for name, member in vars(kind).items():  # slots, and what builtin exceptions keep
            kept = isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType)
            if kept and name not in _LEFT_BEHIND and not name.startswith("__"):
                try:
                    state.setdefault(name, getattr(error, name))
                except AttributeError:
                    continue  # not set
    if isinstance(error, BaseExceptionGroup):
        args = (error.message, [_Part(*_take_apart(e)) for e in error.exceptions])
    return _kind(error), args, state


class _Part(NamedTuple):
    """A member of an exception group."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]


def _put_together(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], *, remote: bool = True) -> BaseException | None:
    """The inverse of `_take_apart`, as a `RemoteError`; None for a type that does not combine with it."""
    if issubclass(kind, RemoteError) or (remote and not issubclass(kind, Exception)):
        return None  # a task that exits does not exit the client
    if issubclass(kind, BaseExceptionGroup):
        args = (args[0], [_put_together(*part, remote=False) for part in args[1]]) if len(args) == 2 else args
    builtin = next(k for k in kind.__mro__ if k.__module__ == "builtins" and "__new__" in vars(k))
    try:
        whole: Any = _class_of(kind) if remote else kind  # type: ignore[arg-type]  # types are hashable
        error: BaseException = builtin.__new__(whole, *args)
    except (TypeError, AttributeError):
        return None  # memory layouts or metaclasses that do not fit
    error.args = args
    for name, value in state.items():
        if not (remote and callable(getattr(RemoteError, name, None))):
            try:
                object.__setattr__(error, name, value)
            except (AttributeError, TypeError):
                continue  # read-only there
    return error


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}\n... and {len(text) - _MAX_TEXT} characters more"


@functools.lru_cache(maxsize=1024)
def _class_of(kind: type[BaseException]) -> type[RemoteError]:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__reduce__": _reduce, "__bool__": lambda _: True}
    return type(kind.__name__, (RemoteError, kind), names)


def _reduce(self: RemoteError) -> tuple[Any, ...]:
    """Pickle what a failure is made of: the combined class exists in no module."""
    return _put_together, _take_apart(self)


def _render(error: BaseException, text: str) -> str:
    """The traceback as IPython lays it out, without the frames of the engine itself."""
    name = type(error).__name__
    lines = [_RULE, f"{name:<42}Traceback (most recent call last)"]
    if isinstance(error, SyntaxError) and error.filename:
        lines += [line.rstrip("\n") for line in traceback.format_exception_only(error)]
    else:
        lines += _frames(error.__traceback__)
        lines.append(f"{name}: {text}")
        lines += map(str, notes) if isinstance(notes := getattr(error, "__notes__", []), list) else []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        said = "The above exception was the direct cause of the following exception:"
        if error.__cause__ is None:
            said = "During handling of the above exception, another exception occurred:"
        before = _frames(cause.__traceback__)
        lines = [*before, f"{type(cause).__name__}: {_text(cause)}", "", said, "", *lines]
    return "\n".join(lines)


def _frames(tb: TracebackType | None) -> Iterator[str]:
    while tb is not None:
        frame = tb.tb_frame
        code = frame.f_code
        if not code.co_filename.startswith(_OWN_FOLDER) and "/IPython/core/interactiveshell" not in code.co_filename:
            try:
                arguments = ", ".join(inspect.getargs(code).args)
            except TypeError:
                arguments = ""
            where = f"({arguments})" if code.co_name != "<module>" else ""
            yield f"{code.co_filename}:{tb.tb_lineno} in {code.co_name}{where}"
            source = linecache.getline(code.co_filename, tb.tb_lineno, frame.f_globals).strip()
            if source:
                yield f"    {source}"
        tb = tb.tb_next


#: how a failure is captured in this process; an engine binds its own way
_capture: Callable[[BaseException], bytes] = functools.partial(capture, info={})


def bind_capture(how: Callable[[BaseException], bytes]) -> None:
    """Let failures that become values be captured so in this process."""
    global _capture
    _capture = how


class Guarded:
    """A function that gives its exceptions as values: what arrives at the client is the `RemoteError`.

    What concerns the whole task (it is not to run here, or is out of time) is raised all the same.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        self._f = f
        self.__name__ = str(getattr(f, "__name__", type(f).__name__))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's value, or its failure."""
        try:
            return self._f(*args, **kwargs)
        except (UnmetDependency, TaskTimeout):
            raise
        except Exception as e:  # noqa: BLE001 - user code may raise anything
            return _Failed(_capture(e))

    def __reduce__(self) -> tuple[Any, ...]:
        return Guarded, (self._f,)


class _Failed:
    """A captured failure on its way: it is unpickled as the exception."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (self._data,)


def compose(errors: list[Exception], what: str, total: int, noun: str) -> CompositeError:
    """Failures of one call, of ``total`` engines or tasks, as one error, which also has the nearest type that all of them have."""
    count = f"{len(errors)} of {total}" if len(errors) < total else f"all {total}" if total > 1 else "1"
    message = f"{count} {noun if total > 1 else noun[:-1]} raised in {what}"
    kind = _common([_kind(e) for e in errors])
    if kind is not None:
        try:
            return _composite_of(kind)(message, errors)  # type: ignore[arg-type]  # types are hashable
        except (TypeError, AttributeError):
            pass  # a type that does not combine
    return CompositeError(message, errors)


def _common(kinds: list[type[BaseException]]) -> type[BaseException] | None:
    """The nearest class that all are, if it says more than that they are errors."""
    shared = (c for c in kinds[0].__mro__ if all(issubclass(k, c) for k in kinds))
    nearest = next(shared, Exception)
    return nearest if issubclass(nearest, Exception) and nearest not in (Exception, ClusterError, RemoteError) else None


def _kind(error: BaseException) -> type[BaseException]:
    """The type that was raised: of a remote failure, the one on the engine."""
    combined = isinstance(error, RemoteError) and len(type(error).__bases__) > 1
    return type(error).__bases__[1] if combined else type(error)


@functools.lru_cache(maxsize=256)
def _composite_of(kind: type[BaseException]) -> type[CompositeError]:
    return type("CompositeError", (CompositeError, kind), {"__module__": CompositeError.__module__})
