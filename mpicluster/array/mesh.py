"""The ranks that hold an array, and what they say to each other. The only module of arrays that calls MPI.

Every method that takes data is collective over the ranks of the mesh, and all must call the same ones in the same order. Messages are
counted (`Mesh.traffic`), so that what is written about an algorithm's cost can be tested.

Messages are bytes, cut into pieces of 1 GiB, since an MPI call cannot count more than 2**31 - 1.

A rank that runs out of memory must not leave the others waiting: what needs memory before a message is done within `Mesh.preparing`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import mpi4py
import numpy as np
from numpy.typing import NDArray

from mpicluster import here
from mpicluster.array.agreement import Failure, described, restored
from mpicluster.array.layout import starts
from mpicluster.errors import ArrayLost

mpi4py.rc.fast_reduce = False  # as engines have it
from mpi4py import MPI  # noqa: E402 - after the setting above

__all__ = ["MPI", "Mesh", "Traffic", "current"]

_GIB = 1 << 30
#: The largest count and offset of an MPI call.
_INT_MAX = 2**31 - 1
#: Our messages have tags from here on; what other code on the same communicator sends should have lower ones.
TAG = 16384
#: Up to so many bytes from all ranks together, a reduction is an Allgather; from the second size on, a reduce-scatter and an Allgatherv.
_GATHERED_UP_TO = 1 << 16
_SCATTERED_FROM = 1 << 20
#: Before so many bytes move, ranks agree that they have the memory; less is most often had from what the process has already.
_AGREED_FROM = 1 << 17
#: While others compute for long: how long to look at full speed (yielding the core), and how long to nap in between after that.
_EAGER = 0.002
_LONGEST_NAP = 0.001

P = ParamSpec("P")
T = TypeVar("T")
Array = NDArray[Any]
Operation = Callable[[Any, Any], Any]


@dataclass
class Traffic:
    """What this rank has sent, by kind of message: how many messages, and bytes.

    A message that the MPI library spreads or collects itself (bcast, gather, scatter, allgather) is counted once, with the bytes that this
    rank gives.
    """

    messages: dict[str, int] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, nbytes: int, messages: int = 1) -> None:
        """Count messages."""
        self.messages[kind] = self.messages.get(kind, 0) + messages
        self.nbytes[kind] = self.nbytes.get(kind, 0) + nbytes

    def clear(self) -> None:
        """Begin at zero."""
        self.messages.clear()
        self.nbytes.clear()


def _raw(array: Array) -> NDArray[np.uint8]:
    """The bytes of a contiguous array, in the order of its memory. No copy."""
    flat = array.reshape(-1, order="A")
    if not np.may_share_memory(flat, array) and array.size:
        raise ValueError("messages are contiguous")
    return flat.view(np.uint8)


def _nbytes(block: Array, sizes: Sequence[int]) -> int:
    """Bytes of the blocks of all ranks, which have so many rows."""
    return sum(sizes) * math.prod(block.shape[1:]) * block.itemsize


def _pieces(raw: NDArray[np.uint8]) -> list[Any]:
    return [[raw[i : i + _GIB], MPI.BYTE] for i in range(0, raw.size, _GIB)]


def _or_lost(method: Callable[P, T]) -> Callable[P, T]:
    """Have errors of MPI say what they mean for arrays: most often that a rank died."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except MPI.Exception as e:
            raise ArrayLost(f"a rank died, or gave up, while arrays exchanged messages ({e}): what they held there is lost") from e

    return wrapper


