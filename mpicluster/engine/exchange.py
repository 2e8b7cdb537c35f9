"""The data verbs: one value to all targets, its parts to each, the parts back, the parts combined.

Each is collective over the targets of an assignment; the first target is the root. Before it enters, a target has done
alone what can fail alone (evaluate a name, allocate), so that it can still fail alone.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np

from mpicluster.buffers import allocate
from mpicluster.engine import collective
from mpicluster.engine.world import MPI, WorldBroken
from mpicluster.serial.partition import Scattering, is_plain_array
from mpicluster.serial.payload import decode, encode_inline
from mpicluster.wire.messages import Assign

__all__ = ["Abandoned", "Door", "broadcast", "coalesce", "gather", "reduce", "scatter", "spread"]


P = ParamSpec("P")
T = TypeVar("T")


class Abandoned(RuntimeError):
    """Another target did not come, or failed inside; it has the reason."""


class Door(Protocol):
    """Where an assignment meets its other targets."""

    @property
    def position(self) -> int:
        """This engine's place among the targets."""

    @property
    def comm(self) -> MPI.Intracomm:
        """The communicator of the targets, after they met."""

    def meet(self, meta: bytes) -> tuple[MPI.Intracomm, list[bytes]]:
        """Say that this engine is ready; returns the communicator of the targets, and what each said.

        Raises
        ------
        Abandoned
            one of them failed before.
        WorldBroken
            one of them died.
        """

    def part(self) -> None:
        """After they met: all of them go their way."""

    def enter_gang(self) -> MPI.Intracomm:
        """Meet, if they have not, and let the user's communicator be one of exactly the targets.

        Raises
        ------
        Abandoned
            one of them failed before.
        WorldBroken
            one of them died.
        """

    def leave_gang(self, *, well: bool) -> None:
        """After `enter_gang`. If this engine failed, the others are freed that wait for it in that communicator."""

    def bulk(self) -> Sequence[Any]:
        """The payload streamed to this engine."""


def _in_a_sound_world(exchange: Callable[Concatenate[Door, P], T]) -> Callable[Concatenate[Door, P], T]:
    """Meet and part. An error of MPI within the engine's own collective means that a rank died: it is told as `WorldBroken`."""

    @functools.wraps(exchange)
    def wrapper(door: Door, /, *args: P.args, **kwargs: P.kwargs) -> T:
        broken = False
        try:
            return exchange(door, *args, **kwargs)
        except MPI.Exception as e:
            broken = True
            raise WorldBroken(str(e)) from e
        finally:
            if not broken:
                door.part()

    return wrapper


def broadcast(door: Door, task: Assign) -> Sequence[Any]:
    """The root's payload, at every target. One Ibcast per buffer."""
    return _in_a_sound_world(spread)(door, task)


def spread(door: Door, task: Assign) -> Sequence[Any]:
    """`broadcast`, by those who will meet again: they do not part."""
    buffers = door.bulk() if door.position == 0 else [allocate(size) for size in task.sizes]
    comm, _ = door.meet(b"")
    collective.bcast(comm, buffers)
    return buffers


@_in_a_sound_world
def coalesce(door: Door, data: bytes, tell: Callable[[list[bytes]], None]) -> None:
    """What each target has to say, told by the root, before any of them goes on. They have met before. One Iallgather and one Igatherv."""
    pieces = _gather_bytes(door.comm, data, collective.allgather_sizes(door.comm, len(data)))
    if pieces is not None:
        tell(pieces)


@_in_a_sound_world
def scatter(door: Door, task: Assign, plan: Scattering) -> Any:
    """This engine's part of what the root has. One Iscatterv."""
    me = door.position
    whole: Any = None
    if me == 0:
        whole = door.bulk()[0] if task.sizes else task.bulk
    part = allocate(plan.counts[me] * plan.unit)
    comm, _ = door.meet(b"")
    collective.scatter_bytes(comm, whole, plan.counts, plan.unit, part)
    if plan.dtype is not None:
        value = part.view(plan.dtype).reshape((plan.lengths[me], *plan.row))
    else:
        value = decode(part[: plan.lengths[me]].tobytes(), what=f"this engine's part of {plan.key!r}")
    return value[0] if plan.flatten and len(value) == 1 else value


@_in_a_sound_world
def gather(door: Door, value: Any, name: str) -> Any:
    """All parts at the root: ``("array", whole, sizes)`` or ``("objects", [pickle, ...])``; None elsewhere.

    Arrays that differ only in their number of rows: one Iallreduce and one Igatherv. Anything else: their pickles, by one
    Iallgather, one Iallreduce and one Igatherv.
    """
    meta = (value.dtype, value.shape[1:], len(value)) if is_plain_array(value) else None
    part = np.ascontiguousarray(value).reshape(-1).view(np.uint8) if meta is not None else None
    comm, said = door.meet(encode_inline(meta))
    metas = [decode(m) for m in said]
    if all(m is not None and m[:2] == metas[0][:2] for m in metas):
        return _gather_arrays(comm, value, part, [m[2] for m in metas])
    return _gather_objects(comm, value, name)


def _allocate(comm: MPI.Intracomm, nbytes: int) -> Any:
    """The root's buffer; all ranks fail if it cannot be had."""
    whole: Any = None
    if comm.rank == 0:
        try:
            whole = allocate(nbytes)
        except MemoryError:
            pass  # said to all by the agreement
    if not collective.agree(comm, whole is not None or comm.rank != 0):
        raise MemoryError(f"no memory for the {nbytes} bytes of all parts at the first engine") if comm.rank == 0 else Abandoned
    return whole


