"""joblib's calls, scikit-learn's ``n_jobs`` among them, on the engines of a load-balanced view. Needs joblib 1.4 or newer.

joblib puts quick calls together into batches, a batch is one task. What a batch refers to travels with it, globals too. An array of a
megabyte or more that is in the first batch of a call, or in a second one, goes to each engine once, and is read-only there, as with
joblib's own processes.
"""

from __future__ import annotations

import copy
import os
import threading
import uuid
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpicluster.errors import ClusterError
from mpicluster.serial import shared

try:
    import joblib
    from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend, ThreadingBackend
except ImportError as e:
    raise ImportError("this needs joblib 1.4 or newer: pip install 'mpicluster[joblib]'") from e

if TYPE_CHECKING:
    from mpicluster.client.balanced import LoadBalancedView

__all__ = ["InnerThreads", "MPIClusterBackend", "register"]

#: arrays from here on are worth a name: joblib's own processes share them from the same size on
_SHARED_FROM = 1_000_000


def register(name: str, view: Callable[..., LoadBalancedView], *, make_default: bool) -> None:
    """Make ``joblib.parallel_config(backend=name, ...)`` use the view that ``view(...)`` gives, with what else is said there."""

    def make(nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any) -> MPIClusterBackend:
        return MPIClusterBackend(view(**options), nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)

    joblib.register_parallel_backend(name, make, make_default=make_default)


class MPIClusterBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's backend on a load-balanced view.

    ``n_jobs`` is a number of engines: -1 for all of them, fewer for the first so many.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = False
    uses_threads = False
    default_n_jobs = -1

    def __init__(self, view: LoadBalancedView, *, nesting_level: int | None = None, inner_max_num_threads: int | None = None) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._view = view
        #: the view with the engines of the present calls
        self._work = view
        self._arrays = _Arrays(view)
        #: calls of `Parallel` under way
        self._calls = 0

    # -- what joblib asks --------------------------------------------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many engines a call with this ``n_jobs`` uses."""
        engines = len(self._engines())
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return min(n_jobs, engines) if n_jobs > 0 else max(engines + 1 + n_jobs, 1)

    def _engines(self) -> list[int]:
        return self._view._allowed() or self._view.client._live()

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Get ready for calls with this ``n_jobs``."""
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        engines = self._engines()
        count = self.effective_n_jobs(n_jobs)
        self._work = copy.copy(self._view)
        self._work._executor = None
        self._arrays.engines = engines[:count]
        if count < len(engines):
            self._work.targets = self._arrays.engines
        return count

    def get_nested_backend(self) -> tuple[Any, int | None]:
        """joblib within a call: threads, as many as the engine has cores for itself; below that, none."""
        level = (self.nesting_level or 0) + 1
        return (SequentialBackend if level > 1 else InnerThreads)(nesting_level=level), None

    # -- calls -------------------------------------------------------------------------------------------------------

    def start_call(self) -> None:
        """A call of `Parallel` begins."""
        self._calls += 1

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Run a batch. What cannot be sent fails like one that was: joblib calls this where nobody hears an exception."""
        result: Future[Any]
        try:
            stream, buffers = shared.pack(func, self._arrays.name_of)
            self._arrays.batch_sent()
            if self._work.targets is not None:  # of which some may have died
                live = self._view.client.ids
                self._work.targets = [i for i in self._arrays.engines if i in live]
            result = self._work.executor.submit(shared.call, stream, buffers, self.inner_max_num_threads)
        except Exception as e:  # noqa: BLE001 - of any type: what is pickled may do anything
            result = Future()
            result.set_exception(e)
        if callback is not None:
            result.add_done_callback(callback)
        return result

    def apply_async(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """What `submit` was called before joblib 1.5."""
        return self.submit(func, callback)

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """The values of a batch."""
        return future.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End all batches: a call was interrupted, has failed, or takes too long."""
        executor = self._work.executor
        executor.shutdown(wait=False)
        try:
            executor.interrupt()
        except (ClusterError, TimeoutError):
            pass  # there is nothing to end, or nobody to do it

    def stop_call(self) -> None:
        """A call of `Parallel` has ended."""
        self._calls -= 1
        if self._calls <= 0:
            self._arrays.drop()

    def terminate(self) -> None:
        """No more calls for now."""
        self.reset_batch_stats()


class InnerThreads(ThreadingBackend):  # type: ignore[misc]
    """Threads of an engine: no more than its share of the cores, which is what it gives BLAS and OpenMP."""

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many threads a call with this ``n_jobs`` uses."""
        share = os.environ.get("OMP_NUM_THREADS", "")
        wanted: int = super().effective_n_jobs(n_jobs)
        return min(wanted, int(share) if share.isdigit() and int(share) else len(os.sched_getaffinity(0)))


class _Seen(NamedTuple):
    """An array, as long as it lives, and its name if it was sent."""

    array: weakref.ref[Any]
    name: str | None


class _Arrays:
    """Arrays that the batches of a call share.

    One in the first batch is most often in all of them, and the engines are idle: it goes to all by one broadcast. Of others it is known
    only when they are seen again. Then the engines are at work, and must not wait for each other: each gets its own.
    """

    def __init__(self, view: LoadBalancedView) -> None:
        self._client = view.client
        self.engines: list[int] = []
        #: guards what follows: batches are packed in the caller's thread and in that of callbacks
        self._lock = threading.Lock()
        self._first = True
        self._seen: dict[int, _Seen] = {}
        #: what the engines have
        self._names: list[str] = []

    def name_of(self, array: Any) -> str | None:
        """The name under which the engines have it; None when it is to travel with its batch."""
        if array.nbytes < _SHARED_FROM:
            return None
        with self._lock:
            seen = self._seen.get(id(array))
            if seen is not None and seen.array() is not array:
                seen = None  # that one is gone, and this one has its id
            if seen is not None and seen.name is not None:
                return seen.name
            name = None
            if seen is not None or self._first:
                name = uuid.uuid4().hex
                self._names.append(name)
                self._send(name, array, together=self._first)
            self._seen[id(array)] = _Seen(weakref.ref(array), name)
            return name

    def batch_sent(self) -> None:
        """The next one is not the first."""
        self._first = False

    def _send(self, name: str, array: Any, *, together: bool) -> None:
        live = [i for i in self.engines if i in self._client.ids]
        for targets in [live] if together else [[i] for i in live]:
            view = self._client.direct_view(targets)
            view._apply(shared.keep, (name, np.asarray(array)), {}, block=True)  # not a copy: the call has it as long as it runs

    def drop(self) -> None:
        """The call is over: the engines forget them."""
        with self._lock:
            names, self._names = self._names, []
            self._seen.clear()
            self._first = True
        live = [i for i in self.engines if i in self._client.ids]
        if names and live:
            try:
                self._client.direct_view(live).apply_async(shared.drop, names)
            except ClusterError:
                pass  # the engines have gone, and the arrays with them
