"""``mpicluster run``: engines, a script that is their client, and the end of both."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from mpicluster.client.signals import LAST_WORDS
from mpicluster.cluster.cluster import Cluster
from mpicluster.errors import ClusterError
from mpicluster.launch import mpi as launch_mpi
from mpicluster.launch.process import Child
from mpicluster.wire.contact import CONTACT, RUN, find, profile_dir

__all__ = ["Beside", "Script", "run"]

#: So long a script may take between SIGTERM and SIGKILL, seconds.
_PATIENCE = 5.0


class Script:
    """A Python script under way, whose `Client()` finds one cluster."""

    def __init__(self, command: Sequence[str], *, profile: str, cluster: str, grace: float) -> None:
        contact = profile_dir(profile, create=True) / f"{cluster}.json"
        ours = {CONTACT: str(contact), RUN: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        environment = {**launch_mpi.clean_environment(os.environ), **ours}
        self._grace = grace
        self._child = Child([sys.executable, *command], env=environment)
        self._told = False

    def tell(self, _number: int = signal.SIGTERM, _frame: FrameType | None = None) -> None:
        """Let it end: KeyboardInterrupt now, SIGTERM after its time of grace, SIGKILL some seconds later. Once."""
        if self._told:
            return
        self._told = True
        self._child.send(signal.SIGINT)
        for number, after in ((signal.SIGTERM, self._grace), (signal.SIGKILL, self._grace + _PATIENCE)):
            timer = threading.Timer(after, self._child.send, [number])
            timer.daemon = True
            timer.start()

    def wait(self) -> int:
        """Its exit status, as a shell has it: 128 and the number of the signal that ended it."""
        return self._child.wait()


@contextlib.contextmanager
def _heeding(script: Script) -> Iterator[None]:
    """Signals are for the script. Ctrl-C at a terminal reaches it by itself."""
    before = {number: signal.signal(number, script.tell) for number in LAST_WORDS}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # the end is under way


def run(cluster: Cluster, command: Sequence[str], *, grace: float) -> int:
    """Start a cluster, run a script as its client, and stop the cluster. The script's exit status.

    Raises
    ------
    LaunchError
        the engines did not come.
    """
    cluster.start(progress=None)
    try:
        assert cluster.cluster_id is not None
        script = Script(command, profile=cluster.profile, cluster=cluster.cluster_id, grace=grace)
        with _heeding(script):
            return script.wait()
    finally:
        cluster.stop()


class Beside:
    """A script beside rank 0, which is an engine itself. The cluster ends with the script, and the script soon after the cluster."""

    def __init__(self, command: Sequence[str], *, profile: str, cluster: str, grace: float) -> None:
        self._script = Script(command, profile=profile, cluster=cluster, grace=grace)
        self._profile, self._cluster = profile, cluster
        self._code = 0
        for number in LAST_WORDS:
            signal.signal(number, self._script.tell)
        self._thread = threading.Thread(target=self._run, name="mpicluster-script", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from mpicluster.client.client import Client

        self._code = self._script.wait()
        try:
            with Client(find(self._profile, self._cluster), wait=False) as rc:
                rc.shutdown()
        except (ClusterError, TimeoutError):
            pass  # it has ended by itself

    def code(self) -> int:
        """The script's exit status, once the cluster has ended."""
        self._script.tell()
        self._thread.join()
        return self._code
