"""What a part of a task was, as a record: the fields that `db_query` gives and asks about. Values in, values out.

The hub cannot unpickle. What it shows of a payload (the text of a cell) is read from the pickle's opcodes, which runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from mpicluster.hub.store import Request, Row
from mpicluster.ids import task_id
from mpicluster.wire import messages as m

__all__ = ["DEFAULT_FIELDS", "FIELDS", "Record", "name_of", "status_of"]

_failure = msgspec.msgpack.Decoder()
_STATUS = {m.OK: "ok", m.ABORTED: "aborted", m.LOST: "lost"}


def name_of(request: Request, index: int) -> str:
    """The id of a part."""
    if request.targets is None:
        return task_id(request.client, request.first + index)
    return task_id(request.client, request.first, request.targets[index])


def status_of(outcome: int) -> str:
    """An outcome, in a word."""
    return _STATUS.get(outcome, "error")


class Record:
    """One part, field by field: `value` works out what is asked for only.

    ``submit_of``, ``output_of`` and ``again`` fetch what is seldom wanted.
    """

    def __init__(
        self,
        cluster: str,
        request: Request,
        index: int,
        row: Row | None,
        *,
        submit_of: Callable[[int], m.Submit | None],
        output_of: Callable[[int, int], list[m.Piece]],
        again: Callable[[int, int], str | None],
    ) -> None:
        self.cluster = cluster
        self.request = request
        self.index = index
        self.row = row
        self._submit_of = submit_of
        self._output_of = output_of
        self.again = again

    def value(self, field: str) -> Any:
        """The value of a field, None when there is none."""
        return FIELDS[field](self)

    @property
    def engine(self) -> int | None:
        """Where it ran, or is to run."""
        if self.row is not None and self.row.engine >= 0:
            return self.row.engine
        return None if self.request.targets is None else self.request.targets[self.index]

    @property
    def status(self) -> str | None:
        """As in a result's metadata; None while it is under way."""
        return None if self.row is None else status_of(self.row.outcome)

    def submit(self) -> m.Submit | None:
        """What was submitted, if it is kept."""
        return self._submit_of(self.request.job)

    def data(self, submit: m.Submit) -> bytes:
        """Its own data of what was submitted."""
        return submit.data[self.index if len(submit.data) > 1 else 0]

    def output(self) -> list[m.Piece]:
        """What it has written, the newest."""
        return self._output_of(self.request.job, self.index) if self.row is None else self.row.output

    def text(self, channel: int) -> str:
        """What it has written on standard output or error."""
        return b"".join(content for kind, content in self.output() if kind == channel).decode("utf-8", "replace")

    def displayed(self) -> list[Any]:
        """What it has displayed."""
        return [json.loads(content) for kind, content in self.output() if kind == m.DISPLAY]

    def failure(self) -> dict[str, Any] | None:
        """Name, text and traceback of its error; None when it has none."""
        row = self.row
        if row is None or row.outcome in (m.OK, m.ABORTED):
            return None
        if row.outcome in (m.FAILED, m.UNMET) and not row.dropped:
            try:
                known: dict[str, Any] = _failure.decode(row.data)
                info = known["info"]
                head = f"[{info.get('engine_id', '?')}:{info.get('method', '?')}]:"
                lines = [head, *str(known["traceback"]).splitlines()]
                return {"ename": known["ename"], "evalue": known["evalue"], "traceback": lines, "engine_info": info}
            except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
                pass
        why = row.data.decode(errors="replace") or ("its text was not kept" if row.dropped else "another engine's part of it failed")
        return {"ename": "EngineError", "evalue": why, "traceback": [f"EngineError: {why}"], "engine_info": {"engine_id": row.engine}}


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None


def _header(r: Record) -> dict[str, Any]:
    kind = "execute_request" if r.request.kind == "execute" else "apply_request"
    return {"msg_id": name_of(r.request, r.index), "msg_type": kind, "session": r.request.client, "date": _moment(r.request.submitted)}


def _metadata(r: Record) -> dict[str, Any]:
    submit = r.submit()
    terms = (submit.terms if submit is not None else None) or m.Terms()
    return {
        "targets": r.request.targets,
        "retries": r.request.retries,
        "label": r.request.label or None,
        "after": _needs(r, terms.after),
        "follow": _needs(r, terms.follow),
        "timeout": terms.timeout,
        "time_limit": terms.time_limit,
        "priority": terms.priority,
    }


def _needs(r: Record, needs: m.Needs | None) -> list[str]:
    if needs is None:
        return []
    return [task_id(r.request.client, *own) for own in needs.own] + [task_id(*other) for other in needs.others]


def _buffers(r: Record) -> list[bytes] | None:
    submit = r.submit()
    return None if submit is None or submit.sizes else [submit.fn, r.data(submit)]


def _code(r: Record) -> str | None:
    """The text of a cell: the first text in its pickle."""
    if r.request.kind != "execute" or (submit := r.submit()) is None or submit.sizes:
        return None
    import pickletools  # seldom needed, and slow to load

    try:
        return next((arg for _, arg, _ in pickletools.genops(r.data(submit)[1:]) if isinstance(arg, str)), None)
    except ValueError:
        return None


def _error(r: Record) -> str | None:
    failure = r.failure()
    return None if failure is None else "\n".join(failure["traceback"])


def _content(r: Record) -> dict[str, Any] | None:
    return None if r.row is None else {"status": r.status, **(r.failure() or {})}


def _execute_result(r: Record) -> Any:
    return next((x for x in reversed(r.displayed()) if x.get("output_type") == "execute_result"), None)


FIELDS: dict[str, Callable[[Record], Any]] = {
    "msg_id": lambda r: name_of(r.request, r.index),
    "client_uuid": lambda r: r.request.client,
    "label": lambda r: r.request.label or None,
    "kind": lambda r: r.request.kind,
    "queue": lambda r: "task" if r.request.targets is None else "mux",
    "retries": lambda r: r.request.retries,
    "submitted": lambda r: _moment(r.request.submitted),
    "started": lambda r: None if r.row is None else _moment(r.row.started),
    "completed": lambda r: None if r.row is None else _moment(r.row.completed or r.row.received),
    "received": lambda r: None if r.row is None else _moment(r.row.received),
    "resubmitted": lambda r: r.again(r.request.job, r.index),
    "engine_id": lambda r: r.engine,
    "engine_uuid": lambda r: None if r.engine is None else f"{r.cluster}-{r.engine}",
    "status": lambda r: r.status,
    "stdout": lambda r: r.text(m.STDOUT),
    "stderr": lambda r: r.text(m.STDERR),
    "outputs": lambda r: [x for x in r.displayed() if x.get("output_type") != "execute_result"],
    "execute_input": _code,
    "execute_result": _execute_result,
    "error": _error,
    "header": _header,
    "metadata": _metadata,
    "content": lambda r: {} if (code := _code(r)) is None else {"code": code},
    "buffers": _buffers,
    "result_header": lambda r: None if r.row is None else {"date": _moment(r.row.received), "parent": name_of(r.request, r.index)},
    "result_metadata": lambda r: None if r.row is None else {"engine_id": r.engine, "status": r.status, "nbytes_not_kept": r.row.dropped},
    "result_content": _content,
    "result_buffers": lambda r: None if r.row is None or r.row.dropped else [r.row.data],
}
#: what a query gives when no fields are named: all but what is large
DEFAULT_FIELDS = [field for field in FIELDS if field not in ("buffers", "result_buffers")]
