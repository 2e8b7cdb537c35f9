"""To a cluster by way of a server: one ``ssh`` of the system's, which reads contact files there and forwards a port of this host.

What ssh needs (keys, an agent, a jump host, another port) is said in its own configuration. It runs with a control socket, by which it is
told what to forward once the contact file was read, and a pipe as its input, by whose end it ends with this process.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mpicluster import config
from mpicluster.client.lasting import LastingConnection
from mpicluster.errors import NoCluster
from mpicluster.launch import process
from mpicluster.wire import contact as contact_file
from mpicluster.wire import messages as m
from mpicluster.wire.address import knock
from mpicluster.wire.contact import Contact, Keeper

__all__ = ["Tunnel", "connect_through", "still_there"]

#: So long ssh may take to connect, without a person and with one who types a password, seconds.
_PATIENCE, _PATIENCE_WITH_PEOPLE = 30.0, 120.0
#: So long a command for an ssh that is connected may take.
_PROMPT = 10.0
#: So long nobody may listen at the hub's address, on a server that can be reached, until it counts as gone without a word.
_GONE_AFTER = 120.0
_NEXT, _LAST = "-- mpicluster: next", "-- mpicluster: that was all"
_OPTIONS = {
    "ControlMaster": "yes",
    "ControlPersist": "no",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "ExitOnForwardFailure": "yes",
}
#: Prints contact files. The user's shell may be any.
_SCRIPT = """
for f in {files}; do if [ -f "$f" ]; then cat "$f"; printf '\\n%s\\n' '{next}'; fi; done
printf '%s\\n' '{last}'
"""
#: Ends with its input.
_UNTIL_THE_END = "exec cat > /dev/null\n"
_FOLDER = '"${{MPICLUSTER_STATE_DIR:-${{XDG_STATE_HOME:-$HOME/.local/state}}/mpicluster}}"/{profile}/*.json'


class Tunnel:
    """A way to one cluster. Thread-safe.

    ``contact``
        what a client here connects to: a port of this host.
    """

    def __init__(self, server: str, profile: str = "default", cluster: str | None = None, file: str | None = None) -> None:
        """Open it.

        ``cluster``
            its id; the newest of the profile if it is not given;
        ``file``
            path of its contact file, on the server.

        Raises
        ------
        NoCluster
            ssh did not connect, the server knows of no such cluster, or it cannot be reached from there.
        """
        if not server or server.startswith("-"):
            raise ValueError(f"a server is a name that ssh knows, or user@host, not {server!r}")
        contact_file.profile_dir(profile)  # a plain word
        self.server = server
        self._wanted = profile, cluster, file
        self._guard = threading.Lock()
        self._closed = False
        self._folder = Path(tempfile.mkdtemp(prefix="mpicluster-"))
        self._control = str(self._folder / "ssh")
        self._session: process.Kept | None = None
        #: since when nobody listens at the hub's address
        self._gone_since: float | None = None
        try:
            there = self._connect()
            self._ways = {_free_port(): f"{urlsplit(a).hostname}:{urlsplit(a).port}" for a in there.tcp}
            self._forward()
            port = next((p for p in self._ways if knock(p)), None)
            if port is None:
                raise NoCluster(
                    f"the cluster {there.cluster} on {there.host} cannot be reached from {server} at any of "
                    f"{', '.join(self._ways.values())}: it has ended, or the network there does not let it"
                )
        except BaseException:
            self.close()
            raise
        self._ways = {port: self._ways[port]}
        keeper = Keeper(socket.gethostname(), os.getpid(), contact_file.process_start(os.getpid()))
        self.contact = msgspec.structs.replace(there, tcp=[f"tcp://127.0.0.1:{port}"], ipc="", through=server, keeper=keeper)
        self._wanted = profile, there.cluster, file

    def __repr__(self) -> str:
        return f"<Tunnel to cluster {self.contact.cluster} by {self.server}: {'open' if self.is_open() else 'closed'}>"

    def is_open(self) -> bool:
        """Whether ssh runs."""
        return self._session is not None and self._session.is_running()

    def again(self) -> str | None:
        """The address of the hub, when there is a way to it; opens the tunnel again if it dropped. None if there is none now.

        Raises
        ------
        NoCluster
            there is no such cluster any more, or the tunnel was closed.
        """
        with self._guard:
            if not self.is_open():
                if self._closed:
                    raise NoCluster("the tunnel was closed")
                try:
                    self._connect()
                    self._forward()
                except _NotNow:
                    self._end_session()  # one that forwards nothing is no tunnel
                    return None
        (address,) = self.contact.tcp
        there = knock(urlsplit(address).port or 0)
        with self._guard:
            if there is False and not self._closed:
                self._look_for_it()
            else:
                self._gone_since = None
        return address if there else None

    def _look_for_it(self) -> None:
        """Nobody listens where the hub did. If it has ended in good order its contact file is gone."""
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now > self._gone_since + _GONE_AFTER:
            raise NoCluster(f"nobody listens at the address of cluster {self.contact.cluster} any more: it has ended without a word")
        by_it = ["ssh", "-T", "-S", self._control, "-o", "ControlMaster=no", "-o", "BatchMode=yes", self.server]
        done = process.run([*by_it, f"sh -c {shlex.quote(self._script())}"], timeout=_PROMPT)
        if done.code == 0:
            self._chosen(done.stdout)

    def close(self) -> None:
        """End ssh, also while it connects."""
        self._closed = True
        with self._guard:
            self._end_session()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.end()

    def _script(self) -> str:
        profile, _, file = self._wanted
        files = shlex.quote(file) if file is not None else _FOLDER.format(profile=shlex.quote(profile))
        return _SCRIPT.format(files=files, next=_NEXT, last=_LAST)

    def _connect(self) -> Contact:
        """Start ssh, and read the contact file."""
        self._end_session()  # it has ended, but for what is kept of it
        people = sys.stdin is not None and sys.stdin.isatty() and threading.current_thread() is threading.main_thread()
        options = {**_OPTIONS, "ControlPath": self._control, **({} if people else {"BatchMode": "yes"})}
        argv = ["ssh", "-T", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), self.server]
        Path(self._control).unlink(missing_ok=True)
        try:
            session = process.Kept([*argv, f"sh -c {shlex.quote(self._script() + _UNTIL_THE_END)}"], self._folder, aside=not people)
        except OSError as e:
            raise NoCluster(f"ssh could not be started: {e.strerror or e}") from e
        self._session = session
        until = time.monotonic() + (_PATIENCE_WITH_PEOPLE if people else _PATIENCE)
        while f"{_LAST}\n" not in (said := session.said()):
            if not session.is_running() or time.monotonic() > until or self._closed:
                session.end()
                words = session.complaint().strip() or f"it did not connect within {_PATIENCE:g} s"
                raise _NotNow(f"ssh {self.server}: {words}")
            time.sleep(0.02)
        session.forget()  # there are keys in it
        return self._chosen(said)

    def _chosen(self, said: str) -> Contact:
        """The contact that is meant, among those that were printed."""
        profile, cluster, file = self._wanted
        found = []
        for text in said.split(f"\n{_NEXT}\n")[:-1]:
            try:
                found.append(contact_file.read(text.encode(), file or f"a file of {self.server}"))
            except NoCluster:
                if file is not None:
                    raise
        found = [c for c in found if not c.through and cluster in (None, c.cluster)]
        if not found:
            which = f"cluster {cluster!r}" if cluster is not None else "cluster"
            where = f"no contact file {file}" if file is not None else f"no {which} under profile {profile!r}"
            raise NoCluster(f"there is {where} on {self.server}")
        return max(found, key=lambda c: c.started)

    def _forward(self) -> None:
        for port, there in self._ways.items():
            done = process.run(
                ["ssh", "-S", self._control, "-O", "forward", "-L", f"127.0.0.1:{port}:{there}", self.server], timeout=_PROMPT
            )
            if done.code != 0:
                raise _NotNow(f"ssh {self.server} does not forward port {port}: {done.stderr.strip() or done.stdout.strip()}")


class _NotNow(NoCluster):
    """There is no way to the server at the moment."""


def connect_through(
    tunnel: Tunnel | None,
    contact: Contact,
    on_message: Callable[[m.ToClient, Any], None],
    on_lost: Callable[[str], None],
    away: float = config.AWAY_WITHIN,
) -> LastingConnection:
    """A connection to the end of a tunnel here, which may be another process's. It may be ``away`` for so many seconds.

    Raises
    ------
    NoCluster
        there is no hub at its other end; the tunnel is closed then.
    """
    again = tunnel.again if tunnel is not None else functools.partial(still_there, contact)
    try:
        return LastingConnection(contact, on_message, on_lost, again, away)
    except NoCluster:
        if tunnel is not None:
            tunnel.close()
        raise


def still_there(contact: Contact) -> str | None:
    """The address of a tunnel that another process keeps, if the hub is at its other end now. It may have been opened anew, elsewhere."""
    try:
        now = contact_file.load(contact_file.profile_dir(contact.profile) / f"{contact.cluster}.json")
    except NoCluster:
        now = contact  # it was closed; perhaps not for long
    (address,) = now.tcp if now.through else contact.tcp
    return address if knock(urlsplit(address).port or 0) else None


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
