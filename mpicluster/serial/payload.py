"""Object to bytes and back.

Pickle protocol 5: large buffers stay out of the pickle and are never copied here. A small object becomes one ``bytes``
that rides in a message; a large one becomes a list of buffers (the pickle first) that is streamed.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from mpicluster.errors import SerializationError
from mpicluster.serial import functions
from mpicluster.serial.arrayops import Answer, Op, Program, Ref, Told

__all__ = ["Buffer", "Executed", "Payload", "Unresolved", "decode", "encode", "encode_inline"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

#: Buffers below this are pickled in the stream: one copy costs less than the book-keeping.
OUT_OF_BAND_FROM = 16 * 1024

_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None), type(...)})
#: What is in longer ones, or deeper than so, is not looked at.
_LOOKED_AT = _DEEP = 16
_PLAIN, _WITH_BUFFERS, _LEAN = b"\x00", b"\x01", b"\x02"


class Unresolved(Exception):
    """A name that travelled for an object could not be evaluated where it arrived; its cause is why."""


class Payload(NamedTuple):
    """``data`` when it is small enough to ride in a message, else ``buffers``."""

    data: bytes
    buffers: list[Buffer]

    @property
    def sizes(self) -> list[int]:
        """Sizes of the buffers; empty for an inline payload."""
        return [len(b) for b in self.buffers]

    @property
    def nbytes(self) -> int:
        """Size of the whole."""
        return len(self.data) + sum(len(b) for b in self.buffers)


class Executed(NamedTuple):
    """The value of a cell: how many there were; what it has shown is output."""

    execution_count: int


#: Sequences, Python's and ours, that are looked into.
_TUPLES = frozenset({tuple, list, Executed, Answer, Told, Op, Ref})


def _is_plain(obj: Any, depth: int = _DEEP) -> bool:
    """Whether the C pickler alone does: nothing in it comes from the session, or from a package of its own."""
    kind = type(obj)
    if kind in _ATOMS:
        return True
    if kind in _TUPLES:
        if len(obj) > _LOOKED_AT or not depth:
            return False
        for x in obj:  # noqa: SIM110 - at a third of the cost of all()
            if type(x) not in _ATOMS and not _is_plain(x, depth - 1):
                return False
        return True
    if kind is dict:
        return not obj or (len(obj) <= _LOOKED_AT and _is_plain(list(obj), depth) and _is_plain(list(obj.values()), depth))
    if kind is slice:
        return _is_plain((obj.start, obj.stop, obj.step), depth)
    if kind is Program:
        return all(map(_is_plain, obj.ops))
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    if kind is numpy.ndarray or (isinstance(obj, numpy.generic) and kind.__module__ == "numpy"):
        return not obj.dtype.hasobject
    return isinstance(obj, numpy.dtype) and not obj.hasobject


def encode(obj: Any, inline_up_to: int, what: str = "object") -> Payload:
    """Pickle an object; ``what`` names it in the error.

    Raises
    ------
    SerializationError
        it does not pickle.
    """
    if type(obj) is FunctionType:
        short = functions.lean(obj)
        if short is not None and len(short) < inline_up_to:
            return Payload(_LEAN + short, [])
    buffers: list[Buffer] = []

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_FROM:
            return True
        buffers.append(view)
        return False

    try:
        if _is_plain(obj):
            stream = pickle.dumps(obj, protocol=5, buffer_callback=out_of_band)
        else:
            stream = functions.dumps(obj, buffer_callback=out_of_band)
    except Exception as e:
        raise SerializationError(f"cannot send {what}: {type(e).__name__}: {e}") from e
    if not buffers and len(stream) < inline_up_to:
        return Payload(_PLAIN + stream, [])
    total = len(stream) + sum(len(b) for b in buffers)
    if total < inline_up_to:
        sizes = [len(b) for b in buffers]
        head = pickle.dumps((len(stream), sizes), protocol=5)
        return Payload(b"".join((_WITH_BUFFERS, len(head).to_bytes(4, "little"), head, stream, *buffers)), [])
    return Payload(b"", [stream, *buffers])


def encode_inline(obj: Any, what: str = "object") -> bytes:
    """Pickle an object that must ride in a message, whatever its size."""
    return encode(obj, sys.maxsize, what).data


def decode(data: Buffer, buffers: Sequence[Buffer] = (), what: str = "object") -> Any:
    """The object of a payload. Arrays are writable and, for streamed payloads, live in the given buffers.

    Raises
    ------
    SerializationError
        it does not unpickle here: most often a module or a name that this process does not have.
    Exception
        a `Reference` in it cannot be evaluated: whatever that raised.
    """
    try:
        if buffers:
            return pickle.loads(buffers[0], buffers=buffers[1:])
        if data[0:1] == _PLAIN:
            return pickle.loads(memoryview(data)[1:])
        if data[0:1] == _LEAN:
            return functions.from_lean(memoryview(data)[1:])
        view = memoryview(data)
        start = 5 + int.from_bytes(view[1:5], "little")
        length, sizes = pickle.loads(view[5:start])
        stream = view[start : start + length]
        parts, position = [], start + length
        for size in sizes:
            parts.append(bytearray(view[position : position + size]))  # a copy, writable
            position += size
        return pickle.loads(stream, buffers=parts)
    except Unresolved as e:
        raise (e.__cause__ or e) from None
    except Exception as e:
        raise SerializationError(f"cannot receive {what}: {type(e).__name__}: {e}") from e
