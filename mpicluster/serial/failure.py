"""A remote failure as a value: caught on an engine, raised at the client with its type, text, traceback and place."""

from __future__ import annotations

import functools
import inspect
import linecache
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import msgspec

from mpicluster.errors import CompositeError, RemoteError, SerializationError
from mpicluster.serial.payload import decode, encode_inline

__all__ = ["Failure", "capture", "compose", "restore"]

_RULE = "-" * 75
#: A failure rides in a message: larger texts are cut, and a larger exception keeps its name only.
_MAX_TEXT = 256 * 1024
_OWN_FOLDER = __file__.rpartition("/serial/")[0] + "/"


class Failure(msgspec.Struct, frozen=True):
    """What is known of an exception where it was raised."""

    ename: str
    evalue: str
    traceback: str
    #: engine_id, rank, host, pid, method
    info: dict[str, int | str]
    #: the exception itself, pickled; empty if it does not pickle
    pickled: bytes


_decoder = msgspec.msgpack.Decoder(Failure)


def capture(error: BaseException, info: dict[str, int | str]) -> bytes:
    """Put an exception that was just caught into bytes. Never raises on account of the exception."""
    try:
        text = str(error)
    except Exception as e:  # noqa: BLE001 - a user's __str__ may raise anything
        text = f"<its text raised {type(e).__name__}>"
    try:
        pickled = encode_inline(error)
        if type(decode(pickled)) is not type(error):
            pickled = b""
    except SerializationError:
        pickled = b""
    if len(pickled) > _MAX_TEXT:
        pickled = b""
    failure = Failure(type(error).__name__, _short(text), _short(_render(error, text)), info, pickled)
    return msgspec.msgpack.encode(failure)


def restore(data: bytes) -> RemoteError:
    """The exception to raise at the client: of a class that is both a `RemoteError` and the type that was raised."""
    failure = _decoder.decode(data)
    original: BaseException | None = None
    if failure.pickled:
        try:
            original = decode(failure.pickled)
        except SerializationError:
            pass  # its module is not here; the texts are
    error = _revive(original, failure.evalue)
    error.ename, error.evalue, error.traceback = failure.ename, failure.evalue, failure.traceback
    error.engine_info = dict(failure.info)
    return error


def _revive(original: BaseException | None, evalue: str) -> RemoteError:
    if original is None or isinstance(original, RemoteError):
        return RemoteError(evalue)
    try:
        kind: type[RemoteError] = _class_of(type(original))  # type: ignore[arg-type]  # types are hashable
        error = kind.__new__(kind, *original.args)
        error.args = original.args
        for name in ("errno", "strerror", "filename", "filename2", "name", "path", "obj", "code", "value", "msg"):
            if hasattr(original, name):
                try:
                    setattr(error, name, getattr(original, name))
                except (AttributeError, TypeError):
                    continue  # read-only there
        error.__dict__.update(original.__dict__)
    except TypeError:
        return RemoteError(evalue)  # a type that does not combine (its memory layout, or its own __new__)
    return error


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}\n... and {len(text) - _MAX_TEXT} characters more"


@functools.lru_cache(maxsize=1024)
def _class_of(kind: type[BaseException]) -> type[RemoteError]:
    return type(
        kind.__name__, (RemoteError, kind), {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__reduce__": _reduce}
    )


def _reduce(self: RemoteError) -> tuple[Any, ...]:
    """Pickle what a failure is made of: the combined class exists in no module."""
    kind = type(self).__bases__[1]
    return _rebuild, (kind, self.args, self.__dict__)


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> RemoteError:
    original = kind.__new__(kind, *args)
    original.args = args
    error = _revive(original, state.get("evalue", ""))
    error.__dict__.update(state)
    return error


def _render(error: BaseException, text: str) -> str:
    """The traceback as IPython lays it out, without the frames of the engine itself."""
    name = type(error).__name__
    lines = [_RULE, f"{name:<42}Traceback (most recent call last)"]
    if isinstance(error, SyntaxError) and error.filename:
        lines += [line.rstrip("\n") for line in traceback.format_exception_only(error)]
    else:
        lines += _frames(error.__traceback__)
        lines.append(f"{name}: {text}")
        lines += getattr(error, "__notes__", [])
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        said = "The above exception was the direct cause of the following exception:"
        if error.__cause__ is None:
            said = "During handling of the above exception, another exception occurred:"
        before = _frames(cause.__traceback__)
        lines = [*before, f"{type(cause).__name__}: {cause}", "", said, "", *lines]
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


def compose(errors: list[Exception], what: str) -> CompositeError:
    """Several failures of one call as one error; when all have one type, it has that type as well."""
    message = f"{len(errors)} engines raised in {what}"
    kinds = {_kind(e) for e in errors}
    if len(kinds) == 1 and (kind := kinds.pop()) is not RemoteError:
        try:
            return _composite_of(kind)(message, errors)  # type: ignore[arg-type]  # types are hashable
        except (TypeError, AttributeError):
            pass  # a type that does not combine
    return CompositeError(message, errors)


def _kind(error: Exception) -> type[BaseException]:
    """The type that was raised: of a remote failure, the one on the engine."""
    combined = isinstance(error, RemoteError) and len(type(error).__bases__) > 1
    return type(error).__bases__[1] if combined else type(error)


@functools.lru_cache(maxsize=256)
def _composite_of(kind: type[BaseException]) -> type[CompositeError]:
    return type("CompositeError", (CompositeError, kind), {"__module__": CompositeError.__module__})
