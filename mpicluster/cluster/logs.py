"""Where a cluster's logs are, and how many are kept. Files only."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mpicluster.launch.process import tail
from mpicluster.wire.contact import contacts, is_alive, profile_dir

__all__ = ["KEEP", "end_reason", "folders", "log_dir", "prune"]

#: folders of ended clusters that are kept per profile
KEEP = 10


def log_dir(profile: str, cluster: str, *, create: bool = False) -> Path:
    """Folder of the logs of one cluster: ``hub.log``, ``mpiexec.log`` and what else its processes write."""
    path = profile_dir(profile, create=create) / "logs" / cluster
    if create:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def folders(profile: str) -> list[Path]:
    """The log folders of a profile, newest first."""
    base = profile_dir(profile) / "logs"
    found = []
    for path in base.glob("*"):
        try:
            found.append((path.stat().st_mtime, path))
        except OSError:
            continue
    return [path for _, path in sorted(found, reverse=True) if path.is_dir()]


def prune(profile: str, keep: int = KEEP) -> None:
    """Remove the logs of all but the newest clusters; those of clusters that may run stay."""
    in_use = {c.cluster for c in contacts(profile) if is_alive(c) is not False}
    for path in folders(profile)[keep:]:
        if path.name not in in_use:
            shutil.rmtree(path, ignore_errors=True)


def end_reason(folder: str | Path) -> str:
    """Why the cluster ended, as its hub wrote it down; empty when it did not."""
    for line in reversed(tail(Path(folder) / "hub.log", 50)):
        if found := re.search(r"\bended: (.+)", line):
            return found[1].strip()
    return ""
