"""End a cluster, whatever state it is in, and remove what it would leave behind.

Asked first, then ended by pid: the hub may hang, mpiexec may be gone, rank 0 may be dead. A pid is used only
after it was seen to belong to this cluster.
"""

from __future__ import annotations

import contextlib
import socket
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mpicluster import config
from mpicluster.errors import ClusterError
from mpicluster.launch import process
from mpicluster.launch.process import Process
from mpicluster.wire.contact import Contact, is_alive, process_start, profile_dir, remove

__all__ = ["MARK", "Ending", "clean", "end", "members"]

#: in the environment of everything that `Cluster` starts; its value is the cluster's log folder
MARK = "MPICLUSTER_LOGS"

#: programs between a launcher and its ranks; at the head of their own process tree stands mpiexec
_LAUNCHERS = frozenset(
    {
        *("mpiexec", "mpirun", "mpiexec.hydra", "mpiexec.mpich", "mpirun.mpich", "hydra_pmi_proxy"),
        *("mpiexec.openmp", "mpirun.openmpi", "prterun", "prted", "orterun", "orted"),
    }
)
_POLL = 0.01


@dataclass
class Ending:
    """How it went."""

    contact: Contact
    #: the hub did as it was asked
    gracefully: bool = False
    #: processes that had to be ended by a signal
    ended: list[Process] = field(default_factory=list)
    #: processes that could not be ended
    left: list[Process] = field(default_factory=list)
    #: the hub is on another host, did not answer, and could not be reached otherwise
    unreachable: bool = False


def _here(contact: Contact) -> bool:
    return contact.host == socket.gethostname()


def members(contact: Contact) -> list[Process]:
    """The processes of a cluster on this host: its hub, its engines, their mpiexec, and what they started."""
    if not _here(contact):
        return []
    found = {p.pid: p for p in process.marked(MARK, contact.log_dir)} if contact.log_dir else {}
    hub = process.find(contact.hub_pid)
    if hub is not None and process_start(hub.pid) == contact.hub_started:
        tops = [hub]
        for parent in process.ancestors(hub.pid):
            if parent.name in _LAUNCHERS or _is_engine(parent):
                tops.append(parent)
            else:
                break
        found |= {p.pid: p for p in [*tops, *process.descendants(tops[-1].pid)]}
    return list(found.values())


def _is_engine(candidate: Process) -> bool:
    words = candidate.command()
    return "engine" in words and any("mpicluster" in w for w in words[: words.index("engine")])


def _socket_dir(contact: Contact) -> Path | None:
    """Folder of the hub's sockets, if it looks like one that a hub makes."""
    parts = urlsplit(contact.ipc)
    path = Path(parts.netloc + parts.path).parent
    return path if parts.scheme == "ipc" and path.name.startswith("mpicluster-") else None


def clean(contact: Contact) -> bool:
    """Remove the contact file and the sockets of a cluster whose hub is gone; whether there was anything to remove."""
    if is_alive(contact) is not False:
        return False
    found = (profile_dir(contact.profile) / f"{contact.cluster}.json").exists()
    remove(contact)
    folder = _socket_dir(contact)
    if folder is not None and folder.is_dir():
        found = True
        with contextlib.suppress(OSError):  # another user's, or something that is not ours lies in it
            for path in folder.iterdir():
                if stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()
            folder.rmdir()
    return found


def _ask(contact: Contact, timeout: float) -> bool:
    """Ask the hub to end the cluster; whether it could be asked."""
    from mpicluster.client.client import Client

    try:
        with contextlib.closing(Client(contact, timeout=timeout, wait=False)) as rc:
            rc.shutdown()
    except (ClusterError, TimeoutError, OSError):
        return False
    return True


def _is_over(contact: Contact) -> bool:
    if not _here(contact):
        return not (profile_dir(contact.profile) / f"{contact.cluster}.json").exists()
    return process_start(contact.hub_pid) != contact.hub_started


def end(contact: Contact, *, grace: float = config.STOP_GRACE, asked: bool = False) -> Ending:
    """End a cluster: ask its hub (unless that was done), wait, then end its processes on this host by pid.

    ``grace`` seconds are given to the hub to end everything, and two more to processes that got SIGTERM.
    """
    ending = Ending(contact)
    group = members(contact)
    heard = asked or (is_alive(contact) is not False and _ask(contact, timeout=min(grace, 3.0)))
    deadline = time.monotonic() + (grace if heard else 0.0)
    while time.monotonic() < deadline:
        if _is_over(contact) and not any(p.is_alive() for p in group):
            break
        time.sleep(_POLL)
    if contact.keeper is not None and is_alive(contact) is False:
        clean(contact)  # of a tunnel that was killed, it is all there is
        return ending
    if not _here(contact):
        ending.gracefully = heard and _is_over(contact)
        ending.unreachable = not ending.gracefully
        return ending
    remaining = {p.pid: p for p in [*group, *members(contact)] if p.is_alive()}
    ending.gracefully = heard and not remaining
    ending.left = process.end(remaining.values(), grace=min(grace, 2.0))
    ending.ended = [p for p in remaining.values() if p not in ending.left]
    clean(contact)
    return ending
