"""Which cluster a client is for: what a person says, with the words of IPython Parallel too."""

from __future__ import annotations

import os
import re
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mpicluster.client.signals import leave_last_words_to
from mpicluster.config import START_TIMEOUT
from mpicluster.errors import NoCluster
from mpicluster.wire import contact as contact_file
from mpicluster.wire.contact import CONTACT, RUN, Contact

if TYPE_CHECKING:
    from mpicluster.batch.jobs import Watch
    from mpicluster.client.tunnel import Tunnel

__all__ = ["find_contact", "find_tunnel", "story_of_job"]

_TUNNEL = (
    "Client(ssh=...) takes the system's ssh, whose own configuration (~/.ssh/config) has the keys, and which asks for passwords itself"
)
#: So long a batch system may take to see that a job has ended.
_JOB_ENDS_WITHIN = 10.0
_JOB_IS_ENDING = 2.0
_FOLDERS = "clusters are found by profile= (a plain word) below $MPICLUSTER_STATE_DIR, or by their contact file: Client('path')"
#: What IPython Parallel's client takes and this one does not, and what to do instead.
_REFUSED = {
    "profile_dir": _FOLDERS,
    "ipython_dir": _FOLDERS,
    "context": "a client has a ZMQ context of its own, which ends with it",
    "debug": "messages are not printed; `mpicluster logs` shows what hub and engines say, and rc.status() what there is",
    "sshkey": _TUNNEL,
    "password": _TUNNEL,
    "paramiko": _TUNNEL,
}


def find_contact(contact: Any, profile: str, cluster: Any, timeout: float | None, others: Mapping[str, Any]) -> Contact:
    """The contact of the cluster that is meant; with a timeout, also of one that is just being started.

    Raises
    ------
    NoCluster
        there is none.
    TypeError, ValueError
        something was said that does not lead to one.
    """
    given = {name: value for name, value in others.items() if value is not None and value is not False}
    files = [contact, given.pop("url_file", None), given.pop("url_or_file", None)]
    if files[2] is not None:
        warnings.warn("url_or_file is the first argument of Client()", DeprecationWarning, stacklevel=3)
    clusters = [cluster, given.pop("cluster_id", None)]
    for name in given:
        why = _REFUSED.get(name, "there is no such argument")
        raise TypeError(f"Client() does not take {name}={given[name]!r}: {why}")
    if sum(f is not None for f in files) > 1 or sum(c is not None for c in clusters) > 1:
        raise TypeError("Client() is told twice which cluster is meant")
    contact, cluster = next((f for f in files if f is not None), None), next((c for c in clusters if c is not None), None)
    if contact is None and cluster is not None and not isinstance(cluster, str):
        contact = getattr(cluster, "contact", None)  # a Cluster of this process
        if contact is None:
            raise NoCluster(f"{cluster!r} does not run: start it first")
    if contact is None and cluster is None and profile == "default" and CONTACT in os.environ:
        if os.environ.get(RUN, "").isdecimal():
            leave_last_words_to(int(os.environ[RUN]))
        return _named(Path(os.environ[CONTACT]), START_TIMEOUT if timeout is None else timeout)
    return _find(profile, cluster, timeout) if contact is None else _as_contact(contact)


def find_tunnel(contact: Any, profile: str, cluster: Any, others: dict[str, Any]) -> Tunnel | None:
    """The tunnel that was asked for, opened; by ``ssh``, or ``sshserver``, which are taken from the others.

    Raises
    ------
    NoCluster, TypeError
        see `find_contact`.
    """
    servers = [s for s in (others.pop("ssh", None), others.pop("sshserver", None)) if s]
    if not servers:
        return None
    if len(servers) > 1:
        raise TypeError("Client() is told two servers")
    clusters = [c for c in (cluster, others.pop("cluster_id", None)) if c is not None]
    files = [f for f in (contact, others.pop("url_file", None)) if f is not None]
    if others or len(clusters) > 1 or len(files) > 1 or not all(isinstance(v, str) for v in (*clusters, *files)):
        raise TypeError("with ssh=, Client() takes the path of a contact file on the server, or profile= and the id of a cluster there")
    from mpicluster.client.tunnel import Tunnel

    return Tunnel(servers[0], profile, clusters[0] if clusters else None, files[0] if files else None)


