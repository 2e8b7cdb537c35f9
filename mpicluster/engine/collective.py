"""Data among engines, over MPI. Every function here is collective over ``comm``, and its root is rank 0 of it.

All ranks have said that they are ready before any enters (see ``hub.scheduler``), so nobody waits long. What can fail on
one rank alone (memory, pickling) is followed by `agree`, and then fails on all.

Sizes above 2**31 - 1 bytes: counts are in rows or other large units, never in bytes; see `unit_type`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpicluster.engine.world import MPI

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "agree",
    "allgather_sizes",
    "bcast",
    "fold",
    "gather_bytes",
    "leave_together",
    "offsets",
    "reduce_array",
    "scatter_bytes",
    "unit_type",
]

_GIB = 1 << 30
#: The largest count and offset of an MPI call.
_INT_MAX = 2**31 - 1
#: How long to look for progress at full speed (yielding the core), before sleeping in between.
_EAGER = 1.0
_LONGEST_NAP = 0.001


def _nothing() -> None:
    """There is nothing else to do."""


#: What the main thread does while it waits for long; set by the loop.
on_nap: Callable[[], None] = _nothing


@contextlib.contextmanager
def napping(then: Callable[[], None]) -> Iterator[None]:
    """Call ``then()`` now and then while waiting for long."""
    global on_nap
    on_nap = then
    try:
        yield
    finally:
        on_nap = _nothing


def wait(*requests: MPI.Request) -> None:
    """Complete requests without holding a core that others need: yield at first, then nap up to 1 ms."""
    nap, until = 0.00002, time.monotonic() + _EAGER
    pending = list(requests)
    while not MPI.Request.Testall(pending):
        if time.monotonic() < until:
            os.sched_yield()
        else:
            on_nap()
            time.sleep(nap)
            nap = min(nap * 1.5, _LONGEST_NAP)


def agree(comm: MPI.Intracomm, ok: bool) -> bool:
    """Whether all ranks are well. One Iallreduce of a byte."""
    mine, all_ = np.array([ok], np.uint8), np.empty(1, np.uint8)
    wait(comm.Iallreduce(mine, all_, MPI.LAND))
    return bool(all_[0])


def leave_together(comm: MPI.Intracomm) -> None:
    """Stay in MPI until all ranks are through. One Ibarrier.

    A rank whose part is done may still owe the others an answer, which MPI gives only within its calls. Who leaves to wait
    for the hub leaves them waiting: seen with MPICH, in one of thirty broadcasts of 400 buffers.
    """
    try:
        wait(comm.Ibarrier())
    except MPI.Exception:
        pass  # a rank died after the data were there


def allgather_sizes(comm: MPI.Intracomm, size: int) -> list[int]:
    """Each rank's number. One Iallgather of 8 bytes."""
    mine, sizes = np.array([size], np.int64), np.empty(comm.size, np.int64)
    wait(comm.Iallgather(mine, sizes))
    return [int(s) for s in sizes]


def bcast(comm: MPI.Intracomm, buffers: Sequence[Any]) -> None:
    """Fill each rank's buffers (same sizes everywhere) with the root's. One Ibcast per buffer and GiB."""
    requests = []
    for buffer in buffers:
        flat = np.frombuffer(buffer, np.uint8)
        requests += [comm.Ibcast([flat[i : i + _GIB], MPI.BYTE]) for i in range(0, flat.size, _GIB)]
    wait(*requests)


