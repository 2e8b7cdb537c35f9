"""Progress bars: for results, maps, engines that are awaited, and cells that take long. By tqdm, which is loaded for the first bar.

A bar is shown where a person looks on, a terminal or a notebook, and nowhere else; on stderr, so that no program reads it.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from html import escape
from typing import TYPE_CHECKING, Any

from mpicluster.client.screen import in_notebook, ipython

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
        whether it is tqdm's notebook widget, which needs ipywidgets. By default a notebook shows a bar that needs nothing, and that is
        still there when the notebook was saved.
    """

    def __init__(self, total: int, what: str, unit: str, *, shown: bool | None = None, widget: bool | None = None) -> None:
        self._total = total
        self._what = what
        self._unit = unit
        self.shown = interactive() if shown is None else shown
        self._widget = widget
        self._bar: Any = None
        self._began = time.time()

    def since(self, seconds: float) -> Bar:
        """Count the time from so long ago."""
        self._began = time.time() - seconds
        return self

    def update(self, done: int) -> None:
        """So many are done."""
        if not self.shown:
            return
        if self._bar is None:
            kind: Any = _widget() if self._widget else _NotebookBar if in_notebook() else _tqdm().tqdm
            self._bar = kind(total=self._total, desc=self._what, unit=self._unit, file=sys.stderr)
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


def _tqdm() -> Any:
    import tqdm

    return tqdm


def _widget() -> Any:
    from tqdm.notebook import tqdm as notebook_bar

    return notebook_bar


class _NotebookBar:
    """tqdm's numbers beside a bar of HTML, in a display that is updated."""

    def __init__(self, *, total: int, desc: str, unit: str, file: Any) -> None:
        self.n, self.start_t = 0, time.time()
        self._total, self._desc, self._unit = total, desc, unit
        self._display = f"mpicluster-bar-{os.getpid()}-{next(_numbers)}"
        self._drawn = ""

    def refresh(self) -> None:
        meter = _tqdm().tqdm.format_meter
        elapsed = time.time() - self.start_t
        text = meter(self.n, self._total, elapsed, ncols=80, prefix=self._desc, unit=self._unit)
        numbers = meter(
            self.n, self._total, elapsed, prefix=self._desc, unit=self._unit, bar_format="{n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}]"
        )
        share = 100.0 * self.n / self._total if self._total else 100.0
        html = (
            f'<div style="display:flex;align-items:center;gap:.8em">{escape(self._desc)}'
            f'<div style="flex:0 1 24em;height:8px;border-radius:4px;background:rgba(128,128,128,.25);overflow:hidden">'
            f'<div style="height:100%;width:{share:.1f}%;background:{"#2e9e5b" if self.n >= self._total else "#3b82c4"}"></div></div>'
            f'<span style="opacity:.65">{escape(numbers)}</span></div>'
        )
        bundle = {"text/plain": text, "text/html": html}
        ipython().display_pub.publish(data=bundle, metadata={}, transient={"display_id": self._display}, update=bool(self._drawn))
        self._drawn = html

    def close(self) -> None:
        """The last state stays."""


_numbers = itertools.count()


def _watch(
    client: Client,
    changed: Condition,
    bar: Bar,
    count: Callable[[], int],
    done: Callable[[], bool],
    *,
    interval: float,
    timeout: float | None,
) -> bool:
    """Wait for ``done()`` and show ``count()`` every so often; whether it is done in time."""
    until = math.inf if timeout is None or timeout < 0 else time.monotonic() + timeout
    with bar:
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
    bar = Bar(len(result), result._name, _unit(result), widget=widget)
    done = functools.partial(result._reached, return_when)
    _watch(result._client, result._arrival, bar, lambda: result.progress, done, interval=interval, timeout=timeout)
    return result.done()


def _unit(result: AsyncResult) -> str:
    return "item" if hasattr(result, "_sizes") else "engine" if not result._single else "task"


def wait_with_bar(result: AsyncResult) -> AsyncResult:
    """Wait for a result, behind a bar if it takes long; whatever becomes of it."""
    if not result._client._wait_until(result.done, result._arrival, LONG):
        bar = Bar(len(result), result._name, _unit(result)).since(LONG)
        if bar.shown:
            _watch(result._client, result._arrival, bar, lambda: result.progress, result.done, interval=0.1, timeout=None)
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