def _named(path: Path, timeout: float) -> Contact:
    """That of the cluster that was started for this script, which may just be coming."""
    until = time.monotonic() + timeout
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    try:
        return contact_file.load(path)
    except NoCluster as e:
        raise NoCluster(f"{e}; ${CONTACT} names it, as `mpicluster run` does for a script") from None


def _as_contact(contact: Any) -> Contact:
    if isinstance(contact, Contact):
        return contact
    if isinstance(contact, Mapping):
        try:
            return msgspec.convert(dict(contact), Contact)
        except msgspec.ValidationError as e:
            raise ValueError(f"this is not the content of a contact file: {e}") from None
    if isinstance(contact, str) and re.match(r"(tcp|ipc|inproc|udp)://", contact):
        raise ValueError(f"an address is not enough to connect to, since it takes keys: give the contact file, not {contact!r}")
    if not isinstance(contact, str | os.PathLike):
        raise TypeError(f"Client() takes a contact file or its content, not {contact!r}")
    return contact_file.load(Path(contact))


def _find(profile: str, cluster: str | None, timeout: float | None) -> Contact:
    """The newest cluster of a profile, or the one named."""
    until = time.monotonic() + (timeout or 0.0)
    said, job = False, None
    while True:
        try:
            return contact_file.find(profile, cluster)
        except NoCluster as e:
            job = job or _Expected(profile, cluster)
            what = job.look(str(e))
            if time.monotonic() >= until:
                raise NoCluster(f"{e}{what}") from None
            if not said:
                print(f"{str(e).splitlines()[0]}{what} Waiting up to {timeout:g} s for one ...", file=sys.stderr)
                said = True
            time.sleep(0.1)


class _Expected:
    """The job of a batch system that is to start a cluster, if one was submitted."""

    def __init__(self, profile: str, cluster: str | None) -> None:
        self._watch: Watch | None = None
        if (contact_file.profile_dir(profile) / "jobs").is_dir():
            from mpicluster.batch.jobs import Watch, records

            known = [r for r in records(profile) if not r.attaches]
            found = [r for r in known if (r.cluster == cluster if cluster is not None else not r.state and not r.command)]
            self._watch = Watch(found[0]) if found else None

    def look(self, missing: str) -> str:
        """How it is, as a sentence.

        Raises
        ------
        NoCluster
            it is over, so there will be none.
        """
        if self._watch is None:
            return ""
        record, status = self._watch.record, self._watch.status()
        said = f"Job {record.job} ({record.system}), which was to start it, is {status}."
        if status.stands:
            raise NoCluster(f"{missing.splitlines()[0]}\n{said}\n{record.story()}")
        return f"\n{said} Client(..., timeout=600) waits for it."


def story_of_job(contact: Contact, *, seldom: bool = False) -> str:
    """Of a cluster that has ended: how the job is that started it, if one did, and the end of what it printed; as a paragraph.

    ``seldom``: the cluster may go on. Then it is not waited for long, and nothing is said of a job that goes on, too.
    """
    if not (contact_file.profile_dir(contact.profile) / "jobs").is_dir():
        return ""
    from mpicluster.batch.jobs import Watch, records

    record = next((r for r in records(contact.profile) if r.cluster == contact.cluster and not r.attaches), None)
    if record is None:
        return ""
    watch, until = Watch(record), time.monotonic() + (_JOB_IS_ENDING if seldom else _JOB_ENDS_WITHIN)
    while not (status := watch.status(fresh=seldom)).stands and time.monotonic() < until:
        time.sleep(0.3 if seldom else 0.1)  # its system needs a moment to see it
    if seldom and not status.stands:
        return ""
    return f"\nJob {record.job} ({record.system}), which started it, is {status}.\n{record.story()}"
