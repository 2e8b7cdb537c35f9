"""The MPI world of this process: its epochs, its communicators, and how it heals. The only owner of communicators.

Epoch 0 is what the launcher started. When a rank dies and the MPI can go on (ULFM), the survivors revoke what they
have, shrink to a new epoch and go on with one rank fewer. Engine ids are the ranks of epoch 0 (for a world that came later: beyond those
that were there) and never change.

Healing is done by the control thread, so it never waits for user code; a main thread that is blocked in MPI gets an
exception when its communicator is revoked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any

from mpicluster.engine.comm import MPI, Comm

__all__ = ["MPI", "World", "WorldBroken"]

#: Attempts at a healthy world before it is given up: each failure meanwhile costs one.
_HEAL_ATTEMPTS = 10
#: The class of error of a call on a communicator that was revoked, most often.
_REVOKED: int = getattr(MPI, "ERR_REVOKED", -1)
#: How many causes of causes of an exception are looked at.
_LONGEST_CHAIN = 16


class WorldBroken(RuntimeError):
    """A rank of this epoch died, or the epoch is over."""


class World:
    """Communicators of the current epoch.

    ``comm``
        the user's: data of the engine itself never travels on it. One object for the engine's whole life; main thread only;
    ``wire``
        the engine's own;
    ``members``
        engine ids by rank;
    ``turn``
        how often the user's communicator was made anew, as the hub counts.

    The lock guards the switch from one epoch, or turn, to the next.
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
        #: which of the cluster's worlds it is
        self.number = 0
        self.wire: MPI.Intracomm = MPI.COMM_WORLD.Dup()
        #: for control threads only, to make others from, whatever the main threads do
        self._reserve: MPI.Intracomm = self.wire.Dup()
        #: what ``comm`` is to stand for, and stands for
        self._users: MPI.Intracomm = self.wire.Dup()
        _warm(self._users)
        self._adopted = self._users
        self.comm = Comm(self._users)
        self.turn = 0
        #: turns that are to be made, and the one that is being made: its communicator, and what is waited for
        self._turns: list[int] = []
        self._turning: tuple[MPI.Intracomm, MPI.Request, bool] | None = None
        self._turned = threading.Condition(self._lock)
        #: communicators of some engines: those kept, and the one that is in use and will be freed
        self._groups: dict[tuple[int, ...], MPI.Intracomm] = {}
        self._passing: MPI.Intracomm | None = None
        #: the user's communicators of gangs, and the one in use
        self._gangs: dict[tuple[int, ...], MPI.Intracomm] = {}
        self._gang: MPI.Intracomm | None = None
        #: whether another had revoked the communicator of the gang that this engine was part of last
        self.was_freed = False

    def attach(self, number: int, first: int) -> None:
        """Be a later world of a cluster, in which the engine of rank 0 has this id. Before anything else."""
        self.number = number
        self.members = [first + i for i in self.members]
        self.id += first

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
        """Whether a dead rank leaves the others alive, and communicators can be revoked: Open MPI started with ``--with-ft ulfm``."""
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
        comm = self._create(engines)
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

    def _create(self, engines: Sequence[int]) -> MPI.Intracomm:
        """A new communicator of exactly these engines. Collective over them."""
        wire, members = self.wire, self.members
        whole = wire.Get_group()
        part = whole.Incl([members.index(e) for e in engines])
        comm = wire.Create_group(part, tag=engines[0])
        part.Free()
        whole.Free()
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

    # -- the user's communicator --------------------------------------------------------------------------------------

    def adopt(self, turn: int, timeout: float) -> None:
        """Let ``comm`` stand for the newest communicator; wait for one that is being made. Main thread, between tasks."""
        self.was_freed = False
        if self.turn < turn:
            with self._turned:
                self._turned.wait_for(lambda: self.turn >= turn, timeout)
        self._stand_for_all()

    def _stand_for_all(self) -> None:
        users = self._users
        if users is not self._adopted:
            self._adopted = users
            self.comm.become(users)

    @property
    def revoked(self) -> int:
        """The turn of the user's communicator, if it is revoked and no other is there; else -1."""
        with self._lock:
            turn, users = self.turn, self._users
        if self._turns or self._turning is not None or self.broken.is_set() or not self.survives():
            return -1  # it is being mended already, or cannot be
        return turn if users.Is_revoked() else -1

    def explains(self, error: BaseException | None) -> bool:
        """Whether an exception comes of a communicator that was revoked, since another engine had failed."""
        for _ in range(_LONGEST_CHAIN):
            if error is None:
                return False
            if isinstance(error, MPI.Exception) and error.Get_error_class() == _REVOKED:
                return True
            # the class of the error varies; and a collective that was under way may end without one, but with anything in its message
            if isinstance(error, MPI.Exception | UnpicklingError) and (self.was_freed or (self.survives() and self._users.Is_revoked())):
                return True
            error = error.__cause__ or error.__context__
        return False

    def free(self, waited: Sequence[MPI.Intracomm]) -> bool:
        """Revoke the communicators in which the main thread waits (none: whichever it may be); False if this MPI cannot."""
        if not self.survives():
            return False
        for comm in waited or [self._gang if self._gang is not None else self._users]:
            self._revoke(comm)
        return True

    def refresh(self, turn: int) -> None:
        """Make a new communicator for the user, from now on, by `go_on`. Collective over the control threads of all engines."""
        if turn > self.turn:
            self._turns.append(turn)

    def go_on(self) -> bool:
        """Go on with `refresh`; whether there is more to do. One Idup and one Ibarrier; never waits."""
        if not self._turns:
            return False
        try:
            if self._turning is None:
                comm, request = self._reserve.Idup()
                self._turning = comm, request, False
            comm, request, warm = self._turning
            if not request.Test():
                return True
            if not warm:
                self._turning = comm, comm.Ibarrier(), True
                return True
        except MPI.Exception:  # a rank died: the world is about to be mended, which gives a new one
            self._revoke(self._reserve)
            self._turns, self._turning = [], None
            return False
        with self._turned:
            self._users, self.turn, self._turning = comm, self._turns.pop(0), None
            self._turned.notify_all()
        return bool(self._turns)

    def enter_gang(self, engines: Sequence[int], *, fresh: bool, keep: bool) -> None:
        """Let ``comm`` stand for a communicator of exactly these engines. Collective over them, who have met.

        Raises
        ------
        MPI.Exception
            one of them died.
        """
        key = tuple(engines)
        gang = None if fresh else self._gangs.get(key)
        if gang is None:
            gang = self._create(engines)
            _warm(gang)
            if keep:
                self._gangs[key] = gang
        self._gang = gang
        self._adopted = gang
        self.comm.become(gang)

    def leave_gang(self, *, well: bool, keep: bool) -> None:
        """After `enter_gang`: ``comm`` is again that of all; if this engine failed, the others are freed that wait for it."""
        gang, self._gang = self._gang, None
        if gang is not None and not well:
            self.was_freed = self.survives() and gang.Is_revoked()
            self._revoke(gang)
        elif gang is not None and not keep:
            gang.Free()
        self._stand_for_all()

    # -- faults ------------------------------------------------------------------------------------------------------

    def revoke(self) -> None:
        """Free every rank that waits in a communicator of this epoch. Local, and felt everywhere."""
        self.broken.set()
        with self._lock:
            comms = [self._users, self.wire, self._reserve, *self._groups.values(), *self._gangs.values()]
            comms += [c for c in (self._passing, self._gang) if c is not None]
        for comm in comms:
            self._revoke(comm)

    @staticmethod
    def _revoke(comm: MPI.Intracomm) -> None:
        try:
            comm.Revoke()
        except (MPI.Exception, NotImplementedError):
            pass  # revoked by another, or of an MPI that has no such thing

    def heal(self, epoch: int, turn: int) -> list[int]:
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
            users, reserve, members, sound = self._settle(shrunk)
            if sound:
                with self._turned:
                    self.wire, self._users, self._reserve, self.members, self.epoch = shrunk, users, reserve, members, epoch
                    self._groups, self._gangs, self._passing = {}, {}, None
                    self.turn, self._turns, self._turning = turn, [], None
                    self.broken.clear()
                    self._turned.notify_all()
                return members
            comm = shrunk
        raise WorldBroken(f"no sound world after {_HEAL_ATTEMPTS} attempts")

    def _settle(self, shrunk: Any) -> tuple[Any, Any, list[int], bool]:
        """Two communicators of a new world, and who is in it; all survivors agree whether it is sound."""
        users: Any = None
        reserve: Any = None
        members: list[int] = []
        sound = True
        try:
            members = shrunk.allgather(self.id)
            reserve = shrunk.Dup()
            users = shrunk.Dup()
            _warm(users)
        except MPI.Exception:
            sound = False
            for comm in (shrunk, reserve, users):  # others may wait in any
                if comm is not None:
                    self._revoke(comm)
        try:
            sound = bool(shrunk.Agree(int(sound)))
        except MPI.Exception:
            sound = False
        return users, reserve, members, sound

    def finalize(self) -> None:
        """End MPI. Collective; may never return after failures, so the caller keeps a watchdog."""
        if not MPI.Is_finalized():
            MPI.Finalize()


def _warm(comm: MPI.Intracomm) -> None:
    """Use a communicator once, so that its connections are there and its first user finds it sound. Collective."""
    comm.barrier()