def unit_type(nbytes: int) -> MPI.Datatype:
    """A committed datatype of so many bytes, any number; to be freed by the caller."""
    if nbytes < 2**31:
        return MPI.BYTE.Create_contiguous(nbytes).Commit()
    gib = MPI.BYTE.Create_contiguous(_GIB)
    whole = MPI.Datatype.Create_struct([nbytes // _GIB, nbytes % _GIB], [0, nbytes // _GIB * _GIB], [gib, MPI.BYTE]).Commit()
    gib.Free()
    return whole


def offsets(counts: Sequence[int]) -> list[int]:
    """Where each part begins when they lie one after another."""
    return [0, *itertools.accumulate(counts)][: len(counts)]


def _pieces(data: Any) -> list[Any]:
    """Bytes in messages of at most 1 GiB."""
    return [[data[i : i + _GIB], MPI.BYTE] for i in range(0, data.size, _GIB)]


def _pieces_of_others(whole: NDArray[np.uint8], counts: Sequence[int], unit: int) -> list[tuple[int, Any]]:
    """The root's bytes for every other rank: (rank, piece)."""
    parts = [whole[start * unit : (start + count) * unit] for start, count in zip(offsets(counts), counts, strict=True)]
    return [(rank, piece) for rank, part in enumerate(parts) if rank for piece in _pieces(part)]


def scatter_bytes(comm: MPI.Intracomm, whole: Any, counts: Sequence[int], unit: int, part: NDArray[np.uint8]) -> None:
    """Part i of the root's bytes, ``counts[i]`` units of ``unit`` bytes, into rank i's ``part``. One Iscatterv.

    More units than an MPI call can count go in messages of 1 GiB.
    """
    if sum(counts) > _INT_MAX:
        if comm.rank != 0:
            wait(*(comm.Irecv(piece, source=0) for piece in _pieces(part)))
            return
        flat = np.frombuffer(whole, np.uint8)
        part[:] = flat[: part.size]
        wait(*(comm.Isend(piece, dest=rank) for rank, piece in _pieces_of_others(flat, counts, unit)))
        return
    kind = unit_type(unit)
    try:
        send = [np.frombuffer(whole, np.uint8), (counts, offsets(counts)), kind] if comm.rank == 0 else None
        wait(comm.Iscatterv(send, [part, counts[comm.rank], kind]))
    finally:
        kind.Free()


def gather_bytes(comm: MPI.Intracomm, part: Any, counts: Sequence[int], unit: int, whole: NDArray[np.uint8] | None) -> None:
    """The inverse of `scatter_bytes`: all parts into the root's ``whole``. One Igatherv.

    More units than an MPI call can count go in messages of 1 GiB.
    """
    if sum(counts) > _INT_MAX:
        if whole is None:
            wait(*(comm.Isend(piece, dest=0) for piece in _pieces(part)))
            return
        whole[: part.size] = part
        wait(*(comm.Irecv(piece, source=rank) for rank, piece in _pieces_of_others(whole, counts, unit)))
        return
    kind = unit_type(unit)
    try:
        receive = [whole, (counts, offsets(counts)), kind] if comm.rank == 0 else None
        wait(comm.Igatherv([part, counts[comm.rank], kind], receive))
    finally:
        kind.Free()


def reduce_array(comm: MPI.Intracomm, array: NDArray[Any], op: MPI.Op) -> NDArray[Any] | None:
    """Element by element over the ranks, at the root; None elsewhere. One Reduce per GiB.

    The blocking form: it is twice as fast as Ireduce on Open MPI, and all ranks are here.
    """
    result: NDArray[Any] | None = None
    try:
        flat = np.ascontiguousarray(array).reshape(-1)
        if comm.rank == 0:
            result = np.empty_like(flat)
        ok = True
    except MemoryError:
        ok = False
    if not agree(comm, ok):
        raise MemoryError(f"an engine has no memory for another copy of {array.nbytes} bytes")
    step = max(1, _GIB // max(1, flat.itemsize))
    for i in range(0, flat.size, step):
        comm.Reduce(flat[i : i + step], result[i : i + step] if result is not None else None, op)
    return result.reshape(array.shape) if result is not None else None


def fold(comm: MPI.Intracomm, data: bytes, take: Callable[[bytes], None]) -> None:
    """Hand the root every rank's bytes, in rank order, one at a time. size - 1 messages; the root never raises half-way."""
    sizes = allgather_sizes(comm, len(data))
    try:
        scratch = memoryview(bytearray(max(sizes[1:], default=0) if comm.rank == 0 else 0))
        ok = True
    except MemoryError:
        ok = False
    if not agree(comm, ok):
        raise MemoryError(f"the first engine has no memory for a part of {max(sizes)} bytes")
    if comm.rank != 0:
        for i in range(0, len(data), _GIB):
            comm.Send([memoryview(data)[i : i + _GIB], MPI.BYTE], dest=0)
        return
    problem: BaseException | None = None
    for source, size in enumerate(sizes):
        for i in range(0, size if source else 0, _GIB):
            comm.Recv([scratch[i : min(i + _GIB, size)], MPI.BYTE], source=source)
        if problem is None:
            try:
                take(bytes(scratch[:size]) if source else data)
            except BaseException as e:  # noqa: BLE001 - the user's operation, even if it exits; the other ranks still send
                problem = e
    if problem is not None:
        raise problem
