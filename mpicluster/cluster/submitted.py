"""A job of a batch system, in the place of an mpiexec that was started here."""

from __future__ import annotations

import time
from pathlib import Path

from mpicluster.batch.jobs import Record, Watch
from mpicluster.batch.system import PENDING, Status
from mpicluster.launch.process import Process

__all__ = ["Submitted"]

_POLL = 0.2


class Submitted:
    """What `Cluster` needs of what it starts; see `mpicluster.launch.process.Job`."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.watch = Watch(record)
        self.log = Path(record.log)

    def __repr__(self) -> str:
        return f"<job {self.record.job} ({self.record.system}): {self.status()}>"

    def status(self, *, fresh: bool = False) -> Status:
        """How it is, or was a short time ago."""
        return self.watch.status(fresh=fresh)

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.status().state == PENDING

    def is_running(self) -> bool:
        """Whether it runs, or will."""
        return not self.status().stands

    def wait(self, timeout: float) -> bool:
        """Wait until it is over; False when it is not after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self.is_running():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_POLL, left))
        return True

    def detach(self) -> None:
        """It outlives this process in any case."""

    def end(self, *, grace: float) -> list[Process]:
        """Cancel it, if it is not over. Its processes are its system's to end."""
        if not self.status(fresh=True).over:
            self.record.cancel()
            self.wait(grace)
        return []
