"""Ends what runs: interrupts, time limits, and waits in MPI for an engine that has failed.

The main thread says what it runs; the control thread decides, and interrupts it by SIGINT, whose handler raises only while code of
the user's runs, and only in the assignment that was meant. A main thread that waits in MPI runs no handlers: the communicator it
waits in is revoked first. What cannot be ended is reported as `Stuck`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mpicluster.engine.comm import waits
from mpicluster.engine.world import World
from mpicluster.wire import messages as m

__all__ = ["Warden"]

#: How often what is to end is looked at.
_EVERY = 0.05
#: How long a call of MPI may take, after another engine of the same task has failed, before it counts as a wait for that one.
_PATIENCE = 0.1
#: When a task is reported as stuck: if it waits in MPI that cannot be freed; if it is beyond its time limit; if it was interrupted.
_HOPELESS, _OVERDUE, _DEAF = 0.5, 2.0, 10.0
#: How often a task that is beyond its time limit is interrupted again.
_AGAIN = 0.5


class Warden:
    """What is to end. ``on_change`` is called by the main thread when the control thread is to look at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._main = threading.main_thread().ident
        self.on_change: Callable[[], None] = lambda: None
        # -- the main thread's
        #: the assignment that runs, and whether code of the user's does, so that it may be interrupted
        self._running = 0
        self._open = False
        #: the newest one that is over
        self._ended = 0
        #: an interrupt that came before
        self._due = False
        #: of the running assignment: when it must end, why it was interrupted, and whether a wait of it was ended
        self._limit = 0.0
        self._deadline = 0.0
        self.reason, self.overdue = "", False
        self.freed = False
        # -- the control thread's
        #: assignments to interrupt, and those whose waits are to end, with the reason
        self._halted: dict[int, float] = {}
        self._doomed: dict[int, str] = {}
        #: since when the main thread waits in the same call, as far as was seen
        self._waiting: tuple[object, float] | None = None
        #: the assignment that was reported as stuck
        self._stuck = 0
        #: since when the running one is being ended, and when it was interrupted last
        self._since = self._signalled_at = 0.0
        #: whether an interrupt was sent that the handler has not seen yet, and the assignment that it is meant for
        self._sent = False
        self._meant = 0

    # -- main thread -------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Take SIGINT over."""
        signal.signal(signal.SIGINT, self._interrupted)

    def begin(self, seq: int, time_limit: float) -> None:
        """An assignment begins."""
        self._due, self.reason, self.overdue, self.freed = False, "", False, False
        self._limit = time_limit
        self._deadline = time.monotonic() + time_limit if time_limit > 0 else 0.0
        self._running = seq
        if time_limit > 0:
            self.on_change()

    def end(self) -> None:
        """It ends: nothing may be raised any more."""
        self._open = False
        self._ended, self._running = self._running, 0

    def passed(self, seq: int) -> None:
        """An assignment that was given back is passed over."""
        self._ended = seq

    def open(self) -> None:
        """Code of the user's runs from now on, and may be interrupted."""
        self._open = True
        if self._due:
            self._raise()

    def close(self) -> None:
        """It does not any more."""
        self._open = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Code of the engine's runs, in that of the user's, which would be broken if it ended half-way: interrupts come after it."""
        if not self._open or threading.get_ident() != self._main:
            yield
            return
        self.close()
        try:
            yield
        finally:
            self.open()

    def doomed(self, seq: int) -> bool:
        """Whether another engine of this assignment has failed, or cannot end it."""
        return seq in self._doomed

    def _raise(self) -> None:
        self._due = False
        raise KeyboardInterrupt(self.reason)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        if not self._sent:  # it comes from the launcher, when that is interrupted: end
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._sent = False
        if not self._running or self._running != self._meant:
            return  # it has ended meanwhile
        self._due = True
        if self._open:
            self._raise()

    # -- control thread ----------------------------------------------------------------------------------------------

    def halt(self, seq: int) -> None:
        """Interrupt an assignment that has begun (0: whatever runs)."""
        seq = seq or self._running
        if seq:
            self._halted.setdefault(seq, time.monotonic())

    def free(self, seq: int, why: str) -> None:
        """Another engine of this assignment has failed: it must not wait for that one."""
        self._doomed[seq] = why

    def due(self, now: float) -> float | None:
        """Seconds until `look` has something to do; None if nothing is to end."""
        if self._doomed or self._halted:
            return _EVERY
        deadline = self._deadline
        return None if not deadline or not self._running else max(0.0, min(_EVERY, deadline - now) if now < deadline else _EVERY)

    def look(self, now: float) -> list[m.Message]:
        """End what is to end; messages to the hub about what cannot be."""
        running = self._running  # read first: what is over then, and not this one, is over for good
        for table in (self._halted, self._doomed):
            for seq in [s for s in table if s < running or s <= self._ended]:
                del table[seq]
        if not running:
            self._waiting = None
            return []
        overdue = bool(self._deadline) and now >= self._deadline
        waited = self._waits(now)
        if overdue or running in self._halted:
            return self._end(running, now, overdue=overdue, waited=waited)
        if running in self._doomed and waited > _PATIENCE:
            return self._release(running, self._doomed[running])
        return []

    def _waits(self, now: float) -> float:
        """How long the main thread has been waiting in MPI, as far as was seen; negative if it does not."""
        where = waits(self._main)
        if where is None:
            self._waiting = None
            return -1.0
        call = tuple(map(id, where))
        if self._waiting is None or self._waiting[0] != call:
            self._waiting = call, now
        return now - self._waiting[1]

    def _release(self, seq: int, why: str) -> list[m.Message]:
        self.freed = True
        if self._world.free(waits(self._main) or []):
            return []
        if self._stuck == seq:
            return []
        self._stuck = seq
        return [m.Stuck(seq, m.ABANDONED, f"engine {self._world.id} still waits in MPI, and {why}. {self._cannot}")]

    @property
    def _cannot(self) -> str:
        return (
            f"{self._world.library()}, as it was started, cannot free it (Open MPI with --with-ft ulfm can): "
            "it takes no other work until the cluster is started again"
        )

    def _end(self, seq: int, now: float, *, overdue: bool, waited: float) -> list[m.Message]:
        if not self.reason:
            self.overdue = overdue
            self.reason = f"it ran longer than its time limit of {self._limit:g} s" if overdue else "it was interrupted"
            self._since = now
            self._signal(seq, now)
        elif overdue and now > self._signalled_at + _AGAIN:
            self._signal(seq, now)
        lasted = now - self._since
        hopeless = False
        if waited >= 0:
            self.freed = True
            hopeless = not self._world.free(waits(self._main) or [])
        if self._stuck != seq and lasted > (_HOPELESS if hopeless else _OVERDUE if overdue else _DEAF):
            self._stuck = seq
            why = f"and waits in MPI. {self._cannot}" if hopeless else "and does not end: it is in a call that cannot be interrupted"
            return [m.Stuck(seq, m.LATE if overdue else m.LOST, f"{self.reason} on engine {self._world.id}, {why}")]
        return []

    def _signal(self, seq: int, now: float) -> None:
        self._meant, self._signalled_at = seq, now
        self._sent = True
        if self._main is not None:
            signal.pthread_kill(self._main, signal.SIGINT)