def _gather_arrays(comm: MPI.Intracomm, value: Any, part: Any, sizes: list[int]) -> Any:
    """``part``: the bytes of ``value``, in C order."""
    row = value.dtype.itemsize * math.prod(value.shape[1:])
    whole = _allocate(comm, sum(sizes) * row)
    if row:
        collective.gather_bytes(comm, part, sizes, row, whole)
    if whole is None:
        return None
    return "array", whole.view(value.dtype).reshape((sum(sizes), *value.shape[1:])), sizes


def _pickle(value: Any, name: str) -> tuple[bytes, BaseException | None]:
    try:
        return encode_inline(value, repr(name)), None
    except BaseException as e:  # noqa: BLE001 - told to the others first: they wait
        return b"", e


def _gather_objects(comm: MPI.Intracomm, value: Any, name: str) -> Any:
    data, problem = _pickle(value, name)
    lengths = collective.allgather_sizes(comm, -1 if problem is not None else len(data))
    if problem is not None:
        raise problem
    if -1 in lengths:
        raise Abandoned
    pieces = _gather_bytes(comm, data, lengths)
    return None if pieces is None else ("objects", pieces)


def _gather_bytes(comm: MPI.Intracomm, data: bytes, lengths: list[int]) -> list[bytes] | None:
    """The bytes of all, which are so many, at the root; None elsewhere."""
    unit = 1 if sum(lengths) < 2**31 else 1 << 16
    counts = [-(-n // unit) for n in lengths]
    whole = _allocate(comm, sum(counts) * unit)
    part = np.frombuffer(data.ljust(counts[comm.rank] * unit, b"\0"), np.uint8)
    collective.gather_bytes(comm, part, counts, unit, whole)
    if whole is None:
        return None
    starts = collective.offsets(counts)
    return [whole[s * unit : s * unit + n].tobytes() for s, n in zip(starts, lengths, strict=True)]


_MPI_OPS: dict[str, MPI.Op] = {
    "sum": MPI.SUM,
    "prod": MPI.PROD,
    "min": MPI.MIN,
    "max": MPI.MAX,
    "land": MPI.LAND,
    "lor": MPI.LOR,
    "lxor": MPI.LXOR,
    "band": MPI.BAND,
    "bor": MPI.BOR,
    "bxor": MPI.BXOR,
}


def _extreme(ufunc: Callable[[Any, Any], Any], plain: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Of two values: NumPy's for what belongs to it, else Python's; NaN is passed on by both."""

    def choose(a: Any, b: Any) -> Any:
        if hasattr(a, "__array_ufunc__") or hasattr(b, "__array_ufunc__"):
            return ufunc(a, b)
        return a if a != a else b if b != b else plain(a, b)

    return choose


_FOLD_OPS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": operator.add,
    "prod": operator.mul,
    "min": _extreme(np.minimum, min),
    "max": _extreme(np.maximum, max),
    "land": np.logical_and,
    "lor": np.logical_or,
    "lxor": np.logical_xor,
    "band": operator.and_,
    "bor": operator.or_,
    "bxor": operator.xor,
}


@_in_a_sound_world
def reduce(door: Door, value: Any, name: str, op: str | Callable[[Any, Any], Any]) -> Any:
    """The parts combined, at the root: ``("value", result)``; None elsewhere.

    Arrays and NumPy scalars of one shape and dtype that MPI knows: Reduce. Anything else, and any callable: each part is
    sent to the root, which combines them in rank order, one at a time.
    """
    array = _for_mpi(value, op) if isinstance(op, str) else None
    meta = (array.dtype.str, array.shape) if array is not None else None
    comm, said = door.meet(encode_inline(meta))
    if array is not None and isinstance(op, str) and all(m == said[0] for m in said):
        result = collective.reduce_array(comm, array, _MPI_OPS[op])
        if result is None:
            return None
        return "value", result if isinstance(value, np.ndarray) else result[()]
    data, problem = _pickle(value, name)
    if not collective.agree(comm, problem is None):
        raise problem if problem is not None else Abandoned
    combine = _FOLD_OPS[op] if isinstance(op, str) else op
    total: list[Any] = []

    def take(piece: bytes) -> None:
        part = decode(piece, what=repr(name))
        if isinstance(op, str) and op in ("sum", "prod") and isinstance(part, np.ndarray | np.generic) and part.dtype == bool:
            part = part.astype(np.int64)
        if isinstance(op, str) and op in ("land", "lor", "lxor"):
            part = np.asanyarray(part).astype(bool)[()]
        total[:] = [combine(total[0], part) if total else part]

    collective.fold(comm, data, take)
    return ("value", total[0]) if comm.rank == 0 else None


def _for_mpi(value: Any, op: str) -> Any:
    """The array to reduce by MPI itself; None where MPI's result would not be NumPy's, or MPI has no such type."""
    if not isinstance(value, np.generic) and type(value) is not np.ndarray:
        return None
    array = np.asarray(value)
    kind = array.dtype.kind
    if kind not in "biufc" or not array.dtype.isnative or array.dtype == np.float16:
        return None
    if op in ("land", "lor", "lxor"):
        return array.astype(bool)
    if kind == "b":
        return array.astype(np.int64) if op in ("sum", "prod") else None
    if op in ("band", "bor", "bxor"):
        return array if kind in "iu" else None
    if op in ("min", "max") and (kind == "c" or (kind == "f" and bool(np.isnan(array).any()))):
        return None  # MPI says nothing of the order of complex numbers and NaN
    return array
