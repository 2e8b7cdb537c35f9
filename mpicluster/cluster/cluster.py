"""A cluster that this process starts and stops."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import socket
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from mpicluster import config
from mpicluster.batch import jobs
from mpicluster.batch.request import Request
from mpicluster.batch.systems import system as batch_system
from mpicluster.cluster import ending, logs
from mpicluster.cluster.progress import Progress
from mpicluster.cluster.submitted import Submitted
from mpicluster.cluster.words import history_options
from mpicluster.config import HistoryLimits
from mpicluster.errors import ClusterError, LaunchError, NoCluster
from mpicluster.launch import mpi as launch_mpi
from mpicluster.launch import process
from mpicluster.launch.process import Job, last_lines
from mpicluster.wire.contact import Contact, is_alive, load, profile_dir

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["Cluster"]

T = TypeVar("T")
_POLL = 0.005

#: what a log says, and what to do about it
_HINTS = (
    ("wrong launcher", ""),  # the log explains itself
    (r"No module named", "The engines run {python}: install what is missing there."),
    (r"not enough slots", "The launcher counts fewer slots than engines: take fewer engines, or allow more slots in its host file."),
    (r"attempt to run as root", "Open MPI asks for OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 when root runs it."),
    (r"No space left on device|/dev/shm", "Shared memory or a disk is full: look at `df -h /dev/shm /tmp`."),
    (r"cannot load MPI library|libmpi", "The engines find no MPI library: `mpicluster doctor` shows which one mpi4py looks for."),
    (r"", "`mpicluster doctor` checks MPI, its mpiexec and this machine."),
)

_started: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster:
    """Start ``n`` engines on this machine, one per core unless told, and stop them.

    ::

        with mpicluster.Cluster(n=4) as rc:
            rc[:].apply_sync(os.getpid)

    As a context manager it gives a connected `Client`. The cluster ends with the ``with`` block, with `stop`, or with
    this process, however that ends.

    Parameters
    ----------
    n
        number of engines; if not given, as many as a batch job has that this process runs in, or the cores that it may use.
    profile
        name under which clients find it.
    mpi
        ``"openmpi"``, ``"mpich"``, the path of an mpiexec, or what mpi4py loads.
    timeout
        seconds that the engines may take to be there.
    cluster
        id of the cluster, if a fixed one is wanted.
    history
        whether the hub remembers all tasks (`Client.get_result`, `Client.db_query`), as many as `HistoryLimits` has by default; or limits:
        ``history={"tasks": 10_000_000, "nbytes": 8 << 30, "age": 86400.0}``, each of them optional.
    scheme
        in what order engines that have room are given balanced tasks: ``"leastload"`` (those with the least first), ``"roundrobin"``,
        ``"weighted"`` (at random, those with less more likely first), ``"random"``.
    hosts
        where engines run, and how many on each: ``"a:2,b:2"``, which mpiexec reaches by ssh; or the path of its host file.
    interface
        the network interface, of the host of rank 0, by which it is reached; by default ``$MPICLUSTER_INTERFACE`` there, or the first that
        answers.
    launcher
        ``"slurm"``, ``"pbs"``, ``"lsf"``, ``"sge"``, ``"htcondor"`` or ``"local"``: engines are a job of that batch system, and ``timeout``
        counts from its begin. With it, as `mpicluster submit` has them: ``nodes``, ``time`` (``"1:30:00"``), ``partition``, ``account``,
        ``qos``, ``mem`` (of each node, ``"16G"``), ``gpus``, ``name``, ``log``, ``env_script``, ``extra`` (directives as they are) and
        ``template``.
    cluster_id, engine_timeout
        IPython Parallel's names for ``cluster`` and ``timeout``.
    """

    def __init__(
        self,
        n: int | None = None,
        *,
        profile: str = "default",
        mpi: str | None = None,
        timeout: float = config.START_TIMEOUT,
        cluster: str | None = None,
        history: bool | Mapping[str, float] = True,
        scheme: str = "leastload",
        hosts: str | None = None,
        interface: str | None = None,
        launcher: str | None = None,
        cluster_id: str | None = None,
        engine_timeout: float | None = None,
        **job: Any,
    ) -> None:
        cluster = cluster if cluster is not None else cluster_id
        timeout = timeout if engine_timeout is None else engine_timeout
        if n is not None and n < 1:
            raise ValueError(f"a cluster has at least one engine, not {n}")
        if cluster is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", cluster):
            raise ValueError(f"a cluster's id must be a plain word, not {cluster!r}")
        profile_dir(profile)  # complains about a bad name
        if scheme not in config.SCHEMES:
            raise ValueError(f"there is no scheme {scheme!r}; there are {', '.join(config.SCHEMES)}")
        if job and launcher is None:
            raise TypeError(f"Cluster() takes {next(iter(job))!r} with launcher= only: it is for a batch system")
        #: the batch system, what is asked of it, and its template
        self.launcher = None if launcher is None else batch_system(launcher).name
        self._template = job.pop("template", None)
        self._request = jobs.request(n=n, **job) if launcher is not None else None
        if launcher is not None and hosts is not None:
            raise ValueError("hosts= is for engines that are started here; a batch system chooses its own")
        if launcher is not None and n is None and self._template is None:
            raise ValueError("how many engines? Say n=")
        self.hosts = hosts
        self.interface = interface
        self.history = _limits(history)
        self.scheme = scheme
        self.n = n
        self.profile = profile
        self.mpi = mpi
        self.timeout = timeout
        #: id of the cluster; a new one for each start unless one was given
        self.cluster_id: str | None = cluster
        #: how to reach it, while it runs
        self.contact: Contact | None = None
        self._given_id = cluster
        self._job: Job | Submitted | None = None
        self._client: Client | None = None
        self._pid = 0  # of the process that started it: a fork does not own the cluster
        self._kind = ""

    def __repr__(self) -> str:
        if self.contact is None:
            state = "not running"
        elif self.is_running():
            state = "running"
        else:
            state = "ended by itself"
        engines = "" if self.n is None else f", {self.n} engine{'s' if self.n != 1 else ''}"
        return f"<Cluster {self.cluster_id or '(new)'}, profile {self.profile}{engines}{', ' + self._kind if self._kind else ''}: {state}>"

    # -- start

    def start(self, *, detach: bool = False, progress: bool | None = None) -> Cluster:
        """Start the engines and wait until all are there.

        With ``detach`` the cluster outlives this process, until ``mpicluster stop`` (or `stop`). ``progress``: whether to
        show a progress line on stderr; only where a person looks on, if not given.

        Raises
        ------
        LaunchError
            the engines did not come; the message has the last lines of the log and a hint.
        """
        if self.contact is not None and self.is_running():
            raise LaunchError(f"cluster {self.cluster_id} runs already; connect with connect_client(), end it with stop()")
        self.stop()  # what is left of the last one
        self._pid = os.getpid()
        self.cluster_id = self._given_id or secrets.token_hex(4)
        contact_path = self._free_contact_path(self.cluster_id)
        logs.prune(self.profile, keep=logs.KEEP - 1)
        if self._request is not None:
            self._submit(self._request, contact_path, progress)
        else:
            self._launch(contact_path, detach, progress)
        if detach and self._job is not None:
            self._job.detach()
            self._job = None
        else:
            _started.add(self)
            # run before whatever was registered earlier: clients close themselves at exit, and one is needed to stop
            atexit.unregister(_stop_all)
            atexit.register(_stop_all)
        return self

    def _options(self) -> list[str]:
        """What its engines, or its `mpicluster start`, are told besides."""
        reached = ["--interface", self.interface] if self.interface is not None else []
        return [*history_options(self.history), "--scheme", self.scheme, *reached]

    def _launch(self, contact_path: Path, detach: bool, progress: bool | None) -> None:
        """By mpiexec."""
        assert self.cluster_id is not None
        installation = launch_mpi.installation(self.mpi)
        self.n = n = self.n or launch_mpi.allocated(os.environ) or launch_mpi.cores()
        self._kind = str(installation.library)
        folder = logs.log_dir(self.profile, self.cluster_id, create=True)
        worker = [sys.executable, "-m", "mpicluster", "engine", "--profile", self.profile, "--cluster", self.cluster_id, *self._options()]
        if not detach:
            worker += ["--owner", f"{os.getpid()}@{socket.gethostname()}"]
        argv = launch_mpi.command(installation, n, worker, hosts=self.hosts)
        env = launch_mpi.environment(installation, os.environ, root=os.geteuid() == 0)
        with Progress(n, self._kind, shown=progress) as line:
            try:
                # only the shell knows, before it becomes mpiexec, which pid mpiexec will have
                self._job = Job(
                    ["/bin/sh", "-c", launch_mpi.shell(installation), socket.gethostname(), *argv],
                    env=env,
                    log=folder / "mpiexec.log",
                    mark=(ending.MARK, str(folder)),
                )
                self._wait(self._job, contact_path, n, line)
            except BaseException:
                self._clear_away(contact_path, str(folder))
                raise

    def _submit(self, request: Request, contact_path: Path, progress: bool | None) -> None:
        """By a batch system."""
        assert self.launcher is not None
        assert self.cluster_id is not None
        options = [*self._options(), "--timeout", f"{self.timeout:g}"]
        if self.mpi is not None:
            options += ["--mpi", self.mpi]
        record = jobs.submit(self.launcher, request, profile=self.profile, cluster=self.cluster_id, options=options, given=self._template)
        self._kind = f"job {record.job} ({record.system})"
        self._job = Submitted(record)
        with Progress(record.engines, self._kind, shown=progress) as line:
            try:
                self._wait(self._job, contact_path, record.engines, line)
            except BaseException:
                self._clear_away(contact_path, None)
                raise
        self.n = record.engines

    def _free_contact_path(self, cluster: str) -> Path:
        path = profile_dir(self.profile, create=True) / f"{cluster}.json"
        try:
            other = load(path)
        except NoCluster:
            return path
        if is_alive(other) is not False:
            raise LaunchError(
                f"a cluster {cluster!r} runs already under profile {self.profile!r} on {other.host}: "
                "connect to it, stop it, or take another id"
            )
        ending.clean(other)
        return path

    def _wait(self, job: Job | Submitted, contact_path: Path, n: int, line: Progress) -> None:
        """Wait for the contact file, then for the engines; raise as soon as it is clear that they do not come.

        A batch job that has not begun is waited for as long as its system keeps it.
        """
        from mpicluster.client.client import Client

        deadline = time.monotonic() + self.timeout
        here = 0
        while True:
            if not job.is_running():
                what = "mpiexec" if isinstance(job, Job) else "its job"
                raise self._failure(job, f"{what} ended before the engines were there ({here} of {n} came)")
            if isinstance(job, Submitted) and job.waits:
                deadline = time.monotonic() + self.timeout
                line.say(str(job.status()))
            elif time.monotonic() >= deadline:
                raise self._failure(job, f"{here} of {n} engines were there after {self.timeout:g} s")
            if self._client is None:
                try:
                    self.contact = load(contact_path)
                except NoCluster:
                    time.sleep(_POLL)
                    continue
            try:
                if self._client is None:
                    self._client = Client(self.contact, timeout=max(0.1, deadline - time.monotonic()), wait=False)
                here = len(self._client.ids)
                line.update(here)
                if here >= n:
                    line.done(here)
                    return
                self._client.wait_for_engines(min(here + 1, n), timeout=0.2, interactive=False)
            except TimeoutError:
                continue
            except ClusterError as e:
                job.wait(config.STOP_GRACE)  # its log then has the whole story
                raise self._failure(job, f"the cluster ended before its engines were there: {e}") from e

    def _failure(self, job: Job | Submitted, happened: str) -> LaunchError:
        text = [f"the cluster did not start: {happened}."]
        if isinstance(job, Submitted):
            text.append(f"Job {job.record.job} ({job.record.system}) is {job.status(fresh=True)}; its script is {job.record.script}.")
        last = last_lines(job.log)
        folder = logs.log_dir(self.profile, self.cluster_id or "")
        hub = last_lines(folder / "hub.log", 5)
        if last:
            text += [f"The last lines of {job.log}:", *(f"    {line}" for line in last)]
        else:
            text.append(f"Its log, {job.log}, is empty.")
        if hub:
            text += [f"and of {folder / 'hub.log'}:", *(f"    {line}" for line in hub)]
        said = "\n".join(last)
        hint = next(h for pattern, h in _HINTS if re.search(pattern, said))
        if hint:
            text.append(hint.format(python=sys.executable))
        return LaunchError("\n".join(text))

    def _clear_away(self, contact_path: Path, folder: str | None) -> None:
        """Leave nothing of a start that failed."""
        with contextlib.suppress(NoCluster):
            self.contact = load(contact_path)
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._job is not None:
            self._job.end(grace=1.0)
            self._job = None
        if self.contact is not None:
            ending.end(self.contact, grace=1.0)
            self.contact = None
        if folder is not None:  # interrupted between the start of a process and its name: by their mark
            process.end(process.marked(ending.MARK, folder), grace=1.0)

    # -- use

    def is_running(self) -> bool:
        """Whether its hub, and the mpiexec that was started here, are still there."""
        if self.contact is None or is_alive(self.contact) is False:
            return False
        return self._job is None or self._job.is_running()

    def connect_client(self, **options: Any) -> Client:
        """A new client of this cluster; ``options`` are those of `Client`.

        Raises
        ------
        NoCluster
            it does not run.
        """
        from mpicluster.client.client import Client

        if self.contact is None:
            raise NoCluster("this cluster is not running; start() it first")
        if not self.is_running():
            raise NoCluster(f"cluster {self.cluster_id} has ended{self._why()}; start() starts a new one")
        return Client(self.contact, **options)

    def _why(self) -> str:
        reason = logs.end_reason(self.contact.log_dir) if self.contact else ""
        return f" ({reason})" if reason else ""

    def wait(self, timeout: float | None = None) -> str | None:
        """Wait until the cluster ends by itself, and say why it did; None when it has not after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_running():
            left = 0.2 if deadline is None else min(0.2, deadline - time.monotonic())
            if left <= 0:
                return None
            if self._job is not None:
                self._job.wait(left)
            else:
                time.sleep(left)
        return (logs.end_reason(self.contact.log_dir) if self.contact else "") or "its hub is gone"

    # -- stop

    def stop(self) -> None:
        """Stop hub, engines and mpiexec, and see that nothing is left. Does nothing when nothing runs.

        Raises
        ------
        ClusterError
            some process could not be ended.
        """
        if os.getpid() != self._pid:
            return  # never started, or started by the process that this one was forked from
        was_running = self.is_running()
        contact, job, client = self.contact, self._job, self._client
        asked, grace = False, config.STOP_GRACE
        if client is not None:
            try:
                if was_running:
                    asked = True
                    client.shutdown()
            except TimeoutError:
                grace = 1.0  # it hangs: ended by pid below
            except (ClusterError, OSError):
                asked = False
            client.close()
        left = []
        if contact is not None:
            left = ending.end(contact, asked=asked, grace=grace).left
        if job is not None:
            if asked:
                job.wait(grace)
            left += job.end(grace=config.STOP_GRACE)
        if contact is not None:
            ending.clean(contact)
        self.contact = self._job = self._client = None  # not before: an interrupted stop is to be repeated
        _started.discard(self)
        if left:
            raise ClusterError("these processes could not be ended: " + ", ".join(f"{p.pid} ({p.name})" for p in left))

    # -- IPython Parallel's names

    def start_cluster_sync(self, n: int | None = None) -> Cluster:
        """`start`, with ``n`` engines if given."""
        self.n = n or self.n
        return self.start()

    def start_and_connect_sync(self, n: int | None = None) -> Client:
        """Start, and give a connected client."""
        self.start_cluster_sync(n)
        try:
            return self.connect_client()
        except BaseException:
            self.stop()
            raise

    def connect_client_sync(self, **options: Any) -> Client:
        """`connect_client`."""
        return self.connect_client(**options)

    def stop_cluster_sync(self) -> None:
        """`stop`."""
        self.stop()

    async def start_cluster(self, n: int | None = None) -> Cluster:
        """`start`, awaited."""
        return await _in_thread(lambda: self.start_cluster_sync(n))

    async def start_and_connect(self, n: int | None = None) -> Client:
        """Start and connect, awaited."""
        return await _in_thread(lambda: self.start_and_connect_sync(n))

    async def stop_cluster(self) -> None:
        """`stop`, awaited."""
        await _in_thread(self.stop)

    # -- with

    def __enter__(self) -> Client:
        return self.start_and_connect_sync()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Client:
        return await self.start_and_connect()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.stop_cluster()


async def _in_thread(call: Callable[[], T]) -> T:
    from mpicluster.client.awaiting import in_thread  # with asyncio, which is slow to load

    return await in_thread(call)


def _limits(history: bool | Mapping[str, float]) -> HistoryLimits | None:
    """What a person said about the history; None for none."""
    if isinstance(history, bool):
        return HistoryLimits() if history else None
    unknown = set(history) - set(HistoryLimits._fields)
    if unknown:
        raise ValueError(f"the history has no limit {sorted(unknown)[0]!r}; it has {', '.join(HistoryLimits._fields)}")
    limits = HistoryLimits()._replace(**history)  # type: ignore[arg-type]
    if not (limits.tasks >= 1 and limits.nbytes >= 1 and limits.age > 0):
        raise ValueError(f"limits of the history must be positive, not {history!r}; history=False turns it off")
    return HistoryLimits(int(limits.tasks), int(limits.nbytes), float(limits.age))


def _stop_all() -> None:
    for cluster in list(_started):
        with contextlib.suppress(ClusterError):
            cluster.stop()
