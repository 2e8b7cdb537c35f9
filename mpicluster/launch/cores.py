"""How many cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cores", "quota"]


def quota(cgroup: str, root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that control groups leave to a process, from the text of its ``/proc/self/cgroup``; None without a limit."""
    limits = []
    for line in cgroup.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            files = [(root, "cpu.max")]
        elif "cpu" in controllers.split(","):
            files = [(root / "cpu", "cpu.cfs_quota_us"), (root / controllers, "cpu.cfs_quota_us")]
        else:
            continue
        for base, name in files:
            folder = base / path.strip().lstrip("/")
            for where in [folder, *folder.parents]:
                if not where.is_relative_to(base):
                    break
                try:
                    words = (where / name).read_text().split()
                    period = words[1] if name == "cpu.max" else (where / "cpu.cfs_period_us").read_text()
                    allowed = float("inf") if words[0] in ("max", "-1") else float(words[0]) / float(period)
                except (OSError, ValueError, IndexError, ZeroDivisionError):
                    continue
                limits.append(allowed)
    least = min(limits, default=float("inf"))
    return None if least == float("inf") else least


def cores() -> int:
    """Cores that this process may use: its affinity, less what its control groups take away; at least one."""
    try:
        mine = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        mine = os.cpu_count() or 1
    try:
        limit = quota(Path("/proc/self/cgroup").read_text())
    except OSError:
        limit = None
    return max(1, mine if limit is None else min(mine, int(limit)))
