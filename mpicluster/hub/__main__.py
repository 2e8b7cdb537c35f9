"""The hub process: ``python -m mpicluster.hub``, started by rank 0.

Reads its `Orders` (JSON, one line) from standard input, answers with `Berth` on standard output, and serves until the
cluster has ended. The contact file and the folder of its sockets are its own to make and to remove.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from mpicluster import config
from mpicluster.hub.history import History
from mpicluster.hub.orders import Berth, Orders
from mpicluster.hub.router import Keys, Router
from mpicluster.hub.scheduler import Scheduler
from mpicluster.wire import contact as contact_file
from mpicluster.wire.address import host_addresses
from mpicluster.wire.contact import Contact

__all__ = ["main"]

_log = logging.getLogger("mpicluster.hub")
#: So long the history's thread may keep the loop waiting for the interpreter, seconds.
_SWITCH = 0.0001


def main() -> int:
    """Serve one cluster."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the engines' end is the hub's
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        hosts = host_addresses(orders.interface or os.environ.get("MPICLUSTER_INTERFACE") or None)  # the second is the site's
    except ValueError as e:
        print(e, file=sys.stderr)
        return 1
    _steady_allocator()
    run_dir = tempfile.mkdtemp(prefix="mpicluster-", dir=os.environ.get("XDG_RUNTIME_DIR") or None)
    scheduler = Scheduler(orders.cluster, orders.size, orders.scheme)
    keys = Keys.fresh()
    sys.setswitchinterval(_SWITCH)
    path = None if orders.history is None else str(Path(orders.log_dir) / "history.db")
    router = Router(scheduler, keys, run_dir, History(orders.cluster, path, orders.history))
    at = router.addresses
    contact = None

    def announce() -> None:
        nonlocal contact
        contact = Contact(
            cluster=orders.cluster,
            profile=orders.profile,
            host=socket.gethostname(),
            hub_pid=os.getpid(),
            hub_started=contact_file.process_start(os.getpid()),
            launcher_pid=orders.launcher,
            ipc=at.client_ipc,
            tcp=[f"tcp://{h}:{at.client_port}" for h in hosts],
            server_key=keys.server_public.decode(),
            client_public=keys.client_public.decode(),
            client_secret=keys.client_secret.decode(),
            engines=orders.size,
            mpi=scheduler.mpi,
            survives=scheduler.survives,
            started=time.time(),
            log_dir=orders.log_dir,
        )
        contact_file.write(contact)

    router.on_first_engine = announce
    _rare_collections()
    try:
        berth = Berth(
            ipc=at.engine_ipc,
            tcp=[f"tcp://{h}:{at.engine_port}" for h in hosts],
            host=socket.gethostname(),
            server_key=keys.server_public.decode(),
            engine_public=keys.engine_public.decode(),
            engine_secret=keys.engine_secret.decode(),
        )
        router.berth = berth
        sys.stdout.buffer.write(msgspec.json.encode(berth) + b"\n")
        sys.stdout.flush()
        _log.info("cluster %s, profile %s: serving %d engines", orders.cluster, orders.profile, orders.size)
        _serve(router, orders)
    finally:
        if contact is not None:
            contact_file.remove(contact)
        router.close()
        shutil.rmtree(run_dir, ignore_errors=True)
        _log.info("ended: %s", scheduler.ended)
    return 0


def _serve(router: Router, orders: Orders) -> None:
    scheduler = router.scheduler
    stopping = False

    def terminate(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, terminate)
    owner = _watch(orders.owner)
    wake_read, wake_write = os.pipe()  # a signal ends the wait at once
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    router.watch(wake_read)
    if owner is not None:
        router.watch(owner)
    parent = sys.stdin.fileno()
    router.watch(parent)
    started = time.monotonic()
    deadline = None
    while True:
        starting = len(scheduler.engines) < orders.size and (scheduler.roster.epoch == 0 or not scheduler.engines)
        timeout = None
        if deadline is not None:
            timeout = max(0.0, deadline - time.monotonic())
        elif starting:
            timeout = max(0.0, started + config.START_TIMEOUT - time.monotonic())
        readable = router.run_once(timeout)
        if parent in readable and not os.read(parent, 1):
            router.unwatch(parent)
            if not scheduler.engines and scheduler.ended is None:
                scheduler.end("rank 0 ended before the engines were there")
        if wake_read in readable:
            os.read(wake_read, 64)
        if stopping and scheduler.ended is None:
            scheduler.end("the hub was told to terminate")
        if owner is not None and owner in readable:
            router.unwatch(owner)
            scheduler.end("the process that started it ended")
        if scheduler.ended is None and starting and time.monotonic() > started + config.START_TIMEOUT:
            scheduler.end(f"only {len(scheduler.engines)} of {orders.size} engines came within {config.START_TIMEOUT:.0f} s")
        if scheduler.ended is not None:
            if deadline is None:
                deadline = time.monotonic() + config.STOP_GRACE
                router.run_once(0)  # say it
            if router.quiet or time.monotonic() >= deadline:
                return


def _watch(pid: int | None) -> int | None:
    """A descriptor that becomes readable when a process of this host ends; None if there is none to watch."""
    if pid is None:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        read, write = os.pipe()  # ended already
        os.close(write)
        return read
    except OSError:
        return None


def _steady_allocator() -> None:
    """Let malloc serve chunks from its heap and reuse them: fresh pages cost more than the copy into them."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        m_mmap_threshold, m_trim_threshold = -3, -1
        libc.mallopt(m_mmap_threshold, 32 * 1024 * 1024)
        libc.mallopt(m_trim_threshold, 32 * 1024 * 1024)


def _rare_collections() -> None:
    """Look for cycles seldom: a task leaves none, and what it does leave for the history made the default look after every few hundred."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


if __name__ == "__main__":
    sys.exit(main())
