"""One engine process from start to end: MPI, the hub beside rank 0, the engine's loop, and a clean way out."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from mpicluster import config
from mpicluster.config import HistoryLimits
from mpicluster.errors import LaunchError, NoCluster
from mpicluster.hub.orders import Berth, Invitation, Orders
from mpicluster.launch import mpi as launch_mpi
from mpicluster.launch.hub import HubProcess
from mpicluster.wire.address import reachable
from mpicluster.wire.contact import is_alive, load, profile_dir

__all__ = ["die_with_parent", "new_id", "run_engine"]


def run_engine(
    *,
    profile: str = "default",
    cluster: str | None = None,
    owner: int | None = None,
    launcher: int | None = None,
    history: HistoryLimits | None = config.HISTORY_LIMITS,
    scheme: str = "leastload",
    interface: str | None = None,
    attach: str | None = None,
) -> int:
    """Be an engine until the cluster ends; returns the exit code of this process.

    Collective over all ranks of the launcher. Rank 0 also starts the hub; every rank gets its address over MPI.

    With ``attach`` there is a hub already, that of the cluster, or of the newest of the profile; its value names the place that was asked
    for, and is empty if none was.
    """
    die_with_parent()
    from mpicluster.engine.world import MPI, World

    problem = launch_mpi.check_library(MPI.Get_library_version(), os.environ)
    if problem is not None:
        _refuse(problem)
    if attach is not None:
        world = World()
        problem = launch_mpi.check_launcher(world.size, world.id, os.environ)
        if problem is not None:
            _refuse(problem)
        return _serve(world, _invited(world, profile, cluster, attach))
    rank, size = launch_mpi.launcher_rank(os.environ), launch_mpi.launcher_size(os.environ)
    taken = _taken(profile, cluster) if cluster is not None and not rank else None
    cluster = cluster or new_id()
    start_hub = functools.partial(
        _start_hub, cluster=cluster, profile=profile, owner=owner, launcher=launcher, history=history, scheme=scheme, interface=interface
    )
    hub = None
    if size is not None and rank == 0 and taken is None:
        hub = start_hub(size=size)  # it starts while MPI does
    world = World()
    problem = launch_mpi.check_launcher(world.size, world.id, os.environ)
    if problem is not None:
        if hub is not None:
            hub.abandon()
        _refuse(problem)
    said: Berth | str = ""
    if world.id == 0:
        try:
            said = taken or msgspec.json.decode((hub or start_hub(size=world.size)).answer(), type=Berth)
        except LaunchError as e:
            said = str(e)
    return _serve(world, _agreed(world, said))


def _taken(profile: str, cluster: str) -> str | None:
    """Whether a cluster of that id runs here already; as a sentence."""
    try:
        other = load(profile_dir(profile) / f"{cluster}.json")
    except NoCluster:
        return None
    if not is_alive(other):
        return None
    return f"a cluster {cluster!r} runs already under profile {profile!r} on {other.host}: stop it, or take another id"


def _agreed(world: Any, said: Any) -> Any:
    """What rank 0 says; if that is why there will be no cluster, all ranks end. Collective."""
    said = world.wire.bcast(said)
    if not isinstance(said, str):
        return said
    if world.rank == 0:
        sys.stderr.write(said.rstrip() + "\n")
    _finish(world)
    sys.exit(2)


def _invited(world: Any, profile: str, cluster: str | None, place: str) -> Berth:
    """Where the hub of a cluster is that runs, and a place in it for this world. Collective."""
    from mpicluster.client.client import Client

    said: Invitation | str = ""
    if world.rank == 0:
        try:
            with Client(profile=profile, cluster=cluster, wait=False, timeout=config.START_TIMEOUT) as rc:
                said = msgspec.json.decode(rc._attach(world.size, place), type=Invitation)
        except Exception as e:  # noqa: BLE001 - the others wait for this rank
            said = f"these engines cannot attach: {e}"
    invitation: Invitation = _agreed(world, said)
    world.attach(invitation.world, invitation.first)
    return invitation.berth


def _serve(world: Any, berth: Berth) -> int:
    """Register with the hub, and serve until the cluster ends. The exit code of this process."""
    from mpicluster.engine.world import MPI

    threads = _limit_threads(world)

    from mpicluster.engine.exits import exit_by_signal
    from mpicluster.engine.loop import Engine

    try:
        engine = Engine(world, lambda identity, context: _socket(berth, identity, context), threads)
    except ConnectionError as e:
        sys.stderr.write(f"mpicluster engine {world.id}: {e}\n")
        MPI.COMM_WORLD.Abort(1)
    set_current(world)
    if world.survives():
        exit_by_signal()
    try:
        engine.run()
        engine.close()
    except Exception:  # noqa: BLE001 - a fault of ours: the others must not wait for this rank to end MPI with them
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    _finish(world)
    return 0


def _refuse(problem: str) -> NoReturn:
    """Say why there is no engine here, and leave without MPI's own farewells."""
    sys.stderr.write(problem.rstrip() + "\n")
    sys.stderr.flush()
    os._exit(2)


