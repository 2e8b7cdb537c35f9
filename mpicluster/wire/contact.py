"""The contact file: where a running cluster is and the keys to it. Files only: no sockets, no processes started."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import msgspec
import platformdirs

from mpicluster.errors import NoCluster

__all__ = [
    "CONTACT",
    "RUN",
    "Contact",
    "Keeper",
    "contacts",
    "find",
    "is_alive",
    "load",
    "process_start",
    "profile_dir",
    "read",
    "remove",
    "state_dir",
    "write",
]


#: Names the contact file of the cluster that is meant where none is: `mpicluster run` sets it.
CONTACT = "MPICLUSTER_CONTACT"
#: ... and the process that has started it
RUN = "MPICLUSTER_RUN"


class Keeper(msgspec.Struct, frozen=True):
    """A process that keeps a tunnel open."""

    host: str
    pid: int
    #: its `process_start`
    started: str


class Contact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """How to reach one cluster. Holds the client's secret key: the file is readable by its owner alone."""

    version: int = 1
    #: unique id of the cluster
    cluster: str
    profile: str
    #: host of the hub (and of rank 0), and the hub's process there
    host: str
    hub_pid: int
    #: `process_start` of the hub: a pid that was reused is not this hub
    hub_started: str
    #: pid of the mpiexec that `mpicluster start` ran, if it did
    launcher_pid: int | None = None
    #: address for clients on the same host, and the addresses for others
    ipc: str
    tcp: list[str]
    server_key: str
    client_public: str
    client_secret: str
    #: engines the cluster started with
    engines: int
    #: the MPI library, and whether its worlds survive a dead rank
    mpi: str
    survives: bool
    #: seconds since the epoch
    started: float
    #: folder of the hub's and engines' logs
    log_dir: str
    #: the server through which it is reached by ssh, if it is; its connections may drop
    through: str = ""
    #: ... and who keeps the way open
    keeper: Keeper | None = None


def state_dir() -> Path:
    """Folder of all profiles: ``$MPICLUSTER_STATE_DIR``, else ``mpicluster`` in the user's state directory."""
    given = os.environ.get("MPICLUSTER_STATE_DIR")
    return Path(given).expanduser() if given else Path(platformdirs.user_state_dir("mpicluster", appauthor=False))


def profile_dir(profile: str, *, create: bool = False) -> Path:
    """Folder of one profile's contact files, mode 0700.

    Raises
    ------
    ValueError
        the profile's name is not a plain file name.
    """
    if not profile or profile != os.path.basename(profile) or profile.startswith("."):
        raise ValueError(f"a profile's name must be a plain word, not {profile!r}")
    path = state_dir() / profile
    if create:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(path, stat.S_IRWXU)
    return path


def write(contact: Contact) -> Path:
    """Write the contact file atomically, mode 0600, and return its path."""
    folder = profile_dir(contact.profile, create=True)
    path = folder / f"{contact.cluster}.json"
    fd, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder)  # mkstemp makes it 0600
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(msgspec.json.format(msgspec.json.encode(contact), indent=1))
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def load(path: str | os.PathLike[str]) -> Contact:
    """Read a contact file.

    Raises
    ------
    NoCluster
        the file is not there, or is not a contact file of this version.
    """
    path = Path(path).expanduser()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NoCluster(f"there is no contact file {path}") from None
    except OSError as e:
        raise NoCluster(f"{path} is not a readable contact file: {e}") from e
    return read(content, str(path))


def read(content: bytes, where: str) -> Contact:
    """The content of a contact file.

    Raises
    ------
    NoCluster
        it is something else, or of another version.
    """
    try:
        contact = msgspec.json.decode(content, type=Contact)
    except msgspec.DecodeError as e:
        raise NoCluster(f"{where} is not a readable contact file: {e}") from e
    if contact.version != 1:
        raise NoCluster(f"{where} was written by another version of mpicluster (format {contact.version}, this is 1)")
    return contact


def contacts(profile: str | None = None) -> list[Contact]:
    """All readable contact files of one profile (or of all), newest first, stale ones included."""
    base = state_dir()
    folders = [profile_dir(profile)] if profile else sorted(p for p in base.glob("*") if p.is_dir())
    found = []
    for folder in folders:
        for path in folder.glob("*.json"):
            try:
                found.append(load(path))
            except NoCluster:
                continue  # vanished while we looked, or foreign
    return sorted(found, key=lambda c: c.started, reverse=True)


def process_start(pid: int) -> str:
    """When a process of this host started, in the kernel's own words; empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "running"  # no /proc here: the pid is all there is
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def is_alive(contact: Contact) -> bool | None:
    """Whether the cluster's hub runs, or the tunnel to it is kept: None when that is on another host, and cannot be seen from here."""
    known = contact.keeper or Keeper(contact.host, contact.hub_pid, contact.hub_started)
    if known.host != socket.gethostname():
        return None
    return process_start(known.pid) == known.started


def remove(contact: Contact) -> None:
    """Remove the contact file, if it is still there."""
    (profile_dir(contact.profile) / f"{contact.cluster}.json").unlink(missing_ok=True)


def find(profile: str = "default", cluster: str | None = None) -> Contact:
    """The newest cluster of a profile that is not known to be dead, or the one named.

    Raises
    ------
    NoCluster
        there is none; the message says where was looked and what to do.
    """
    stale = 0
    for contact in contacts(profile):
        if cluster is not None and contact.cluster != cluster:
            continue
        if is_alive(contact) is not False:
            return contact
        stale += 1
    which = f"cluster {cluster!r}" if cluster else "cluster"
    past = f" ({stale} stale contact file{'s' if stale > 1 else ''}: its hub is no longer there)" if stale else ""
    raise NoCluster(
        f"no {which} is running under profile {profile!r}{past}.\n"
        f"Looked in {profile_dir(profile)}.\n"
        "Start one with `mpicluster start -n 4` or `mpiexec -n 4 mpicluster engine`, or use `with mpicluster.Cluster(n=4) as rc:`."
    )
