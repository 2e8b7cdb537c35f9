"""More engines for a cluster that runs: an MPI world of their own."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from pathlib import Path

from mpicluster import config
from mpicluster.client.client import Client
from mpicluster.cluster import ending, logs
from mpicluster.cluster.progress import Progress
from mpicluster.errors import ClusterError, LaunchError
from mpicluster.launch import mpi as launch_mpi
from mpicluster.launch.process import Job, tail

__all__ = ["Attached"]

_LAST_LINES = 15
#: in the environment of what is started here, besides the mark of the whole cluster
_MARK = "MPICLUSTER_ATTACHED"


class Attached:
    """Engines that were started here, by an mpiexec of their own, for a cluster that runs.

    ``ids``
        theirs.
    """

    def __init__(self, n: int | None, *, profile: str, cluster: str | None, mpi: str | None, hosts: str | None, timeout: float) -> None:
        """Start them, and wait until all are there.

        Raises
        ------
        NoCluster
            there is no such cluster.
        LaunchError
            they did not come.
        """
        self._client = Client(profile=profile, cluster=cluster, timeout=timeout, wait=False)
        self.contact = self._client.contact
        self.ids: list[int] = []
        installation = launch_mpi.installation(mpi)
        n = n or launch_mpi.allocated(os.environ) or launch_mpi.cores()
        worker = [sys.executable, "-m", "mpicluster", "attach", "--profile", profile, "--cluster", self.contact.cluster]
        folder = logs.log_dir(profile, self.contact.cluster, create=True)
        token = secrets.token_hex(4)
        env = launch_mpi.environment(installation, os.environ, root=os.geteuid() == 0)
        with Progress(n, str(installation.library), shown=True) as line:
            self._job = Job(
                [
                    "/bin/sh",
                    "-c",
                    launch_mpi.shell(installation),
                    socket.gethostname(),
                    *launch_mpi.command(installation, n, worker, hosts),
                ],
                env={**env, ending.MARK: self.contact.log_dir},
                log=folder / f"attached-{token}.log",
                mark=(_MARK, token),
            )
            try:
                self._wait(n, timeout, line)
            except BaseException:
                self.end()
                raise

    def _wait(self, n: int, timeout: float, line: Progress) -> None:
        before = {tuple(world[:1]) for world in self._client.worlds}
        until = time.monotonic() + timeout
        while True:
            ours = next((world for world in self._client.worlds if tuple(world[:1]) not in before), [])
            line.update(len(ours))
            if len(ours) >= n:
                line.done(n)
                self.ids = ours
                return
            if not self._job.is_running() or time.monotonic() >= until:
                happened = (
                    "mpiexec ended before they were there" if not self._job.is_running() else f"not all were there after {timeout:g} s"
                )
                said = [text for text in tail(self._job.log, 200) if text.strip()][-_LAST_LINES:]
                story = "\n".join([f"The last lines of {self._job.log}:", *(f"    {text}" for text in said)])
                raise LaunchError(f"the engines did not attach: {happened}.\n{story}")
            time.sleep(0.02)

    def wait(self, timeout: float) -> bool:
        """Wait until they have ended; False when they have not after ``timeout`` seconds."""
        return self._job.wait(timeout)

    @property
    def log(self) -> Path:
        """What they print outside of tasks."""
        return self._job.log

    def end(self) -> None:
        """End them. What they had begun runs elsewhere, if it may.

        Raises
        ------
        ClusterError
            some process could not be ended.
        """
        self._client.close()
        left = self._job.end(grace=config.STOP_GRACE)
        if left:
            raise ClusterError("these processes could not be ended: " + ", ".join(f"{p.pid} ({p.name})" for p in left))
