"""Which engines a client has, and views of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from mpicluster.client import progress
from mpicluster.client.finding import story_of_job
from mpicluster.client.result import AsyncResult
from mpicluster.errors import ClusterStopped, EngineError, NoCluster, NoEnginesRegistered
from mpicluster.ids import Targets, select
from mpicluster.wire import messages as m
from mpicluster.wire.contact import Contact

if TYPE_CHECKING:
    from mpicluster.client.arrays.namespace import RemoteNamespace
    from mpicluster.client.client import Client
    from mpicluster.client.executor import ViewExecutor

__all__ = ["Engines"]


class Engines:
    """The part of a `Client` that knows which engines there are."""

    if TYPE_CHECKING:
        contact: Contact
        _guard: threading.Lock

        @property
        def _me(self) -> Client: ...

    def __init__(self) -> None:
        super().__init__()
        #: notified when the engines change, and at the end
        self._changed = threading.Condition(self._guard)
        self._engines: dict[int, m.EngineInfo] = {}
        #: whether all engines are of one MPI world
        self._one_world = True
        self._ids: list[int] = []
        self._welcome: m.Welcome | None = None
        self._epoch = 0
        #: why the connection is over, and what a call raises then
        self._lost: str | None = None
        self._kind: type[Exception] = ClusterStopped
        self._loss_reason = ""
        self._namespaces: dict[tuple[int, ...], RemoteNamespace] = {}

    @property
    def ids(self) -> list[int]:
        """Ids of the live engines."""
        return list(self._ids)

    @property
    def worlds(self) -> list[list[int]]:
        """Ids of the live engines by the MPI world that they are in: one for the job that started the cluster, one for each that attached.

        Engines of different worlds have no communicator in common: ``rc[rc.worlds[1]]`` is a view of one.
        """
        found: dict[int, list[int]] = {}
        for engine in sorted(self._engines.values(), key=lambda e: e.id):
            found.setdefault(engine.world, []).append(engine.id)
        return [found[number] for number in sorted(found)]

    def _runs(self, ids: list[int]) -> list[list[int]]:
        """Engines in this order, divided where one is of another MPI world than the one before."""
        if self._one_world:
            return [ids]
        engines = self._engines
        worlds = [engines[i].world if i in engines else -1 for i in ids]
        return [[i for _, i in run] for _, run in groupby(zip(worlds, ids, strict=True), key=itemgetter(0))]

    def _refuse_several_worlds(self, ids: list[int]) -> None:
        if len(self._runs(ids)) > 1:
            raise ValueError(
                f"what engines do together is done by engines of one MPI world, and engines {', '.join(map(str, ids))} are of several: "
                "rc.worlds lists them; rc[rc.worlds[0]] is a view of the first"
            )

    def _live(self) -> list[int]:
        """`ids`, to choose from; raises when there is no cluster any more."""
        if self._lost is not None:
            raise self._kind(f"there is no cluster to work on: {self._lost}")
        return list(self._ids)

    def __len__(self) -> int:
        return len(self._engines)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Targets) -> Any:
        """A `DirectView`: ``rc[0]``, ``rc[-1]``, ``rc[::2]``, ``rc[[0, 2]]``."""
        if not isinstance(key, int | slice | list | tuple | range):
            raise TypeError(f"a Client is indexed by int, slice, list, tuple or range, not {type(key).__name__}")
        chosen = select(key, self._live())
        return self.direct_view(chosen[0] if isinstance(key, int) else chosen)

    def __iter__(self) -> Iterator[Any]:
        """One `DirectView` for each engine."""
        return (self.direct_view(i) for i in self.ids)

    def direct_view(self, targets: Targets = "all", **flags: Any) -> Any:
        """A view that addresses engines. ``"all"`` means those that are alive at each call."""
        from mpicluster.client.direct import DirectView

        if not (isinstance(targets, str) and targets == "all"):
            chosen = select(targets, self._live())
            targets = chosen[0] if isinstance(targets, int) else chosen
        return DirectView(self._me, targets, **flags)

    @property
    def xp(self) -> RemoteNamespace:
        """Functions of arrays that live on all engines: the array API standard's. ``rc[:2].xp`` are those on some."""
        return self._namespace(self._live())

    def _namespace(self, engines: list[int]) -> RemoteNamespace:
        from mpicluster.client.arrays.namespace import RemoteNamespace

        if not engines:
            raise NoEnginesRegistered("there are no engines for arrays to live on")
        self._refuse_several_worlds(engines)
        with self._guard:
            known = self._namespaces.get(tuple(engines))
        return known or self._namespaces.setdefault(tuple(engines), RemoteNamespace(self.direct_view(engines), engines))

    def load_balanced_view(self, targets: Targets = None, **flags: Any) -> Any:
        """A view that leaves the choice of the engine to the hub, among ``targets`` if given."""
        from mpicluster.client.balanced import LoadBalancedView

        return LoadBalancedView(self._me, None if targets is None else select(targets, self._live()), **flags)

    def broadcast_view(self, targets: Targets = "all", is_coalescing: bool = False, **flags: Any) -> Any:
        """A direct view for many engines: what comes from them comes together, if ``is_coalescing``."""
        from mpicluster.client.broadcast import BroadcastView

        if not (isinstance(targets, str) and targets == "all"):
            targets = select(targets, self._live())
        return BroadcastView(self._me, targets, is_coalescing=is_coalescing, **flags)

    def clear(self, targets: Targets = None, block: bool | None = None) -> AsyncResult | None:
        """Empty the namespaces of engines (default: all)."""
        cleared: AsyncResult | None = self.direct_view("all" if targets is None else targets).clear(block=block)
        return cleared

    def executor(self, targets: Targets = None) -> ViewExecutor:
        """A `concurrent.futures.Executor` whose workers are the engines, or ``targets``."""
        executor: ViewExecutor = self.load_balanced_view(targets).executor
        return executor

    def wait_for_engines(
        self,
        n: int | None = None,
        *,
        timeout: float | None = None,
        block: bool = True,
        interactive: bool | None = None,
        widget: bool | None = None,
    ) -> Future[None] | None:
        """Wait until there are ``n`` engines (default: as many as the cluster starts with).

        Parameters
        ----------
        block
            False to get a future that waits.
        interactive
            whether to show a progress bar; where a person looks on, if not given.
        widget
            whether it is a notebook widget; found out if not given.

        Raises
        ------
        TimeoutError
            they did not come within ``timeout`` seconds.
        EngineError
            one died, so that they cannot all come. Of more than the cluster started with, others may attach: they are waited for.
        """
        timeout = None if timeout is None or not 0 <= timeout < math.inf else timeout
        if block:
            self._await_engines(n, timeout, interactive, widget)
            return None
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()

        def wait() -> None:
            try:
                self._await_engines(n, timeout, False, None)
            except Exception as e:  # noqa: BLE001 - it is raised by the future
                future.set_exception(e)
            else:
                future.set_result(None)

        threading.Thread(target=wait, name="mpicluster-engines", daemon=True).start()
        return future

    def _await_engines(self, n: int | None, timeout: float | None, interactive: bool | None, widget: bool | None) -> None:
        assert self._welcome is not None
        wanted = self._welcome.expected if n is None else n
        if n is None and self._epoch > 0:
            return  # this cluster goes on with fewer

        ours = wanted <= self._welcome.expected  # more come by `mpicluster attach`, however many have died

        def settled() -> bool:
            return len(self._engines) >= wanted or self._lost is not None or (ours and self._epoch > 0)

        if not settled() and (progress.interactive() if interactive is None else interactive):
            progress.wait_engines_interactive(self._me, wanted, settled, timeout, widget)
        else:
            with self._changed:
                self._changed.wait_for(settled, timeout)
        with self._changed:
            here, lost, epoch, reason = len(self._engines), self._lost, self._epoch, self._loss_reason
        if here >= wanted:
            return
        if lost is not None:
            raise ClusterStopped(f"the cluster ended while waiting for its engines: {lost}{story_of_job(self.contact)}")
        if ours and epoch > 0:
            reason = reason or "an engine was lost before this client connected"
            story = story_of_job(self.contact, seldom=True)
            raise EngineError(f"{reason}; {here} engines are left, {wanted} were asked for{story}")
        raise TimeoutError(f"{here} of {wanted} engines are there after {timeout:g} s; see `mpicluster logs`")

    # -- what the hub says of them -----------------------------------------------------------------------------------

    def _await_welcome(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._welcome is not None or self._lost is not None, timeout)
            if self._lost is not None:
                raise NoCluster(f"cluster {self.contact.cluster}: {self._lost}")
            if self._welcome is None:
                raise NoCluster(
                    f"the hub of cluster {self.contact.cluster} (pid {self.contact.hub_pid} on {self.contact.host}) does not answer "
                    f"within {timeout:g} s; see `mpicluster status` and `mpicluster logs`"
                )

    def _on_news(self, message: m.Welcome | m.Engines) -> None:
        with self._changed:
            if isinstance(message, m.Welcome):
                self._welcome = message
            elif message.reason:
                self._loss_reason = message.reason
            self._epoch = message.epoch
            self._engines = {e.id: e for e in message.engines}
            self._ids = sorted(self._engines)
            self._one_world = len({e.world for e in message.engines}) < 2
            self._changed.notify_all()