class Mesh:
    """The ranks of a communicator.

    There is one mesh for each set of ranks in this process, whatever communicators they have. It stands for the newest of these.
    """

    def __init__(self, comm: MPI.Intracomm, members: tuple[int, ...]) -> None:
        #: communicators of these ranks that are not freed, by handle, the newest last
        self._known: dict[int, MPI.Intracomm] = {}
        self._comm: MPI.Intracomm | None = None
        #: those of them that the user made and named, the last named last
        self._users: dict[int, MPI.Intracomm] = {}
        #: ranks in MPI_COMM_WORLD
        self.members = members
        self.size: int = comm.size
        self.rank: int = comm.rank
        #: a number for each rank, equal for ranks of one host; None until it is asked for
        self._hosts: list[int] | None = None
        self.traffic = Traffic()

    def __repr__(self) -> str:
        return f"<Mesh of {self.size} ranks>" if self.size != 1 else "<Mesh of 1 rank>"

    @property
    def comm(self) -> MPI.Intracomm:
        """A communicator of exactly these ranks, in this order."""
        if self._comm is None:
            raise ArrayLost(f"the communicator of ranks {', '.join(map(str, self.members))} was freed, and with it their arrays were lost")
        return self._comm

    # -- which mesh ----------------------------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, comm: MPI.Intracomm) -> Mesh:
        """The mesh of a communicator. Local: no message is sent."""
        known: Any = comm.Get_attr(_keyval())
        if known is None:
            members = _members(comm)
            known = _meshes.get(members) or cls(comm, members)
            _meshes[members] = known
            comm.Set_attr(_keyval(), known)
        handle = MPI._handleof(comm)
        if handle not in known._known:
            known._known[handle] = MPI.Intracomm(comm)
        known._comm = known._known[handle]
        mesh: Mesh = known
        return mesh

    def _forget(self, handle: int) -> None:
        """A communicator is freed: go on with the newest of the others."""
        gone = self._known.pop(handle, None)
        self._users.pop(handle, None)
        if gone is not None and gone is self._comm:
            self._comm = next(reversed(self._known.values()), None)

    @staticmethod
    def find(members: tuple[int, ...]) -> Mesh | None:
        """The mesh of these ranks, if this process knows it."""
        return current() if current().members == members else _meshes.get(members)

    def check(self) -> None:
        """See that the ranks of this mesh can still be reached.

        Raises
        ------
        ArrayLost
            a rank died, or these ranks have no communicator in this task: the user's own will do, while it is not freed.
        """
        now = current()
        if now is self:
            return
        if here.communicator is None:
            _ = self.comm  # the user's own: there, unless the user freed it
            return
        gone = sorted(set(self.members) - set(now.members))
        if self._users and not gone:
            self._comm = next(reversed(self._users.values()))
            return
        names = ", ".join(map(str, self.members))
        if gone and len(now.members) < len(self.members):
            raise ArrayLost(
                f"the array lay on engines {names}, and engine {gone[0]} has no part in this task or died: what it held is not here; "
                f"make the array again from what you have, or use it where all of its engines take part"
            )
        if len(self.members) == 1 and self.members[0] in now.members:
            return
        raise ArrayLost(f"the array lies on engines {names}; use it in a task of exactly these engines: rc[{list(self.members)}].spmd(...)")

    # -- small talk ----------------------------------------------------------------------------------------------------------------

    @_or_lost
    def agree(self, ok: bool) -> bool:
        """Whether all ranks are well. One Allreduce of a byte."""
        if self.size == 1:
            return ok
        self.traffic.note("agree", 1)
        all_ = np.empty(1, np.uint8)
        self.comm.Allreduce(np.array([ok], np.uint8), all_, MPI.LAND)
        return bool(all_[0])

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """For what can fail on one rank alone: all ranks raise if one did. One Allreduce of a byte, and a Bcast if one did.

        The block itself must not communicate.
        """
        failure = Failure()
        with failure:
            yield
        self.settle(failure.error)

    def preparing(self, nbytes: int) -> AbstractContextManager[None]:
        """`together`, for what needs memory between messages: all ranks raise if one has too little. Its block must not communicate.

        ``nbytes``
            about how much is moved or made by all ranks, the same number on each: up to 128 KiB it is not worth a message.
        """
        return self.together() if nbytes >= _AGREED_FROM and self.size > 1 else contextlib.nullcontext()

    def settle(self, error: Exception | None) -> None:
        """Raise on all ranks if one of them has an error: its own where it has one, else the same of the lowest such rank."""
        if self.agree(error is None):
            return
        who = int(self.fold(np.array([self.rank if error is not None else self.size]), np.minimum)[0])
        said = self.tell(described(error) if error is not None and self.rank == who else None, who)
        if error is not None:
            raise error
        raise restored(who, *said)

    @_or_lost
    def tell(self, value: Any, root: int = 0) -> Any:
        """A small Python object of the root's, on all ranks. One Bcast of its size, and one of its pickle."""
        if self.size == 1:
            return value
        self.traffic.note("bcast", 0)
        return self.comm.bcast(value if self.rank == root else None, root=root)

    @_or_lost
    def gather_ints(self, *numbers: int) -> NDArray[np.int64]:
        """Each rank's numbers, one row for each rank. One Allgather."""
        mine = np.array(numbers, np.int64)
        if self.size == 1:
            return mine[np.newaxis]
        self.traffic.note("allgather", mine.nbytes)
        all_ = np.empty((self.size, mine.size), np.int64)
        self.comm.Allgather(mine, all_)
        return all_

    def on_host_of(self, rank: int) -> int:
        """How many ranks there are on the host of one of them, itself included. One Allgather the first time, then no message."""
        if self._hosts is None:
            self._hosts = self.gather_ints(zlib.crc32(MPI.Get_processor_name().encode()))[:, 0].tolist()
        return self._hosts.count(self._hosts[rank])

    @_or_lost
    def alltoall_ints(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number to each rank; what each has for this one. One Alltoall."""
        if self.size == 1:
            return numbers
        mine, come = np.ascontiguousarray(numbers, np.int64), np.empty(self.size, np.int64)
        self.traffic.note("alltoall", mine.nbytes)
        self.comm.Alltoall(mine, come)
        return come

    # -- one to one ----------------------------------------------------------------------------------------------------------------

    def exchange(self, sends: Sequence[tuple[int, Array]], receives: Sequence[tuple[int, Array]]) -> None:
        """Send contiguous arrays to other ranks and fill others with what they send. All ranks must expect what comes."""
        requests = self.post(sends, receives)
        MPI.Request.Waitall(requests)

    @_or_lost
    def post(self, sends: Sequence[tuple[int, Array]], receives: Sequence[tuple[int, Array]]) -> list[MPI.Request]:
        """As `exchange`, to be completed by the caller with `complete`; the arrays must stay as they are until then."""
        requests = [self.comm.Irecv(piece, peer, TAG) for peer, array in receives for piece in _pieces(_raw(array))]
        for peer, array in sends:
            pieces = _pieces(_raw(array))
            requests += [self.comm.Isend(piece, peer, TAG) for piece in pieces]
            self.traffic.note("send", array.nbytes, len(pieces))
        return requests

    @staticmethod
    @_or_lost
    def complete(requests: Sequence[MPI.Request]) -> None:
        """Wait for what `post` or `ibcast` began."""
        MPI.Request.Waitall(list(requests))

    @staticmethod
    @_or_lost
    def progress(requests: Sequence[MPI.Request]) -> None:
        """Let what `post` or `ibcast` began go on as far as it can, for a moment, in the midst of long work. It must be completed still."""
        MPI.Request.Testall(list(requests))

    @_or_lost
    def complete_patiently(self, requests: Sequence[MPI.Request]) -> None:
        """As `complete`, for what takes another rank long: leaves the core to others meanwhile."""
        pending, nap, until = list(requests), 0.00002, time.monotonic() + _EAGER
        while not MPI.Request.Testall(pending):
            if time.monotonic() < until:
                os.sched_yield()
            else:
                time.sleep(nap)
                nap = min(nap * 1.5, _LONGEST_NAP)

    # -- one to all, all to one ----------------------------------------------------------------------------------------------------

    @_or_lost
    def bcast(self, array: Array, root: int) -> Array:
        """Fill a contiguous array with the root's. One Bcast for each GiB."""
        if self.size > 1:
            self.traffic.note("bcast", array.nbytes if self.rank == root else 0)
            for piece in _pieces(_raw(array)):
                self.comm.Bcast(piece, root)
        return array

    @_or_lost
    def ibcast(self, array: Array, root: int) -> list[MPI.Request]:
        """As `bcast`, to be completed by the caller. One Ibcast for each GiB."""
        if self.size == 1:
            return []
        self.traffic.note("bcast", array.nbytes if self.rank == root else 0)
        return [self.comm.Ibcast(piece, root) for piece in _pieces(_raw(array))]

    def gather(self, block: Array, sizes: Sequence[int], root: int) -> Array | None:
        """Blocks of rows, ``sizes[i]`` from rank i, one after another at the root; None elsewhere. size - 1 messages. All raise if the
        root has too little memory.

        Messages straight into the result cost no more than a Gatherv, and the wait is patient.
        """
        with self.preparing(_nbytes(block, sizes)):
            block = np.ascontiguousarray(block)
            whole = np.empty((sum(sizes), *block.shape[1:]), block.dtype) if self.rank == root else None
        if whole is None:
            self.complete_patiently(self.post([(root, block)], []))
            return None
        bounds = starts(tuple(sizes))
        pending = self.post([], [(peer, whole[bounds[peer] : bounds[peer + 1]]) for peer in range(self.size) if peer != root])
        whole[bounds[root] : bounds[root + 1]] = block
        self.complete(pending)
        return whole

    def scatter(self, whole: Array | None, block: Array, sizes: Sequence[int], root: int) -> Array:
        """The inverse of `gather`, into ``block``. size - 1 messages. Waits patiently for the root."""
        if self.rank != root:
            self.complete_patiently(self.post([], [(root, block)]))
            return block
        assert whole is not None
        bounds = starts(tuple(sizes))
        pending = self.post([(peer, whole[bounds[peer] : bounds[peer + 1]]) for peer in range(self.size) if peer != root], [])
        block[...] = whole[bounds[root] : bounds[root + 1]]
        self.complete(pending)
        return block

    @_or_lost
    def allgather(self, block: Array, sizes: Sequence[int]) -> Array:
        """Blocks of rows, ``sizes[i]`` from rank i, one after another on every rank. One Allgatherv.

        More bytes than an MPI call can count: size - 1 messages instead.
        """
        if self.size == 1:
            return np.ascontiguousarray(block)
        with self.preparing(_nbytes(block, sizes)):
            block = np.ascontiguousarray(block)
            whole = np.empty((sum(sizes), *block.shape[1:]), block.dtype)
        bounds = starts(tuple(sizes))
        if whole.nbytes <= _INT_MAX:
            unit = whole.nbytes // max(1, len(whole))
            self.traffic.note("allgather", block.nbytes)
            counts, displacements = [n * unit for n in sizes], [b * unit for b in bounds[:-1]]
            self.comm.Allgatherv([_raw(block), MPI.BYTE], [_raw(whole), counts, displacements, MPI.BYTE])
            return whole
        others = [peer for peer in range(self.size) if peer != self.rank]
        pending = self.post([(peer, block) for peer in others], [(peer, whole[bounds[peer] : bounds[peer + 1]]) for peer in others])
        whole[bounds[self.rank] : bounds[self.rank + 1]] = block
        self.complete(pending)
        return whole

    # -- reductions ----------------------------------------------------------------------------------------------------------------

    @_or_lost
    def fold(self, array: Array, op: Operation, present: Sequence[bool] | None = None, error: Exception | None = None) -> Array:
        """Combine the arrays of all ranks, of one shape and dtype, element by element: the same bits on every rank.

        ``op(a, b)`` makes a new array; it must be associative and commutative, up to rounding. Ranks that are not ``present`` have nothing
        to say (what they give is not looked at); one must be. A rank that failed to make its array gives its ``error``, and any such array:
        then all raise, as in `settle`. They do, too, if ``op`` fails on one.

        MPI's own Allreduce promises no equal bits, knows fewer types, and is slow for long arrays. Instead: for short ones an Allgather,
        combined in rank order; for long ones a pairwise reduce-scatter and an Allgatherv (Thakur, Rabenseifner, Gropp, "Optimization of
        collective communication operations in MPICH", IJHPCA 19(1), 2005, section 8); in between a binomial tree and a Bcast.
        """
        if self.size == 1:
            if error is not None:
                raise error
            return array
        array = np.asarray(array, order="C")
        if present is not None and all(present):
            present = None
        if array.nbytes * self.size <= _GATHERED_UP_TO:
            shown, failed = self._shown(array, error is not None)
            if failed:
                self.settle(error)
            parts = [shown[i] for i in range(self.size) if present is None or present[i]]
            return np.asarray(functools.reduce(op, parts), array.dtype)
        if array.nbytes < _SCATTERED_FROM or array.size < self.size:
            failure = Failure(error)
            result = self.bcast(self._fold_to_first(array, op, present, failure), 0)
            self.settle(failure.error)
            return result
        sizes = [array.size * (i + 1) // self.size - array.size * i // self.size for i in range(self.size)]
        return self.allgather(self.fold_scatter(array.reshape(-1), op, sizes, present, error), sizes).reshape(array.shape)

    def _shown(self, array: Array, failed: bool) -> tuple[Array, bool]:
        """The arrays of all ranks, and whether one of them failed to make its own. One Allgather: that is told by a byte behind each."""
        n = array.nbytes
        mine, all_ = np.empty(n + 1, np.uint8), np.empty((self.size, n + 1), np.uint8)
        mine[:n], mine[n] = _raw(array), failed
        self.traffic.note("allgather", mine.nbytes)
        self.comm.Allgather([mine, MPI.BYTE], [all_, MPI.BYTE])
        return np.ascontiguousarray(all_[:, :n]).reshape(-1).view(array.dtype).reshape(self.size, *array.shape), bool(all_[:, n].any())

    def _fold_to_first(self, array: Array, op: Operation, present: Sequence[bool] | None, failure: Failure) -> Array:
        """The combination at rank 0, by a binomial tree, and anything elsewhere. What goes wrong here is kept."""
        result, there = array, present is None or present[self.rank]
        with self.preparing(array.nbytes):
            come = np.empty_like(array)
        covered = [present is None or present[i] for i in range(self.size)]
        step = 1
        while step < self.size:
            if self.rank % (2 * step) == step:
                if there:
                    self.exchange([(self.rank - step, np.ascontiguousarray(result))], [])
                break
            other = self.rank + step
            if other < self.size and any(covered[other : min(other + step, self.size)]):
                self.exchange([], [(other, come)])
                with failure:
                    result = np.asarray(op(result, come), array.dtype) if there else come.copy()
                there = True
            step *= 2
        return result if self.rank == 0 else come

    def fold_scatter(
        self, array: Array, op: Operation, sizes: Sequence[int], present: Sequence[bool] | None = None, error: Exception | None = None
    ) -> Array:
        """As `fold`, but each rank gets its ``sizes[rank]`` rows of the result only, and ``op`` must not mind the order.

        size - 1 rounds of one message each way. Memory: three times these rows, and what ``op`` makes.
        """
        bounds, there = starts(tuple(sizes)), [True] * self.size if present is None else present
        mine = array[bounds[self.rank] : bounds[self.rank + 1]]
        with self.preparing(array.nbytes):
            result, come = np.array(mine, order="C"), np.empty(mine.shape, mine.dtype)
            out = None if array.flags.c_contiguous else np.empty((max(sizes), *array.shape[1:]), array.dtype)
        found, failure = there[self.rank], Failure(error)
        for distance in range(1, self.size):
            to, source = (self.rank + distance) % self.size, (self.rank - distance) % self.size
            part = array[bounds[to] : bounds[to + 1]]
            if out is not None:
                out[: len(part)] = part
                part = out[: len(part)]
            self.exchange([(to, part)] if there[self.rank] else [], [(source, come)] if there[source] else [])
            if there[source]:
                if not found:
                    result, come = come, result
                with failure:
                    result = op(result, come) if found else result
                found = True
        self.settle(failure.error)
        return np.asarray(result, array.dtype)

    def before(self, array: Array, op: Operation, present: Sequence[bool] | None = None) -> Array | None:
        """The arrays of all lower ranks combined, in rank order; None where there is none. One Allgather: size times the array."""
        if self.size == 1:
            return None
        array = np.ascontiguousarray(array)
        all_ = self.allgather(array[np.newaxis], [1] * self.size)
        parts = [all_[i] for i in range(self.rank) if present is None or present[i]]
        return functools.reduce(op, parts) if parts else None


_meshes: dict[tuple[int, ...], Mesh] = {}
_unknown: Iterator[int] = iter(range(-1, -(2**62), -1))


@functools.cache
def _keyval() -> int:
    """The attribute by which a communicator knows its mesh, and the mesh learns that it is freed."""
    return MPI.Comm.Create_keyval(delete_fn=lambda comm, _, mesh: mesh._forget(MPI._handleof(comm)))


def _members(comm: MPI.Intracomm) -> tuple[int, ...]:
    """Ranks in MPI_COMM_WORLD; where some are not in it, a tuple that no other communicator has."""
    everyone: MPI.Intracomm = here.everyone if here.everyone is not None else MPI.COMM_WORLD
    group, world = comm.Get_group(), everyone.Get_group()
    ranks = MPI.Group.Translate_ranks(group, list(range(comm.size)), world)
    group.Free()
    world.Free()
    return tuple(ranks) if MPI.UNDEFINED not in ranks else (next(_unknown),)


def current() -> Mesh:
    """The mesh that is meant when none is named: this engine's world, or the gang of the current task; else all ranks of the job."""
    return Mesh.of(here.communicator() if here.communicator is not None else MPI.COMM_WORLD)


def as_mesh(comm: Any) -> Mesh:
    """The mesh of a communicator, or the current one for None.

    Raises
    ------
    TypeError, ValueError
        it is no communicator of one group of ranks; this rank is not in it.
    """
    if comm is None or isinstance(comm, Mesh):
        return current() if comm is None else comm
    if not isinstance(comm, MPI.Intracomm):
        raise TypeError(f"comm is a communicator of mpi4py, of one group of ranks; not {comm!r}")
    if comm == MPI.COMM_NULL:
        raise ValueError("this rank is not in the communicator: let only those call this that are")
    mesh = Mesh.of(comm)
    if here.communicator is not None and comm != here.communicator():
        mesh._users.pop(MPI._handleof(comm), None)
        mesh._users[MPI._handleof(comm)] = mesh.comm
    return mesh


def counted(traffic: Traffic) -> Mapping[str, tuple[int, int]]:
    """(messages, bytes) by kind."""
    return {kind: (traffic.messages[kind], traffic.nbytes[kind]) for kind in traffic.messages}
