"""How clients, views and results look in a notebook. Self-contained HTML in the colours of its surroundings, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from mpicluster.wire.messages import ABANDONED, ABORTED, LOST, OK

if TYPE_CHECKING:
    from mpicluster.client.client import Client
    from mpicluster.client.result import AsyncResult
    from mpicluster.client.view import View

__all__ = ["client_html", "result_html", "view_html"]

_ROWS = 32
_CARD = "border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.6em .9em;display:inline-block;min-width:22em;line-height:1.5"
_DIM = "opacity:.65"
_CELL = "text-align:left;padding:.15em 1.2em .15em 0;border:none;background:none"
_HEAD = f"{_CELL};font-weight:600;border-bottom:1px solid rgba(128,128,128,.35)"
_TRACK = "height:6px;border-radius:3px;background:rgba(128,128,128,.25);margin:.45em 0;overflow:hidden"
_COLOURS = {"ok": "#2e9e5b", "busy": "#3b82c4", "error": "#d2453f", "idle": "rgba(128,128,128,.7)"}


def client_html(client: Client) -> str:
    """The cluster and its engines."""
    name = escape(client.contact.cluster)
    if client._lost is not None:
        return _card(f"Cluster {name}", _dot("error", escape(client._lost)))
    engines = [client._engines[i] for i in client.ids]
    hosts = len({e.host for e in engines})
    mpi = escape(client._welcome.mpi.split(",")[0]) if client._welcome is not None else ""
    about = [f"{_count(len(engines), 'engine')} on {_count(hosts, 'host')}", mpi, f"profile {escape(client.contact.profile)}"]
    states = _states(client)
    rows = [
        (
            str(e.id),
            str(e.rank),
            escape(e.host),
            str(e.pid),
            str(e.threads),
            _dot("busy" if states.get(e.id) == "busy" else "idle", states[e.id]),
        )
        if e.id in states
        else (str(e.id), str(e.rank), escape(e.host), str(e.pid), str(e.threads), "")
        for e in engines
    ]
    return _card(f"Cluster {name}", _dim(" · ".join(filter(None, about))), _table(("id", "rank", "host", "pid", "threads", "state"), rows))


def _states(client: Client) -> dict[int, str]:
    """Which engines are busy, as the hub says; nothing where it does not say so at once."""
    try:
        return {int(e["id"]): str(e["state"]) for e in client.status(timeout=0.5)["engines"]}
    except (TimeoutError, OSError, RuntimeError):
        return {}


def view_html(view: View, targets: Any) -> str:
    """Which engines a view addresses, and how."""
    client = view.client
    ids = client.ids if targets in (None, "all") else [targets] if isinstance(targets, int) else list(targets)
    hosts = {i: client._engines[i].host for i in ids if i in client._engines}
    which = (
        "all engines" if targets in (None, "all") else "engine " + str(targets) if isinstance(targets, int) else f"engines {_short(ids)}"
    )
    about = [which, f"cluster {escape(client.contact.cluster)}", "waits for results" if view.block else "does not wait"]
    rows = [(str(i), escape(hosts[i])) if i in hosts else (str(i), _dot("error", "gone")) for i in ids]
    return _card(type(view).__name__, _dim(" · ".join(about)), _table(("id", "host"), rows))


def result_html(result: AsyncResult) -> str:
    """How far a result is, where its parts ran, how long they took, what failed."""
    engines = _by_engine(result)
    failed = sum(e.failed for e in engines.values())
    total, done = len(result), result.progress
    if result._ended is not None:
        state = _dot("error", escape(str(result._ended)))
    elif not result.done():
        state = _dot("busy", f"{done} of {total} done")
    elif result.cancelled():
        state = _dot("idle", "cancelled")
    elif failed:
        state = _dot("error", f"{failed} of {result.slots} failed")
    else:
        state = _dot("ok", "done")
    share = 100.0 * done / total if total else 100.0
    colour = _COLOURS["error" if failed else "ok" if result.done() else "busy"]
    bar = f'<div style="{_TRACK}"><div style="height:100%;width:{share:.1f}%;background:{colour}"></div></div>'
    name = escape(result._label or result._name)
    kind = type(result).__name__
    about = f"{state} {_dim(_seconds(result.elapsed))}"
    return _card(f"{kind}: {name}", about, bar, _engines_table(result, engines))


@dataclass
class _Work:
    """What one engine has done of a result: tasks, seconds, and the slot that failed last."""

    tasks: int = 0
    seconds: float = 0.0
    failed: int = 0
    slot: int = -1


def _by_engine(result: AsyncResult) -> dict[int, _Work]:
    """What each engine has done; in one pass, since there may be a million slots."""
    engines: dict[int, _Work] = {}
    for slot, reply in enumerate(result._replies):
        if reply is None:
            continue
        message = reply.message
        work = engines.setdefault(message.engine, _Work())
        work.tasks += 1
        if message.started:
            work.seconds += max(0.0, message.completed - message.started)
        if message.outcome not in (OK, ABORTED):
            work.failed, work.slot = work.failed + 1, slot
    return engines


def _engines_table(result: AsyncResult, engines: dict[int, _Work]) -> str:
    rows = []
    for engine, work in sorted(engines.items()):
        state = _dot("ok", "ok")
        if work.failed:
            state = _dot("error", f"{work.failed} failed" if work.tasks > 1 else _what(result, work.slot))
        rows.append((str(engine) if engine >= 0 else "", str(work.tasks), _seconds(work.seconds), state))
    return _table(("engine", "tasks", "time", "state"), rows) if rows else ""


def _what(result: AsyncResult, slot: int) -> str:
    reply = result._replies[slot]
    assert reply is not None
    if reply.message.outcome == ABANDONED:
        return "another engine failed"
    if reply.message.outcome == LOST:
        return "engine lost"
    error = result._slot_error(slot)
    return escape(f"{getattr(error, 'ename', '') or type(error).__name__}: {getattr(error, 'evalue', '') or error}"[:200])


# -- pieces of HTML --------------------------------------------------------------------------------------------------------


def _card(title: str, *parts: str) -> str:
    return f'<div style="{_CARD}"><div style="font-weight:600">{title}</div>{"".join(parts)}</div>'


def _dim(text: str) -> str:
    return f'<span style="{_DIM}">{text}</span>'


def _dot(state: str, text: str) -> str:
    return f'<span style="color:{_COLOURS[state]}">●</span> {text}'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    lines = ["".join(f'<th style="{_HEAD}">{h}</th>' for h in head)]
    lines += ["".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) for row in rows[:_ROWS]]
    more = f'<div style="{_DIM}">… and {len(rows) - _ROWS} more</div>' if len(rows) > _ROWS else ""
    body = "".join(f'<tr style="background:none">{line}</tr>' for line in lines)
    return f'<table style="border-collapse:collapse;margin:.4em 0 0 0;border:none">{body}</table>{more}'


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if seconds >= 60 else f"{seconds:.3g} s"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' if n != 1 else ''}"


def _short(ids: list[int]) -> str:
    text = ", ".join(map(str, ids[:16]))
    return f"{text}, … ({len(ids)})" if len(ids) > 16 else text
