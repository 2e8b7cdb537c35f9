"""The processes of one contender: found by a mark in their environment or by descent, and ended by pid.

A mark, for a daemon leaves the process tree, and a launcher's children may leave the process group.
"""

from __future__ import annotations

import os
import time

import psutil

__all__ = ["MARK", "cpu_seconds", "end", "family"]

#: the environment variable that every process of a contender inherits
MARK = "MPICLUSTER_BENCHMARK"


def family(mark: str, root: int | None = None) -> list[psutil.Process]:
    """All live processes with this mark, and all that descend from `root`; never the caller itself."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # ended while we looked, or somebody else's
    if root is not None:
        try:
            found |= {process.pid: process for process in psutil.Process(root).children(recursive=True)}
        except psutil.NoSuchProcess:
            pass  # then the mark is all there is
    found.pop(os.getpid(), None)
    return list(found.values())


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """User and system time that these processes have used so far.

    Raises
    ------
    psutil.NoSuchProcess
        one of them has ended.
    """
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def end(mark: str, root: int | None = None, *, grace: float) -> list[str]:
    """End what is left of a contender after `grace` seconds to go by itself, and return the names of what had to be ended."""
    deadline = time.monotonic() + grace
    left = family(mark, root)
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = family(mark, root)
    names = []
    for process in left:
        try:
            names.append(process.name())
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=5)
    for process in family(mark, root):  # looked up again: a dying launcher may have started another
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return names
