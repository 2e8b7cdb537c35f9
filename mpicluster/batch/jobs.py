"""Jobs of batch systems that run clusters: submitted, remembered in files, looked after, cancelled."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mpicluster.batch import request as asked
from mpicluster.batch.request import Request
from mpicluster.batch.system import ENDED, Job, Status, Unknown
from mpicluster.batch.systems import system
from mpicluster.batch.template import template
from mpicluster.config import JOB_GRACE
from mpicluster.errors import LaunchError, NoCluster
from mpicluster.launch.process import last_lines
from mpicluster.wire.contact import is_alive, load, profile_dir

__all__ = ["Record", "Watch", "find", "records", "request", "script", "submit"]

#: Seconds between two questions to a batch system about one job: at first, and at most.
_OFTEN, _SELDOM = 1.0, 15.0
#: So long a system may not know a job before it counts as gone: controllers restart, and forget what has ended.
_UNKNOWN_FOR = 120.0
#: Records of jobs that are kept, the newest of each profile; and others, in seconds, if nobody knows how they ended.
_KEEP, _FORGOTTEN_AFTER = 50, 30 * 86400.0
#: variables by which an engine is reached, or its MPI chosen
_HANDED_ON = ("MPICLUSTER_STATE_DIR", "MPI4PY_LIBMPI", "MPI4PY_MPIABI")


class Record(msgspec.Struct, kw_only=True):
    """What is remembered of a job."""

    version: int = 1
    system: str
    job: str
    cluster: str
    profile: str
    #: name of its files, if that is not the cluster's id: it attaches to one
    key: str = ""
    #: engines; 0 for as many as the template has
    engines: int
    #: the script as it was submitted, and the file with what it prints
    script: str
    log: str
    submitted: float
    #: the host from which it was, whose processes a local job's are
    host: str
    #: the user's script and its arguments; none for engines alone
    command: list[str] = []
    #: its system has taken a request to end it
    cancelled: bool = False
    #: how it ended, once that was seen
    state: str = ""
    reason: str = ""
    code: int | None = None

    @property
    def attaches(self) -> bool:
        """Whether it gives a cluster more engines."""
        return self.key not in ("", self.cluster)

    def handle(self) -> Job:
        """For its system."""
        return Job(self.job, Path(self.script))

    def status(self) -> Status:
        """How it is, asked of its system unless it is known to be over.

        Raises
        ------
        Unknown
            that cannot be known now.
        """
        if self.state:
            return Status(self.state, self.reason, self.code)  # it is over
        if self.system == "local" and self.host != socket.gethostname():
            raise Unknown(f"it runs on {self.host}")
        try:
            found = system(self.system).status(self.handle())
        except Unknown:
            if not self.cancelled:
                raise
            found = Status(ENDED)  # some forget at once what never began
        if found.over and self.cancelled:
            found = Status(ENDED, "it was cancelled")
        if found.over:
            self.state, self.reason, self.code, _ = found
            _write(self)
        return found

    def cancel(self) -> Status | None:
        """Cancel it. If it is over, nothing happens but that it is told how it ended.

        Raises
        ------
        LaunchError
            it could not be.
        """
        try:
            status = self.status()
            if status.over:
                return status
        except Unknown:
            pass
        system(self.system).cancel(self.handle())
        self.cancelled = True
        _write(self)
        return None

    def story(self) -> str:
        """The last lines of what it printed, as a paragraph of an error message."""
        said = last_lines(self.log)
        if not said:
            return f"It printed nothing (its log is {self.log}; its script {self.script})."
        return "\n".join([f"The last lines of {self.log}:", *(f"    {line}" for line in said)])


def request(**options: Any) -> Request:
    """What a person says, checked: a time and a size of memory may be text.

    Raises
    ------
    ValueError
        something is not what it should be.
    """
    known = {name: value for name, value in options.items() if value is not None}
    for name, read in (("time", asked.seconds), ("mem", asked.mebibytes)):
        if isinstance(known.get(name), str):
            known[name] = read(known[name])
    for name in ("n", "nodes", "time", "mem", "gpus"):
        value = known.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is a positive whole number, not {value!r}")
    if isinstance(known.get("extra"), str):
        known["extra"] = (known["extra"],)
    for name in ("log", "env_script"):
        if isinstance(known.get(name), os.PathLike):
            known[name] = os.fspath(known[name])
    for name in ("partition", "account", "qos", "name", "log", "env_script", "extra"):
        for value in known.get(name, ()) if name == "extra" else [known[name]] if name in known else []:
            if not isinstance(value, str) or not value or "\n" in value:
                raise ValueError(f"{name} is one line of text, not {value!r}")
    if "/" in known.get("name", ""):
        raise ValueError(f"name is no path, as {known['name']!r} is: log is the file")
    if re.search(r"[%$]", known.get("log", "")):
        raise ValueError(f"log is the path of a file, without patterns (% and $) of the system's, not {known['log']!r}")
    unknown = set(known) - set(Request._fields)
    if unknown:
        raise ValueError(f"a job has no option {sorted(unknown)[0]!r}; the system's own go through extra")
    return Request(**{**known, "extra": tuple(known.get("extra", ()))})


def script(
    name: str,
    wanted: Request,
    *,
    profile: str = "default",
    cluster: str | None = None,
    options: Sequence[str] = (),
    command: Sequence[str] = (),
    grace: float = JOB_GRACE,
    given: str | os.PathLike[str] | None = None,
    attach: bool = False,
) -> str:
    """The script that `submit` would submit. A cluster without an id is named for its job.

    Raises
    ------
    ValueError
        the system cannot do what is asked.
    """
    if command and not command[0].startswith("-") and not Path(command[0]).is_file():
        raise ValueError(f"there is no script {command[0]}")
    if wanted.env_script is not None:
        source = Path(wanted.env_script).expanduser().absolute()
        if not source.is_file():
            raise ValueError(f"--env-script {wanted.env_script}: there is no such file")
        wanted = wanted._replace(env_script=str(source))
    if wanted.log is not None:
        wanted = wanted._replace(log=str(Path.cwd() / wanted.log))
    if attach:
        run = ["attach", *options]
    elif command:
        run = ["run", "--grace", f"{grace:g}", *options, "--", *command]
    else:
        run = ["start", *options]
    wanted = wanted._replace(
        python=wanted.python or sys.executable,
        words=tuple(run),
        profile=profile,
        cluster=cluster,
        environment=tuple((name, os.environ[name]) for name in _HANDED_ON if name in os.environ),
    )
    kind = system(name)
    return kind.script(template(kind.file, given)[1], wanted)


def submit(
    name: str,
    wanted: Request,
    *,
    profile: str = "default",
    cluster: str | None = None,
    options: Sequence[str] = (),
    command: Sequence[str] = (),
    grace: float = JOB_GRACE,
    given: str | os.PathLike[str] | None = None,
    attach: bool = False,
) -> Record:
    """Submit a job that starts a cluster, and with a command also runs that; or one that attaches engines to a cluster.

    ``options`` are those of ``mpicluster start`` (or ``run``, or ``attach``) on top; ``given`` is another template.

    Raises
    ------
    ValueError
        the system cannot do what is asked.
    LaunchError
        the system did not take the job; or there is, or is to be, a cluster of this id.
    """
    kind = system(name)
    if cluster is not None and not attach:
        _check_free(profile, cluster)
    cluster = cluster or secrets.token_hex(4)
    folder = profile_dir(profile, create=True) / "jobs"
    folder.mkdir(mode=0o700, exist_ok=True)
    cwd = Path.cwd()
    title = wanted.name or "mpicluster"
    key = f"{cluster}+{secrets.token_hex(2)}" if attach else cluster
    log = str(cwd / (wanted.log or f"{title}-{key}.log"))
    if not Path(log).parent.is_dir():
        raise ValueError(f"log {wanted.log}: there is no such folder")
    wanted = wanted._replace(name=title, log=log)
    text = script(name, wanted, profile=profile, cluster=cluster, options=options, command=command, grace=grace, given=given, attach=attach)
    path = folder / f"{key}.sh"
    path.write_text(text)
    job = kind.submit(path, cwd, Path(log))
    record = Record(
        system=kind.name,
        job=job.id,
        cluster=cluster,
        profile=profile,
        key=key,
        engines=wanted.n or 0,
        script=str(path),
        log=log,
        submitted=time.time(),
        host=socket.gethostname(),
        command=list(command),
    )
    _write(record)
    _prune(profile)
    return record


def _check_free(profile: str, cluster: str) -> None:
    """That no cluster of this id runs, or is to; what one has left is removed."""
    ended = False
    record = next((r for r in records(profile) if r.cluster == cluster and not r.attaches), None)
    if record is not None:
        try:
            status = record.status()
        except Unknown:
            status = None  # most often since it ended long ago
        if status is not None and not status.over:
            raise LaunchError(
                f"job {record.job} ({record.system}), which is to start a cluster {cluster!r}, is {status}: "
                f"take another id, or `mpicluster cancel {record.job}`"
            )
        ended = status is not None
    path = profile_dir(profile) / f"{cluster}.json"
    try:
        other = load(path)
    except NoCluster:
        return
    alive = is_alive(other)
    if alive or (alive is None and not ended):
        raise LaunchError(f"a cluster {cluster!r} runs already on {other.host}, or has left {path}: take another id, or remove that file")
    path.unlink(missing_ok=True)


def _path(record: Record) -> Path:
    return profile_dir(record.profile) / "jobs" / f"{record.key or record.cluster}.json"


def _write(record: Record) -> None:
    path = _path(record)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    temporary.replace(path)


def records(profile: str) -> list[Record]:
    """All jobs of a profile that are remembered, newest first."""
    found = []
    for path in (profile_dir(profile) / "jobs").glob("*.json"):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Record))
        except (OSError, msgspec.DecodeError):
            continue  # vanished while we looked, or foreign
    return sorted(found, key=lambda r: r.submitted, reverse=True)


def find(profile: str, word: str | None) -> Record:
    """The job of that id, or of the cluster of that id; without a word the newest.

    Raises
    ------
    LaunchError
        there is none.
    """
    known = records(profile)
    for record in known:
        number = re.split(r"[.;]", record.job)[0]  # without its server
        if word is None or word in (record.job, number) or (word == record.cluster and not record.attaches):
            return record
    which = f"job {word!r}" if word else "job"
    raise LaunchError(f"no {which} was submitted under profile {profile!r}; see `mpicluster jobs`")


def _prune(profile: str) -> None:
    for record in records(profile)[_KEEP:]:
        if record.state or record.submitted < time.time() - _FORGOTTEN_AFTER:
            for suffix in (".json", ".sh", ".status"):
                _path(record).with_suffix(suffix).unlink(missing_ok=True)


class Watch:
    """A job, asked after seldom enough not to burden its system: after a second, and less and less often, up to four times a minute.

    A system that does not answer, or does not know the job, leaves what was known before; after two minutes the job counts as failed.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self._last = Status("pending")
        self._pause = _OFTEN
        self._next = 0.0
        self._silent_since: float | None = None

    def status(self, *, fresh: bool = False) -> Status:
        """How the job is, or was a short time ago."""
        now = time.monotonic()
        if self._last.over or (now < self._next and not fresh):
            return self._last
        try:
            found = self.record.status()
            self._silent_since = None
        except Unknown as e:
            self._silent_since = self._silent_since or now
            found = self._last
            if now > self._silent_since + _UNKNOWN_FOR:
                found = Status("failed", f"its batch system does not know it any more: {e}")
        if found.state != self._last.state:
            self._pause = _OFTEN  # something happens
        self._last, self._next = found, time.monotonic() + self._pause
        self._pause = min(1.5 * self._pause, _SELDOM)
        return found

    def failure(self, happened: str) -> LaunchError:
        """What to raise when the job is over, or hangs, and should not."""
        r = self.record
        return LaunchError(f"{happened}: job {r.job} ({r.system}) is {self._last}.\n{r.story()}")
