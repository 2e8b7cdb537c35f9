"""Output of engines, shown where their caller is: live while it comes (`Follower`), or afterwards, grouped (`display_outputs`)."""

from __future__ import annotations

import contextvars
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mpicluster.client import screen as screens
from mpicluster.client.lines import Lines
from mpicluster.client.screen import Screen, Source
from mpicluster.errors import RemoteError, appearance, headings
from mpicluster.serial.failure import compose
from mpicluster.wire.messages import DATA, DISPLAY, STDERR, STDOUT, Piece

if TYPE_CHECKING:
    from mpicluster.client.executed import ExecuteReply
    from mpicluster.client.metadata import Written
    from mpicluster.client.result import AsyncResult

__all__ = ["Flow", "Follower", "display_outputs", "display_reply", "stream_output"]

#: Output that comes within this time is written together.
_BATCH = 0.02
#: How often unfinished lines are looked at.
_TICK = 0.1
#: Errors that come within this time are shown together, those that are alike as one.
_ERRORS_TOGETHER = 1.0
_RED, _PLAIN = "\x1b[31m", "\x1b[39m"
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class Flow:
    """Pieces of output on their way to a screen. Knows no threads, no results, and no clock."""

    def __init__(self, screen: Screen, *, labelled: bool = True, alone: bool = False) -> None:
        self.screen = screen
        self._labelled = labelled
        #: whether one task writes all of it, which may then clear it
        self._alone = alone
        self._streams: dict[Source, Lines] = {}
        #: sources of each slot, by channel
        self._sources: dict[int, dict[int, Source]] = {}

    def write(self, slot: int, engine: int | None, pieces: Sequence[Piece]) -> None:
        """A slot has written more, on that engine."""
        for channel, content in pieces:
            if channel == DISPLAY:
                self.end(slot)
                self.show(engine, json.loads(content))
            elif channel != DATA:
                source = self._source(slot, channel, engine)
                complete = self._streams[source].feed(content)
                if complete:
                    self.screen.lines(source, complete)

    def _source(self, slot: int, channel: int, engine: int | None) -> Source:
        known = self._sources.setdefault(slot, {})
        if channel not in known:
            where = "?" if engine is None else engine
            known[channel] = source = (slot, channel, f"[{_NAMES[channel]}:{where}] " if self._labelled else "")
            self._streams[source] = Lines()
        return known[channel]

    def show(self, engine: int | None, output: dict[str, Any]) -> None:
        """Show a display of that engine."""
        kind = output["output_type"]
        if kind == "clear_output":
            if self._alone:
                self.screen.clear(wait=output.get("wait", False))
            return
        label = ""
        if self._labelled:
            label = f"{_RED}Out[{engine}:{output['execution_count']}]:{_PLAIN}" if kind == "execute_result" else f"[output:{engine}]"
        self.screen.show(_placed(output, engine), label)

    def tick(self, now: float) -> None:
        """Show lines that are under way."""
        for source, stream in self._streams.items():
            self.screen.under_way(source, stream.open, rewritten=stream.rewritten, now=now)

    def end(self, slot: int) -> None:
        """A slot has ended, or has something else to show: what it has not finished is complete."""
        for source in self._sources.pop(slot, {}).values():
            rest = self._streams.pop(source).end()
            self.screen.under_way(source, [], rewritten=False, now=0.0) if not rest else self.screen.lines(source, rest)

    def finish(self) -> None:
        """Nothing will come any more."""
        for slot in list(self._sources):
            self.end(slot)
        self.screen.finish()


def _placed(output: dict[str, Any], engine: int | None) -> dict[str, Any]:
    """An output with its engine, and with a name that no other engine's display has."""
    name = (output.get("transient") or {}).get("display_id")
    transient = {"display_id": f"{engine}-{name}"} if name is not None else {}
    return {**output, "metadata": {**(output.get("metadata") or {}), "engine": engine}, "transient": transient}


