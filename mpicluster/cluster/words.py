"""How facts are written for a person. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpicluster.config import HistoryLimits

__all__ = ["duration", "history_options", "nbytes", "status", "table"]


def duration(seconds: float) -> str:
    """``12 s``, ``3 min 20 s``, ``5 h 12 min``, ``3 d 4 h``."""
    s = max(0, int(seconds))
    for unit, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if s >= size:
            rest = s % size // part
            return f"{s // size} {unit} {rest} {small}" if rest else f"{s // size} {unit}"
    return f"{s} s"


def nbytes(n: float) -> str:
    """``512 B``, ``45 MB``, ``1.2 GB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            value = n / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{n:.0f} B"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Columns, left-aligned, as wide as they need to be."""
    cells = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def history_options(limits: HistoryLimits | None) -> list[str]:
    """The options of `mpicluster engine` for a history of these limits, or for none."""
    if limits is None:
        return ["--no-history"]
    if limits == HistoryLimits():
        return []
    return ["--history-tasks", str(limits.tasks), "--history-nbytes", str(limits.nbytes), "--history-age", repr(limits.age)]


def _history(facts: Mapping[str, Any]) -> str:
    if facts["stopped"]:
        return f"STOPPED: {facts['stopped']}"
    if not facts["on"]:
        return "off"
    without = f"; {facts['without_values']} without their values, since the disk is too slow" if facts["without_values"] else ""
    return f"{facts['tasks']} tasks in {nbytes(facts['nbytes'])}{without}"


def status(facts: Mapping[str, Any]) -> str:
    """What ``Client.status()`` gives, for a person."""
    hub, tasks, dropped = facts["hub"], facts["tasks"], facts["dropped"]
    engines = facts["engines"]
    alive = [e for e in engines if e["state"] != "lost"]
    lost = len(engines) - len(alive)
    survives = "survives the loss of an engine" if facts["survives"] else "ends with the first engine that is lost"
    lines = [
        f"Cluster {facts['cluster']} (profile {facts['profile']}): {len(alive)} engine{'s' if len(alive) != 1 else ''}"
        + (f" and {lost} lost" if lost else "")
        + f", up for {duration(facts['uptime'])}",
        f"  hub      pid {hub['pid']} on {hub['host']}, {nbytes(hub['rss'])} of memory",
        f"  MPI      {facts['mpi']}, {survives}" + (f"; epoch {facts['epoch']}" if facts["epoch"] else ""),
        f"  tasks    {tasks['waiting']} waiting, {tasks['assigned']} with engines, {tasks['done']} done",
        f"  clients  {facts['clients']} (this one included)",
    ]
    if "history" in facts:
        lines.append(f"  history  {_history(facts['history'])}")
    told = {why: n for why, n in dropped.items() if n and why != "unfinished"}  # which is no fault of anybody's
    if told:
        lines.append(f"  dropped  {sum(told.values())} messages: " + ", ".join(f"{n} {why}" for why, n in told.items()))
    rows = [[e["id"], e["rank"], e["host"], e["pid"], e["state"], e["queued"], e["tasks_done"], e["threads"]] for e in engines]
    if rows:
        lines += ["", table(["ENGINE", "RANK", "HOST", "PID", "STATE", "QUEUED", "DONE", "THREADS"], rows)]
    return "\n".join(lines)
