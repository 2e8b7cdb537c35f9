"""The user's communicator: one object for the engine's whole life, which stands for another handle after each mending.

So whatever the user's code has kept a reference to is sound again in the next task. Its blocking calls, and those of what it was
divided into, note that they wait, so that the control thread can free who waits for a rank that will not come.
"""

from __future__ import annotations

import ctypes
import dis
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import mpi4py

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
mpi4py.rc.fast_reduce = False  # else reductions of objects run on a duplicate that nobody can revoke, made holding the GIL
from mpi4py import MPI  # noqa: E402 - after the settings above

__all__ = ["MPI", "Comm", "waits"]

#: Calls that may wait for another rank, and those of them that give a communicator.
_BLOCKING = """
    Barrier Bcast Gather Gatherv Scatter Scatterv Allgather Allgatherv Alltoall Alltoallv Alltoallw
    Reduce Allreduce Reduce_scatter Reduce_scatter_block Scan Exscan
    Send Recv Ssend Rsend Bsend Sendrecv Sendrecv_replace Probe Mprobe
    barrier bcast gather scatter allgather alltoall reduce allreduce scan exscan send recv ssend bsend sendrecv probe mprobe
    Create_cart Create_graph Create_dist_graph Create_dist_graph_adjacent Create_intercomm Disconnect
""".split()
_GIVING = "Dup Dup_with_info Clone Split Split_type Create Create_group".split()
#: Methods of requests and messages that wait.
_COMPLETING = frozenset(
    "Wait wait Waitall waitall Waitany waitany Waitsome waitsome Recv recv Fence Flush Lock Unlock Read_all Write_all".split()
)

#: Communicators in which this process waits now.
_waited: list[MPI.Intracomm] = []


def _noting(name: str, *, gives: bool) -> Callable[..., Any]:
    original = getattr(MPI.Intracomm, name)

    @functools.wraps(original)
    def method(self: Comm, /, *args: Any, **kwargs: Any) -> Any:
        _waited.append(self)
        try:
            result = original(self, *args, **kwargs)
        finally:
            _waited.remove(self)
        return Comm(result) if gives and isinstance(result, MPI.Intracomm) and result != MPI.COMM_NULL else result

    return method


class Comm(MPI.Intracomm):
    """An intracommunicator like any other of mpi4py, which knows who waits in it."""

    def become(self, other: MPI.Intracomm) -> None:
        """Stand for another communicator from now on. Called between tasks."""
        ctypes.memmove(MPI._addressof(self), MPI._addressof(other), MPI._sizeof(MPI.Intracomm))


for _name in _BLOCKING:
    setattr(Comm, _name, _noting(_name, gives=False))
for _name in _GIVING:
    setattr(Comm, _name, _noting(_name, gives=True))


def waits(thread: int | None) -> list[MPI.Intracomm] | None:
    """Communicators in which this process waits: none when ``thread`` waits for requests, of whatever communicator; None if it does not."""
    waited = list(_waited)
    if waited:
        return waited
    frame = sys._current_frames().get(thread or 0)
    return [] if frame is not None and _completes(frame.f_code, frame.f_lasti) else None


def _completes(code: types.CodeType, position: int) -> bool:
    """Whether the call that this code is at is that of a method that completes requests."""
    name = None
    for instruction in dis.get_instructions(code):
        if instruction.offset > position:
            return False
        if instruction.opname in ("LOAD_METHOD", "LOAD_ATTR"):
            name = instruction.argval
        if instruction.offset == position:
            return instruction.opname.startswith(("CALL", "PRECALL")) and name in _COMPLETING
    return False
