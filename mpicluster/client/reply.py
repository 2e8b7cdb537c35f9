"""What became of one slot of a result, and its value or error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mpicluster.errors import (
    DependencyTimeout,
    EngineError,
    ImpossibleDependency,
    InvalidDependency,
    TaskAborted,
    TaskTimeout,
    UnmetDependency,
)
from mpicluster.serial.failure import restore
from mpicluster.serial.payload import decode
from mpicluster.wire import messages as m

__all__ = ["STATUS", "Abandoned", "Reply", "value_of_reply"]

STATUS = {m.OK: "ok", m.ABORTED: "aborted", m.LOST: "lost"} | dict.fromkeys((m.FAILED, m.ABANDONED, m.UNMET, m.REFUSED, m.LATE), "error")


class Reply(NamedTuple):
    """What became of one slot of a result."""

    message: m.Result
    #: its bulk payload
    buffers: Sequence[Any]
    received: float


class Abandoned(EngineError):
    """A part that only failed because another did. ``why``: what there is to say about it beyond that."""

    def __init__(self, engine: int, name: str, why: str) -> None:
        super().__init__(f"engine {engine} gave up {name}: {why or 'another engine that it needs has failed, or did not come'}")
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return EngineError, self.args


def value_of_reply(reply: Reply, name: str, *, balanced: bool) -> Any:
    """The value; raises whatever became of the task instead.

    ``balanced``
        whether the hub was free to choose the engine.
    """
    message = reply.message
    if message.outcome == m.OK:
        return decode(message.data, reply.buffers, f"the result of {name}")
    if message.outcome == m.FAILED:
        raise restore(_bytes(reply))
    if message.outcome == m.ABORTED:
        raise TaskAborted(f"{name} was cancelled before it started")
    if message.outcome == m.ABANDONED:
        raise Abandoned(message.engine, name, message.data.decode(errors="replace"))
    if message.outcome == m.UNMET:
        raise _unmet(restore(_bytes(reply)), name, balanced=balanced)
    text = message.data.decode(errors="replace")
    if message.outcome == m.REFUSED:
        raise (InvalidDependency if text.startswith("unknown") else ImpossibleDependency)(f"{name} cannot run: {text}")
    if message.outcome == m.LATE:
        ran = bool(message.started) or text.startswith("it ran")  # of one that cannot be ended, the hub does not know when it began
        raise (TaskTimeout if ran else DependencyTimeout)(f"{name}: {text}")
    raise EngineError(text)


def _bytes(reply: Reply) -> bytes:
    return b"".join(bytes(b) for b in reply.buffers) if reply.buffers else reply.message.data


def _unmet(last: Exception, name: str, *, balanced: bool) -> Exception:
    """The engine that was meant, or the last of those that might have been, has not what the task needs."""
    text = getattr(last, "evalue", str(last))
    error: Exception
    if balanced:
        error = ImpossibleDependency(f"no engine has what {name} needs; the last one that was asked said: {text}")
    else:
        where = last.where() if hasattr(last, "where") else ""
        error = UnmetDependency(f"{text}\n{where}" if where else text)
    error.__cause__ = last
    return error