class Follower:
    """Shows a result's output as it comes, and its errors. One thread at a time."""

    def __init__(self, result: AsyncResult, screen: Screen | None = None, *, errors: bool = True) -> None:
        self._result = result
        self._flow = Flow(screen or screens.screen(), alone=len(result._replies) == 1)
        self._errors = errors
        self._waiting = set(range(len(result._replies)))
        #: errors that are to be shown, and since when
        self._failed: list[Exception] = []
        self._failed_at = 0.0
        self._seen: set[tuple[str, str]] = set()
        self.shown_errors = 0
        with result._arrival:  # what was, and all that comes: nothing in between
            #: whether somebody else follows already
            self.idle = result.log is not None
            if not self.idle:
                result.log = deque((slot, piece) for slot, written in result._written.items() for piece in written.pieces)

    def news(self) -> bool:
        """Whether there is something to show."""
        return bool(self._result.log) or self._result._missing < len(self._waiting) or self._result._ended is not None

    def step(self) -> bool:
        """Show what has come; whether that was all."""
        result = self._result
        with result._arrival:
            log = result.log if result.log is not None else deque()
            pieces = sorted(log, key=lambda x: x[0])  # what comes at the same time is shown in the order of the engines
            log.clear()
            done = {slot for slot in self._waiting if result._replies[slot] is not None}
            self._waiting -= done
            over = not self._waiting or result._ended is not None
        self._write(pieces)
        for slot in sorted(done):
            self._flow.end(slot)
            self._note_error(slot)
        now = time.monotonic()
        if self._failed and (over or now >= self._failed_at + _ERRORS_TOGETHER):
            self._show_errors()
        self._flow.tick(now)
        return over

    def _write(self, pieces: list[tuple[int, Piece]]) -> None:
        batch: list[Piece] = []
        for i, (slot, piece) in enumerate(pieces):
            batch.append(piece)
            if i + 1 == len(pieces) or pieces[i + 1][0] != slot:
                self._flow.write(slot, self._result._engine_of(slot), batch)
                batch = []

    def _note_error(self, slot: int) -> None:
        error = self._result._slot_error(slot) if self._errors else None
        if error is not None:
            if not self._failed:
                self._failed_at = time.monotonic()
            self._failed.append(error)

    def _show_errors(self) -> None:
        failed, self._failed = self._failed, []
        self.shown_errors += len(failed)
        again = [e for e in failed if appearance(e) in self._seen]
        errors = [e for e in failed if appearance(e) not in self._seen]
        self._seen |= set(map(appearance, errors))
        if again:
            lines = [f"{heading} (as above)" for heading in headings(again)]
            self._flow.screen.error(type(again[0]).__name__, str(again[0]), lines, lines)
        if not errors:
            return
        error: Exception = errors[0]
        if len(errors) > 1:
            error = compose(errors, self._result._name, len(errors), "tasks")
        if isinstance(error, RemoteError):
            self._flow.screen.error(error.ename, error.evalue, error.colored_traceback(), error.render_traceback())
        else:
            text = f"{type(error).__name__}: {error}"
            self._flow.screen.error(type(error).__name__, str(error), [text], [text])

    def close(self) -> None:
        """Show what is left, and stop following."""
        if self.idle:
            return
        try:
            self.step()
            if self._failed:
                self._show_errors()
        finally:
            self._result.log = None
            self._flow.finish()

    def run(self, until: float | None = None) -> bool:
        """Wait in this thread and show what comes, until it is all there; whether it is by then (a time of `time.monotonic`)."""
        result = self._result
        while not self.step():
            wait = _TICK if until is None else min(_TICK, until - time.monotonic())
            if wait <= 0:
                return False
            if result._client._wait_until(self.news, result._arrival, wait):
                time.sleep(_BATCH)
        return True


@contextmanager
def stream_output(result: AsyncResult) -> Iterator[None]:
    """`AsyncResult.stream_output`: a thread shows what comes, in the cell in which the block was entered."""
    follower = Follower(result)
    if follower.idle:
        yield  # the one around shows it
        return
    stop = threading.Event()

    def pump() -> None:
        while not stop.is_set() and not follower.step():
            with result._arrival:
                result._arrival.wait_for(lambda: stop.is_set() or follower.news(), _TICK)
            stop.wait(_BATCH)

    context = contextvars.copy_context()  # by which ipykernel knows the cell
    thread = threading.Thread(target=context.run, args=(pump,), name="mpicluster-output", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        with result._arrival:
            result._arrival.notify_all()
        thread.join()
        follower.close()


# -- afterwards ------------------------------------------------------------------------------------------------------------


def display_outputs(result: AsyncResult, groupby: str, *, result_only: bool = False, labelled: bool | None = None) -> None:
    """`AsyncResult.display_outputs`. ``labelled``: whether it is said which engine has written what; if there are several, by default."""
    if groupby not in ("type", "engine", "order"):
        raise ValueError(f"groupby must be 'type', 'engine' or 'order', not {groupby!r}")
    result.wait()
    flow = Flow(screens.screen(), labelled=not result._single if labelled is None else labelled, alone=result._single)
    tasks = [(result._engine_of(i), result._written[i]) for i in range(len(result._replies)) if i in result._written]
    try:
        if groupby == "engine" and not result_only:
            for engine, written in tasks:
                for channel, content in written.settled():
                    if channel == DISPLAY:
                        flow.end(0)
                        flow.show(engine, content)
                    else:
                        flow.write(0, engine, [(channel, content)])
                flow.end(0)
        else:
            _show_by_type(flow, tasks, result_only=result_only, interleaved=groupby == "order")
    finally:
        flow.finish()


def _show_by_type(flow: Flow, tasks: list[tuple[int | None, Written]], *, result_only: bool, interleaved: bool) -> None:
    for channel in () if result_only else (STDOUT, STDERR):
        for engine, written in tasks:
            flow.write(0, engine, [p for p in list(written.pieces) if p[0] == channel])
            flow.end(0)
    displays: list[tuple[int, int | None, dict[str, Any]]] = []
    values: list[tuple[int | None, dict[str, Any]]] = []
    for engine, written in tasks:
        shown = written.displayed
        displays += [(i, engine, x) for i, x in enumerate(x for x in shown if x["output_type"] != "execute_result")]
        values += [(engine, x) for x in shown if x["output_type"] == "execute_result"]
    if interleaved:
        displays.sort(key=lambda x: x[0])  # the first of each, then the second ...
    if not result_only:
        for _, engine, output in displays:
            flow.show(engine, output)
    for engine, output in values:
        flow.show(engine, output)


def display_reply(reply: ExecuteReply) -> None:
    """`ExecuteReply.display`."""
    metadata = reply.metadata
    flow = Flow(screens.screen())
    for output in [*metadata.outputs, *([metadata.execute_result] if metadata.execute_result else [])]:
        flow.show(metadata.engine_id, output)
    flow.finish()
