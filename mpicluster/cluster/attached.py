"""More engines for a cluster that runs: an MPI world of their own."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time

import msgspec

from mpicluster import config
from mpicluster.client.client import Client
from mpicluster.cluster import ending, logs
from mpicluster.cluster.progress import Progress
from mpicluster.errors import ClusterError, LaunchError
from mpicluster.hub.orders import Invitation
from mpicluster.launch import mpi as launch_mpi
from mpicluster.launch.process import Job, last_lines

__all__ = ["Attached"]

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
        installation = launch_mpi.installation(mpi)
        n = n or launch_mpi.allocated(os.environ) or launch_mpi.cores()
        token = secrets.token_hex(4)
        self._job: Job | None = None
        self._client = Client(profile=profile, cluster=cluster, timeout=timeout, wait=False)
        try:
            self.contact = self._client.contact
            first = msgspec.json.decode(self._client._attach(n, token), type=Invitation).first
            self.ids = list(range(first, first + n))
            worker = [sys.executable, "-m", "mpicluster", "attach", "--profile", profile, "--cluster", self.contact.cluster]
            command = launch_mpi.command(installation, n, [*worker, "--place", token], hosts)
            env = launch_mpi.environment(installation, os.environ, root=os.geteuid() == 0)
            with Progress(n, str(installation.library), shown=True) as line:
                self._job = Job(
                    ["/bin/sh", "-c", launch_mpi.shell(installation), socket.gethostname(), *command],
                    env={**env, ending.MARK: self.contact.log_dir},
                    log=logs.log_dir(profile, self.contact.cluster, create=True) / f"attached-{token}.log",
                    mark=(_MARK, token),
                )
                self._wait(self._job, timeout, line)
        except BaseException:
            self.end()
            raise

    def _wait(self, job: Job, timeout: float, line: Progress) -> None:
        until = time.monotonic() + timeout
        while True:
            here = len({*self.ids} & {*self._client.ids})
            line.update(here)
            if here == len(self.ids):
                line.done(here)
                return
            if not job.is_running() or time.monotonic() >= until:
                happened = "mpiexec ended before they were there" if not job.is_running() else f"not all were there after {timeout:g} s"
                story = "\n".join([f"The last lines of {job.log}:", *(f"    {text}" for text in last_lines(job.log))])
                raise LaunchError(f"the engines did not attach: {happened}.\n{story}")
            time.sleep(0.02)

    def wait(self, timeout: float) -> bool:
        """Wait until they have ended; False when they have not after ``timeout`` seconds."""
        assert self._job is not None
        return self._job.wait(timeout)

    def end(self) -> None:
        """End them. What they had begun runs elsewhere, if it may.

        Raises
        ------
        ClusterError
            some process could not be ended.
        """
        self._client.close()
        left = self._job.end(grace=config.STOP_GRACE) if self._job is not None else []
        if left:
            raise ClusterError("these processes could not be ended: " + ", ".join(f"{p.pid} ({p.name})" for p in left))
