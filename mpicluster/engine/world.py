"""The MPI world of this process: its epochs, its communicators, and how it heals. The only owner of communicators.

Epoch 0 is what the launcher started. When a rank dies and the MPI can go on (ULFM), the survivors revoke what they
have, shrink to a new epoch and go on with one rank fewer. Engine ids are the ranks of epoch 0 and never change.

Healing is done by the control thread, so it never waits for user code; a main thread that is blocked in MPI gets an
exception when its communicator is revoked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import mpi4py

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
mpi4py.rc.fast_reduce = False  # else reductions of objects run on a duplicate that nobody can revoke, made holding the GIL
from mpi4py import MPI  # noqa: E402 - after the settings above

__all__ = ["MPI", "World", "WorldBroken"]

#: Attempts at a healthy world before it is given up: each failure meanwhile costs one.
_HEAL_ATTEMPTS = 10


class WorldBroken(RuntimeError):
    """A rank of this epoch died, or the epoch is over."""


class World:
    """Communicators of the current epoch.

    ``comm``
        the user's: data of the engine itself never travels on it;
    ``wire``
        the engine's own;
    ``members``
        engine ids by rank.

    The lock guards the switch from one epoch to the next.
    """

    def __init__(self) -> None:
        """Start MPI. Collective over all ranks."""
        if not MPI.Is_initialized():
            MPI.Init_thread(MPI.THREAD_MULTIPLE)
        self.multithreaded = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._lock = threading.Lock()
        self.epoch = 0
        self.broken = threading.Event()
        self.members: list[int] = list(range(MPI.COMM_WORLD.size))
        self.id: int = MPI.COMM_WORLD.rank
        self.wire: MPI.Intracomm = MPI.COMM_WORLD.Dup()
        self.comm: MPI.Intracomm = self.wire.Dup()
        _warm(self.comm)
        #: communicators of some engines: those kept, and the one that is in use and will be freed
        self._groups: dict[tuple[int, ...], MPI.Intracomm] = {}
        self._passing: MPI.Intracomm | None = None

    @property
    def rank(self) -> int:
        """This engine's rank in the current epoch."""
        return self.members.index(self.id)

    @property
    def size(self) -> int:
        """Number of ranks in the current epoch."""
        return len(self.members)

    @staticmethod
    def library() -> str:
        """Name and version of the MPI."""
        text = MPI.Get_library_version().strip("\0 \n")
        first = text.splitlines()[0]
        if first.startswith("Open MPI"):
            return first.split(",")[0].replace(" v", " ")
        if first.startswith("MPICH"):
            return " ".join(first.replace("Version:", " ").split()[:2])
        return first[:60]

    @staticmethod
    def survives() -> bool:
        """Whether a dead rank leaves the others alive: Open MPI started with ``--with-ft ulfm``."""
        return os.environ.get("OMPI_MCA_mpi_ft_enable", "").lower() in ("1", "true", "yes") and hasattr(MPI.Intracomm, "Shrink")  # noqa: SIM112 - its name

    def local_ranks(self) -> MPI.Comm:
        """A communicator of the ranks on this host, to be freed by the caller. Collective."""
        return self.wire.Split_type(MPI.COMM_TYPE_SHARED)

    def progress(self) -> None:
        """Let MPI go on with what this rank has begun and others wait for: it does so only within its calls."""
        try:
            self.wire.Iprobe()  # of a communicator with others in it: MPICH looks at nothing else for COMM_SELF
        except MPI.Exception:
            pass  # a rank died: the world is about to be mended

    def group(self, engines: Sequence[int], epoch: int, *, keep: bool) -> MPI.Intracomm:
        """The communicator of exactly these engines, in this order. Collective over them.

        ``keep`` it for the next time, or have it freed by `release`: all of them must say the same.

        Raises
        ------
        WorldBroken
            ``epoch`` is over, or one of its ranks died.
        """
        with self._lock:
            if self.epoch != epoch or self.broken.is_set():
                raise WorldBroken("an engine died")
            if list(engines) == self.members:
                return self.wire
            key = tuple(engines)
            if key in self._groups:
                return self._groups[key]
            wire, members = self.wire, self.members
        whole = wire.Get_group()
        part = whole.Incl([members.index(e) for e in engines])
        comm = wire.Create_group(part, tag=engines[0])
        part.Free()
        whole.Free()
        with self._lock:
            sound = self.epoch == epoch and not self.broken.is_set()
            if sound and keep:
                self._groups[key] = comm
            elif sound:
                self._passing = comm
        if not sound:  # another member may have got it, and wait in it for this one
            self._revoke(comm)
            raise WorldBroken("an engine died")
        return comm

    def release(self) -> None:
        """After a collective: free what `group` gave, unless it is kept. Collective over its members."""
        with self._lock:
            comm, self._passing = self._passing, None
            sound = not self.broken.is_set()
        if comm is not None and sound:
            try:
                comm.Free()
            except MPI.Exception:
                pass  # a rank died meanwhile

    def revoke(self) -> None:
        """Free every rank that waits in a communicator of this epoch. Local, and felt everywhere."""
        self.broken.set()
        with self._lock:
            comms = [self.comm, self.wire, *self._groups.values()]
            if self._passing is not None:
                comms.append(self._passing)
        for comm in comms:
            self._revoke(comm)

    @staticmethod
    def _revoke(comm: MPI.Intracomm) -> None:
        try:
            comm.Revoke()
        except MPI.Exception:
            pass  # revoked by another, or of an MPI that has no such thing

    def heal(self, epoch: int) -> list[int]:
        """Go on to a new epoch with the survivors; returns their engine ids by new rank. Collective over them.

        Algorithm: revoke; shrink; try the result (a collective and an agreement); again while a rank fails meanwhile
        (Bland et al., "Post-failure recovery of MPI communication capability", IJHPCA 27(3), 2013).

        Raises
        ------
        WorldBroken
            no sound world could be made.
        """
        self.revoke()
        comm: Any = self.wire
        for _ in range(_HEAL_ATTEMPTS):
            shrunk = comm.Shrink()
            new, members, sound = self._settle(shrunk)
            if sound:
                with self._lock:
                    self.wire, self.comm, self.members, self.epoch = shrunk, new, members, epoch
                    self._groups, self._passing = {}, None
                    self.broken.clear()
                return members
            comm = shrunk
        raise WorldBroken(f"no sound world after {_HEAL_ATTEMPTS} attempts")

    def _settle(self, shrunk: Any) -> tuple[Any, list[int], bool]:
        """The user's communicator of a new world and who is in it; all survivors agree whether it is sound."""
        new: Any = None
        members: list[int] = []
        sound = True
        try:
            members = shrunk.allgather(self.id)
            new = shrunk.Dup()
            _warm(new)
        except MPI.Exception:
            sound = False
            for comm in (shrunk, new):  # others may wait in either
                if comm is not None:
                    self._revoke(comm)
        try:
            sound = bool(shrunk.Agree(int(sound)))
        except MPI.Exception:
            sound = False
        return new, members, sound

    def finalize(self) -> None:
        """End MPI. Collective; may never return after failures, so the caller keeps a watchdog."""
        if not MPI.Is_finalized():
            MPI.Finalize()


def _warm(comm: MPI.Intracomm) -> None:
    """Use a communicator once, so that its connections are there and its first user finds it sound. Collective."""
    comm.barrier()
