"""What a client has under way: waiting for it, and taking it back."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from mpicluster.client import progress
from mpicluster.client.ledger import Ledger, Pending
from mpicluster.client.result import AsyncResult
from mpicluster.ids import Targets, parse_task_id, select, task_id

if TYPE_CHECKING:
    from mpicluster.wire import messages as m

__all__ = ["Jobs"]


class Jobs:
    """The part of a `Client` that knows its tasks under way."""

    if TYPE_CHECKING:
        id: str

        def _cancel(self, tasks: Iterable[int]) -> bool: ...
        def _withdraw(self, tasks: Iterable[int]) -> None: ...
        def _live(self) -> list[int]: ...
        def _wait_until(self, done: Callable[[], bool], changed: threading.Condition, timeout: float | None) -> bool: ...
        def _ask(self, make: Callable[[int], m.ClientMessage], timeout: float = ...) -> Any: ...

    def __init__(self) -> None:
        super().__init__()
        #: guards everything that changes: a plain lock, which Ctrl-C cannot leave locked
        self._guard = threading.Lock()
        self._pending = Ledger()

    @property
    def outstanding(self) -> set[str]:
        """Ids of the tasks under way."""
        return self._outstanding(lambda _: True)

    def _outstanding(self, wanted: Callable[[AsyncResult], bool]) -> set[str]:
        with self._guard:
            pending = [(task, None if isinstance(p.slots, int) else list(p.slots)) for task, p in self._pending.tasks() if wanted(p.result)]
        whole = {task_id(self.id, task) for task, engines in pending if engines is None}
        return whole | {task_id(self.id, task, engine) for task, engines in pending for engine in engines or ()}

    def _results_under_way(self) -> list[AsyncResult]:
        with self._guard:
            return self._pending.results()

    def _find_pending(self, text: str) -> tuple[int, Pending | None, int]:
        """A task of this client by its id: number, what is pending of it, and the engine."""
        owner, task, engine = parse_task_id(text)
        if owner != self.id:
            raise ValueError(f"{text!r} is a task of another client; get_result() gives its result, which can be waited for")
        with self._guard:
            return task, self._pending.get(task), engine

    def wait(self, jobs: Any = None, timeout: float | None = None) -> bool:
        """Wait for results (default: all that are under way); whether they are done within ``timeout`` seconds.

        ``jobs``
            a result, the id of a task, any other future, or several of these.
        """
        until = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        return all(
            self._wait_for(job, None if until is None else max(0.0, until - time.monotonic()))
            for job in (self._results_under_way() if jobs is None else _several(jobs))
        )

    def wait_interactive(self, jobs: Any = None, interval: float = 1.0, timeout: float | None = -1.0) -> bool:
        """`wait`, behind a progress bar that counts tasks; drawn anew every ``interval`` seconds, where a person looks on."""
        chosen = self._results_under_way() if jobs is None else [j for j in _several(jobs) if isinstance(j, AsyncResult)]
        return progress.wait_all_interactive(chosen, interval=interval, timeout=timeout)

    def _wait_for(self, job: Any, timeout: float | None) -> bool:
        if isinstance(job, AsyncResult):
            return bool(job.wait(timeout))
        if isinstance(job, str):
            _, pending, engine = self._find_pending(job)
            if pending is None:
                return True
            result, slots = pending
            if isinstance(slots, dict) and engine >= 0:
                with self._guard:
                    slot = slots.get(engine)
                if slot is None:
                    return True
            elif isinstance(slots, dict):
                return bool(result.wait(timeout))
            else:
                slot = slots
            return self._wait_until(lambda: result._has_reply(slot), result._arrival, timeout)
        return not concurrent.futures.wait([job], timeout).not_done

    def abort(self, jobs: Any = None, targets: Targets = None, block: bool | None = None) -> bool:
        """Take back what has not begun; whether nothing of it will run.

        Parameters
        ----------
        jobs
            a result, the id of a task, or several of these; by default all that is under way.
        targets
            only calls that are for these engines alone; what the hub may give to any engine stays.
        block
            False not to wait for the word of the hub: then True says only that it was asked.
        """
        tasks: set[int] = set()
        for job in self._results_under_way() if jobs is None else _several(jobs):
            if isinstance(job, AsyncResult):
                tasks.update(job._tasks() if not job.done() else ())
            elif isinstance(job, str):
                task, pending, _ = self._find_pending(job)
                tasks.update([task] if pending is not None else ())
            else:
                raise TypeError(f"what is taken back is given by its result or its id, not by {job!r}")
        if targets is not None:
            chosen = set(select(targets, self._live()))
            with self._guard:
                tasks = {
                    t for t in tasks if (p := self._pending.get(t)) is not None and isinstance(p.slots, dict) and set(p.slots) <= chosen
                }
        if not tasks:
            return True
        if block is False:
            self._withdraw(tasks)
            return True
        return self._cancel(tasks)


def _several(jobs: Any) -> Iterator[Any]:
    """One job, or those of a collection."""
    if isinstance(jobs, str | Future):
        yield jobs
    elif isinstance(jobs, Iterable):
        for job in jobs:
            if not isinstance(job, str | Future):
                raise TypeError(f"a job is a result, the id of a task, or a future, not {job!r}")
            yield job
    else:
        raise TypeError(f"a job is a result, the id of a task, or a future, not {jobs!r}")
