"""``mpicluster run``: engines, a script that is their client, and the end of both."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from mpicluster import config
from mpicluster.cluster.worker import die_with_parent, new_id
from mpicluster.errors import ClusterError, NoCluster
from mpicluster.launch import mpi as launch_mpi
from mpicluster.launch.process import Child, Forked
from mpicluster.wire.contact import CONTACT, RUN, Contact, find, is_alive, profile_dir

if TYPE_CHECKING:
    from mpicluster.cluster.cluster import Cluster

__all__ = ["Script", "run", "run_beside"]

#: Seconds between two looks at the engine.
_LOOK = 0.05
#: What a shell adds to the number of the signal that ended a process.
_BY_SIGNAL = 128
#: So long a script may take between SIGTERM and SIGKILL, seconds.
_PATIENCE = 1.0


class Script:
    """A Python script under way, whose `Client()` finds one cluster."""

    def __init__(self, command: Sequence[str], *, profile: str, cluster: str, grace: float) -> None:
        contact = profile_dir(profile, create=True) / f"{cluster}.json"
        ours = {CONTACT: str(contact), RUN: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        environment = {**launch_mpi.clean_environment(os.environ), **ours}
        self._grace = grace
        self._child = Child([sys.executable, *command], env=environment)
        #: whether it was told to end
        self.told = False

    def tell(self, _number: int = signal.SIGTERM, _frame: FrameType | None = None) -> None:
        """Let it end: KeyboardInterrupt now, SIGTERM after its time of grace, SIGKILL some seconds later. Once."""
        if self.told:
            return
        self.told = True
        self._child.send(signal.SIGINT)
        self._insist()

    def adopt(self) -> None:
        """This process is a fork of the one that has started it, and sees to it from now on."""
        if self.told:
            self._insist()

    def _insist(self) -> None:
        for number, after in ((signal.SIGTERM, self._grace), (signal.SIGKILL, self._grace + _PATIENCE)):
            timer = threading.Timer(after, self._child.send, [number])
            timer.daemon = True
            timer.start()

    def wait(self) -> int:
        """Its exit status, as a shell has it: 128 and the number of the signal that ended it."""
        return self._child.wait()

    def is_over(self, within: float) -> bool:
        """Whether it is, after so many seconds."""
        return self._child.is_over(within)


@contextlib.contextmanager
def _heeding(script: Script) -> Iterator[None]:
    """Signals are for the script. Ctrl-C at a terminal reaches it by itself."""
    for number in config.LAST_WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, script.tell)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number in config.LAST_WORDS:
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


def run_beside(be_engine: Callable[[str], int], command: Sequence[str], *, profile: str, cluster: str | None, grace: float) -> int:
    """As rank 0 of one's own mpiexec: a process that is the engine, and this one, which looks after the script. The script's exit status.

    So whatever becomes of the engine, and of MPI, the script is heard to its end, and is told of signals at once. The fork is the
    launcher's rank, by what it inherits: there ``be_engine(cluster)`` is called, and its value returned.
    """
    cluster = cluster or new_id()
    old = _contact(profile, cluster)  # of another, or left behind
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()  # no thread has been started yet
    if pid == 0:
        for number in config.LAST_WORDS:
            signal.signal(number, _pass)  # they are for the script, which may need its engines then
        return be_engine(cluster)
    die_with_parent()
    engine = Forked(pid)
    while (contact := _contact(profile, cluster)) is None or contact == old:
        if engine.code() is not None:
            return engine.code() or 1  # it has said why
        time.sleep(_LOOK)
    script = Script(command, profile=profile, cluster=cluster, grace=grace)
    with _heeding(script):
        while not script.is_over(_LOOK):
            if (engine.code() or 0) > _BY_SIGNAL and contact.survives and is_alive(contact) and not script.told:
                return _go_on_without(script, contact)
        code = script.wait()
        _shut_down(contact)
    if not engine.wait(config.START_TIMEOUT):
        engine.end(config.STOP_GRACE)
    return code


def _pass(_number: int, _frame: FrameType | None) -> None:
    """Nothing."""


def _go_on_without(script: Script, contact: Contact) -> int:
    """The engine is dead, the others live. Its death is seen by the launcher if this process dies, too: a fork looks after the script."""
    if os.fork() > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    script.adopt()
    while not script.is_over(_LOOK):
        pass
    _shut_down(contact)
    return 0


def _contact(profile: str, cluster: str) -> Contact | None:
    try:
        return find(profile, cluster)
    except NoCluster:
        return None


def _shut_down(contact: Contact) -> None:
    """End a cluster of this host whose script is over. Its engines may just be coming."""
    from mpicluster.client.client import Client

    try:
        with Client(contact, timeout=config.START_TIMEOUT) as rc:
            rc.shutdown()
    except (ClusterError, TimeoutError):
        if is_alive(contact):
            os.kill(contact.hub_pid, signal.SIGTERM)
