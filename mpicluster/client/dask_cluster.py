"""dask on the engines: a scheduler in one of them, a worker in each. Needs dask's ``distributed``, here and there.

All of dask runs in a thread of the engine, beside its own tasks. Its connections are encrypted, with keys made for this dask cluster, which
reach the engines as arguments of mpicluster's calls: who can connect to mpicluster can connect to dask, and nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mpicluster.client.result import AsyncResult
from mpicluster.config import START_TIMEOUT, STOP_GRACE
from mpicluster.ids import Targets, select

distributed: Any  # partly typed
try:
    import distributed
except ImportError as e:
    raise ImportError("dask's distributed is needed for this, on the engines too: pip install 'mpicluster[dask]'") from e

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["become_dask", "start_scheduler", "start_worker", "state", "stop_dask", "stop_scheduler", "stop_worker"]

#: dask's clients that were given out, closed when their scheduler is stopped
_given: weakref.WeakKeyDictionary[Client, list[Any]] = weakref.WeakKeyDictionary()


class State(NamedTuple):
    """What an engine has of dask."""

    #: of the scheduler to which its worker belongs, or which it runs; with the keys
    address: str | None
    security: Any
    works: bool
    schedules: bool


def become_dask(
    client: Client, targets: Targets, port: int, nanny: bool, scheduler_args: dict[str, Any] | None, worker_args: dict[str, Any]
) -> Any:
    """`Client.become_dask`."""
    live = client._live()
    chosen = select(targets, live)
    states = dict(zip(live, client.direct_view(live).apply_sync(state), strict=True))
    running = next((s for s in states.values() if s.schedules), None)
    hosts = {e.host for e in client._engines.values()}
    here = {"host": "127.0.0.1"} if hosts == {socket.gethostname()} else {}
    if running is None:
        security = (scheduler_args or {}).get("security") or distributed.Security.temporary()
        options = {**here, "port": port, **(scheduler_args or {}), "security": security}
        address = client.direct_view(chosen[0]).apply_sync(start_scheduler, options)
    else:
        address, security = running.address, running.security
    wanted = [i for i in chosen if not states[i].works]
    options = {**worker_args, "security": security}
    _all([client.direct_view(i).apply_async(start_worker, i, address, options, nanny=nanny) for i in wanted])
    given = _given.setdefault(client, [])
    dask = next((c for c in given if c.status == "running" and c.scheduler.address == address), None)
    if dask is None:
        dask = distributed.Client(address, security=security, timeout=START_TIMEOUT)
        given.append(dask)
    dask.wait_for_workers(len(wanted) + sum(s.works for s in states.values()), timeout=START_TIMEOUT)
    return dask


def stop_dask(client: Client, targets: Targets) -> None:
    """`Client.stop_dask`."""
    live = client._live()
    _all([client.direct_view(i).apply_async(stop_worker) for i in select(targets, live)])
    states = dict(zip(live, client.direct_view(live).apply_sync(state), strict=True))
    if any(s.works for s in states.values()):
        return
    for dask in _given.pop(client, []):
        dask.close()
    _all([client.direct_view(i).apply_async(stop_scheduler) for i, s in states.items() if s.schedules])


def _all(results: list[AsyncResult]) -> None:
    """Wait for all of them, then raise the first error."""
    for result in results:
        result.wait()
    for result in results:
        result.get()


# -- on an engine --------------------------------------------------------------------------------------------------------


class _Node:
    """dask in this process: an event loop in a thread, the worker, the scheduler."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mpicluster-dask", daemon=True)
        self._thread.start()
        self.worker: Any = None
        self.scheduler: Any = None
        self.security: Any = None

    def start(self, make: Callable[[], Any]) -> Any:
        """A server that runs."""

        async def begin() -> Any:
            return await make()

        return self.do(begin(), START_TIMEOUT)

    def do(self, coroutine: Any, timeout: float) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_node: _Node | None = None


def _here() -> _Node:
    global _node
    if _node is None:
        _node = _Node()
    return _node


def _leave() -> None:
    """Nothing of it stays when there is neither worker nor scheduler."""
    global _node
    if _node is not None and _node.worker is None and _node.scheduler is None:
        _node.end()
        _node = None


def _runs(server: Any) -> bool:
    return server is not None and server.status not in (distributed.Status.closed, distributed.Status.closing, distributed.Status.failed)


def state() -> State:
    """What there is here."""
    if _node is None:
        return State(None, None, works=False, schedules=False)
    address = _node.scheduler.address if _node.scheduler is not None else None
    return State(address, _node.security, works=_runs(_node.worker), schedules=_runs(_node.scheduler))


def start_scheduler(options: dict[str, Any]) -> str:
    """Run a scheduler here; its address."""
    node = _here()
    try:
        # what it shows by plain HTTP is for this host only
        options = {"protocol": "tls://", "dashboard": False, "dashboard_address": "127.0.0.1:0", **options}
        node.scheduler = node.start(lambda: distributed.Scheduler(**options))
        node.security = options["security"]
        address: str = node.scheduler.address
        return address
    finally:
        _leave()


def start_worker(engine: int, address: str, options: dict[str, Any], *, nanny: bool) -> None:
    """Run a worker here. Code finds it as ``dask_worker``; and ``__main__``, in a task of dask's, is the engine's namespace."""
    node = _here()
    try:
        plain = {"name": engine, "nthreads": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": logging.WARNING, **options}
        kind = distributed.Nanny if nanny else distributed.Worker
        node.worker = node.start(lambda: kind(address, **plain))
        sys.modules["__main__"].__dict__["dask_worker"] = node.worker
    finally:
        _leave()


def stop_worker() -> None:
    """End the worker; a task that it still runs goes on to its end, unheard, in its thread."""
    if _node is None or _node.worker is None:
        return
    worker, _node.worker = _node.worker, None
    names = sys.modules["__main__"].__dict__
    if names.get("dask_worker") is worker:
        del names["dask_worker"]
    try:
        if _runs(worker):
            patience = {} if isinstance(worker, distributed.Nanny) else {"executor_wait": False}
            _node.do(worker.close(timeout=STOP_GRACE, **patience), 2 * STOP_GRACE)
    finally:
        _leave()


def stop_scheduler() -> None:
    """End the scheduler."""
    if _node is None or _node.scheduler is None:
        return
    scheduler, _node.scheduler = _node.scheduler, None
    try:
        _node.do(scheduler.close(), 2 * STOP_GRACE)
    finally:
        _leave()
