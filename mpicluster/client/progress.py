"""Progress bars: for results, maps, engines that are awaited, and cells that take long. By tqdm, which is loaded for the first bar.

A bar is shown where a person looks on, a terminal or a notebook, and nowhere else; on stderr, so that no program reads it.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import TYPE_CHECKING, Any

from mpicluster.client.screen import in_notebook
from mpicluster.wire.messages import OK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from threading import Condition

    from mpicluster.client.client import Client
    from mpicluster.client.result import AsyncResult

__all__ = ["Bar", "interactive", "unattended", "wait_all_interactive", "wait_engines_interactive", "wait_interactive", "wait_with_bar"]

#: A blocking map shows a bar after so many seconds.
LONG = 2.0
_OFF = frozenset({"", "0", "false", "no"})


def unattended() -> bool:
    """Whether ``MPICLUSTER_NONINTERACTIVE=1`` (or IPython Parallel's ``IPP_NONINTERACTIVE``) says that nobody looks on."""
    return any(os.environ.get(name, "").lower() not in _OFF for name in ("MPICLUSTER_NONINTERACTIVE", "IPP_NONINTERACTIVE"))


def interactive() -> bool:
    """Whether a person looks on: stderr is a terminal, or this is a notebook."""
    return not unattended() and (in_notebook() or (sys.stderr is not None and sys.stderr.isatty()))


class Bar:
    """A bar from nothing to ``total``. It appears with the first `update`, and leaves a clean line however it ends.

    Parameters
    ----------
    shown
        whether to show it; where a person looks on, if not given.
    widget
        whether it is a notebook widget; in a notebook that has widgets, if not given.
    """

    def __init__(self, total: int, what: str, unit: str, *, shown: bool | None = None, widget: bool | None = None) -> None:
        self._total = total
        self._what = what
        self._unit = unit
        self._shown = interactive() if shown is None else shown
        self._widget = widget
        self._bar: Any = None
        self._began = time.time()

    def since(self, seconds: float) -> Bar:
        """Count the time from so long ago."""
        self._began = time.time() - seconds
        return self

    def update(self, done: int) -> None:
        """So many are done."""
        if not self._shown:
            return
        if self._bar is None:
            self._bar = _tqdm(self._widget)(
                total=self._total, desc=self._what, unit=self._unit, leave=True, mininterval=0.05, file=sys.stderr
            )
            self._bar.start_t = self._began
        self._bar.n = done
        self._bar.refresh()

    def close(self) -> None:
        """No more updates will come."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _tqdm(widget: bool | None) -> Any:
    if widget or (widget is None and in_notebook()):
        try:
            import ipywidgets  # noqa: F401  # what tqdm's widget is made of
            from tqdm.notebook import tqdm as notebook_bar
        except ImportError:
            pass
        else:
            return notebook_bar
    from tqdm import tqdm as text_bar

    return text_bar


def _watch(
    client: Client,
    changed: Condition,
    bar: Bar,
    count: Callable[[], int],
    done: Callable[[], bool],
    *,
    interval: float,
    timeout: float | None,
    after: float = 0.0,
) -> bool:
    """Wait for ``done()`` and show ``count()`` every so often, from ``after`` seconds on; whether it is done in time."""
    began = time.monotonic()
    until = math.inf if timeout is None or timeout < 0 else began + timeout
    if client._wait_until(done, changed, min(after, until - began)):
        return True
    with bar.since(time.monotonic() - began):
        while True:
            bar.update(count())
            now = time.monotonic()
            finished = client._wait_until(done, changed, max(0.0, min(interval, until - now)))
            if finished or time.monotonic() >= until:
                bar.update(count())
                return finished


def wait_interactive(result: AsyncResult, *, interval: float, timeout: float | None, widget: bool | None, return_when: str) -> bool:
    """`AsyncResult.wait_interactive`."""
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ValueError(f"return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, not {return_when!r}")

    def done() -> bool:
        if result.done() or return_when == ALL_COMPLETED:
            return result.done()
        there = [r for r in list(result._replies) if r is not None]
        return bool(there) if return_when == FIRST_COMPLETED else any(r.message.outcome != OK for r in there)

    bar = Bar(len(result), result._name, _unit(result), widget=widget)
    _watch(result._client, result._arrival, bar, lambda: result.progress, done, interval=interval, timeout=timeout)
    return result.done()


def _unit(result: AsyncResult) -> str:
    return "item" if hasattr(result, "_sizes") else "engine" if not result._single else "task"


def wait_with_bar(result: AsyncResult) -> AsyncResult:
    """Wait for a result, behind a bar if it takes long; whatever becomes of it."""
    bar = Bar(len(result), result._name, _unit(result))
    if bar._shown:
        _watch(result._client, result._arrival, bar, lambda: result.progress, result.done, interval=0.1, timeout=None, after=LONG)
    return result


def wait_all_interactive(results: Iterable[AsyncResult], *, interval: float, timeout: float | None) -> bool:
    """`Client.wait_interactive`: for all of these, counted in items."""
    until = math.inf if timeout is None or timeout < 0 else time.monotonic() + timeout
    jobs = list(results)
    with Bar(sum(map(len, jobs)), "tasks", "task") as bar:
        while True:
            bar.update(sum(job.progress for job in jobs))
            waiting = [job for job in jobs if not job.done()]
            left = until - time.monotonic()
            if not waiting or left <= 0:
                return not waiting
            waiting[0].wait(min(interval, left))


def wait_engines_interactive(client: Client, wanted: int, done: Callable[[], bool], timeout: float | None, widget: bool | None) -> None:
    """Wait for ``done()`` while engines come."""
    bar = Bar(wanted, "engines", "engine", shown=True, widget=widget)
    until = math.inf if timeout is None else time.monotonic() + timeout
    with bar:
        while not done() and (left := until - time.monotonic()) > 0:
            bar.update(len(client._engines))
            with client._changed:
                client._changed.wait_for(done, min(0.1, left))
        bar.update(len(client._engines))