def set_current(world: Any) -> None:
    """Let `mpicluster.comm` find the world of this process, and let ``MPI.COMM_WORLD`` be the communicator that is mended."""
    from mpicluster import engine, here

    engine.current_world = world
    MPI: Any = sys.modules["mpi4py.MPI"]  # noqa: N806 - its name
    here.everyone, here.communicator = MPI.COMM_WORLD, lambda: world.comm
    MPI.COMM_WORLD = world.comm


def new_id() -> str:
    """For a cluster that was given none."""
    return time.strftime("%Y%m%d-%H%M%S-", time.localtime()) + str(os.getpid())


def _start_hub(*, profile: str, cluster: str, **orders: Any) -> HubProcess:
    """Start the hub, with these orders."""
    log_dir = profile_dir(profile, create=True) / "logs" / cluster
    log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    orders_ = Orders(cluster=cluster, profile=profile, log_dir=str(log_dir), **orders)
    return HubProcess(msgspec.json.encode(orders_), Path(log_dir) / "hub.log", launch_mpi.clean_environment(os.environ))


def _socket(berth: Berth, identity: bytes, context: Any) -> tuple[Any, str]:
    """A socket for the hub, and the address to connect it to: by ipc on its host, else by TCP with CURVE."""
    import zmq

    s = context.socket(zmq.DEALER)
    s.setsockopt(zmq.IDENTITY, identity)
    s.sndhwm = s.rcvhwm = 0
    s.setsockopt(zmq.RECONNECT_IVL, -1)
    if berth.host == socket.gethostname() and Path(berth.ipc.removeprefix("ipc://")).exists():
        return s, berth.ipc
    address = reachable(berth.tcp)
    if address is None:
        raise ConnectionError(
            f"the hub on {berth.host} cannot be reached from {socket.gethostname()} at any of {', '.join(berth.tcp)}; "
            "a firewall between the nodes, or no common network?"
        )
    s.curve_serverkey = berth.server_key.encode()
    s.curve_publickey, s.curve_secretkey = berth.engine_public.encode(), berth.engine_secret.encode()
    s.setsockopt(zmq.HEARTBEAT_IVL, int(config.HEARTBEAT * 1000))
    s.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(config.HEARTBEAT_TIMEOUT * 1000))
    return s, address


def _limit_threads(world: Any) -> int:
    """Give this engine its share of the cores for BLAS and OpenMP, unless the user has said otherwise. Collective."""
    mine = tuple(sorted(os.sched_getaffinity(0)))
    local = world.local_ranks()
    sharing: int = local.allgather(mine).count(mine)
    local.Free()
    threads = max(1, min(len(mine), launch_mpi.cores()) // sharing)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    if any(name in os.environ for name in names):
        given = [os.environ[name] for name in names if name in os.environ]
        return int(given[0]) if given[0].isdigit() else threads
    os.environ.update(dict.fromkeys(names, str(threads)))
    if "numpy" in sys.modules:  # loaded before us (a .pth file, say): its threads are set already
        import threadpoolctl

        threadpoolctl.threadpool_limits(threads)
    return threads


def die_with_parent() -> None:
    """End when the launcher's process on this host does, however it ended (Linux; under mpiexec only)."""
    if launch_mpi.launcher_size(os.environ) is None or not sys.platform.startswith("linux"):
        return
    if "SLURM_STEP_ID" in os.environ and "OMPI_COMM_WORLD_SIZE" not in os.environ:
        return  # srun's daemon starts tasks from threads that end
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        os._exit(1)


def _finish(world: Any) -> None:
    """End MPI, which after failures may never return, and holds the GIL meanwhile: only the system's timer ends it then."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, config.STOP_GRACE / 2)
    world.finalize()
    signal.setitimer(signal.ITIMER_REAL, 0.0)
