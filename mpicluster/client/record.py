"""What a result knows of its tasks apart from their values: ids, times, places, outputs."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mpicluster.client.metadata import Metadata, Written
from mpicluster.client.reply import STATUS, Reply
from mpicluster.errors import RemoteError
from mpicluster.ids import task_id
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.client.client import Client
    from mpicluster.client.flags import Flags
    from mpicluster.client.replies import Replies
    from mpicluster.client.view import View

__all__ = ["Recorded", "moment"]

_METADATA = frozenset(Metadata())


class Recorded:
    """The part of an `AsyncResult` that says where, when and for what."""

    if TYPE_CHECKING:
        _client: Client
        _single: bool
        _replies: Replies

        def done(self) -> bool: ...  # noqa: D102
        def _decode_slot(self, reply: Reply) -> Any: ...

    #: the view that made it, and a person's word for it
    _view: View | None = None
    _label = ""
    #: the code, if it is a cell that was not run silently
    code: str | None = None
    #: ids of the tasks that it waits for, and that it is to be near to
    _after: list[str] | None = None
    _follow_ids: list[str] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._submitted = time.time()
        #: what slots have written
        self._written: dict[int, Written] = {}
        #: the client's numbers of its tasks: runs of slots, each with the first of them and the engines if it is one for several
        self._runs: list[tuple[int, int, Sequence[int] | None]] = []
        #: engines of slots that have written and have not ended
        self._places: dict[int, int] = {}

    def _made_by(self, view: View, flags: Flags) -> None:
        """Note whose call it is, and what was asked."""
        self._view = view
        if flags.terms is not None:
            self._label = flags.label
            self._after = sorted(flags.after) if flags.after else None
            self._follow_ids = sorted(flags.follow) if flags.follow else None

    # -- ids ---------------------------------------------------------------------------------------------------------

    def _number(self, slot: int, task: int, engines: Sequence[int] | None = None) -> None:
        """The slots from this one on have the tasks from ``task`` on; or they are the engines' parts of one task."""
        self._runs.append((slot, task, engines))

    def _tasks(self) -> list[int]:
        """The client's numbers of its tasks."""
        tasks: list[int] = []
        ends = [slot for slot, _, _ in self._runs[1:]] + [len(self._replies)]
        for (slot, task, engines), end in zip(self._runs, ends, strict=True):
            tasks.extend([task] if engines is not None else range(task, task + end - slot))
        return tasks

    def _run_of(self, slot: int) -> tuple[int, int, Sequence[int] | None] | None:
        position = bisect.bisect_right(self._runs, slot, key=lambda run: run[0]) - 1
        return None if position < 0 else self._runs[position]

    def _id_of(self, slot: int) -> str | None:
        run = self._run_of(slot)
        if run is None:
            return None
        start, task, engines = run
        if engines is None:
            return task_id(self._client.id, task + slot - start)
        return task_id(self._client.id, task, engines[slot - start])

    def _engine_of(self, slot: int) -> int | None:
        """Where a slot ran or runs, as far as that is known."""
        reply = self._replies[slot]
        if reply is not None:
            return reply.message.engine if reply.message.engine >= 0 else None
        return self._places.get(slot)

    def _slots_on(self, engine: int) -> list[int]:
        """Slots that are for this engine."""
        return [start + engines.index(engine) for start, _, engines in self._runs if engines is not None and engine in engines]

    @property
    def msg_ids(self) -> list[str]:
        """Ids of the tasks, in order of slots: unique for ever, and known to the hub's history."""
        return [i for i in map(self._id_of, range(len(self._replies))) if i is not None]

    # -- time and place ----------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> Any:
        """What is known of each slot: a `Metadata`, or a list of them."""
        records = [self._record(i, r) for i, r in enumerate(self._replies)]
        return records[0] if self._single else records

    def _record(self, slot: int, reply: Reply | None) -> Metadata:
        record = Metadata(msg_id=self._id_of(slot), submitted=moment(self._submitted), label=self._label or None, execute_input=self.code)
        record.update(after=self._after, follow=self._follow_ids)
        if reply is not None:
            x = reply.message
            record.update(engine_id=x.engine if x.engine >= 0 else None, status=STATUS[x.outcome])
            record.engine_uuid = f"{self._client.contact.cluster}-{x.engine}" if x.engine >= 0 else None
            record.update(started=moment(x.started), completed=moment(x.completed), received=moment(reply.received))
            if x.outcome not in (m.OK, m.ABORTED):
                record.error = self._error_of(reply)
        written = self._written.get(slot)
        if written is not None:
            displayed = written.displayed
            results = [d for d in displayed if d["output_type"] == "execute_result"]
            record.update(stdout=written.stdout, stderr=written.stderr, data=written.data)
            record.outputs = [d for d in displayed if d["output_type"] != "execute_result"]
            record.execute_result = results[-1] if results else None
        return record

    def _error_of(self, reply: Reply) -> str:
        try:
            self._decode_slot(reply)
        except Exception as e:  # noqa: BLE001 - the remote failure, of any type
            return "\n".join(e.render_traceback()) if isinstance(e, RemoteError) else f"{type(e).__name__}: {e}"
        return ""

    def __getattr__(self, name: str) -> Any:
        if name in _METADATA:
            records = self.metadata
            return records[name] if isinstance(records, dict) else [r[name] for r in records]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def elapsed(self) -> float:
        """Seconds since submission, until now or until the last answer."""
        if not self.done():
            return time.time() - self._submitted
        return self.wall_time

    @property
    def serial_time(self) -> float:
        """Seconds that the engines worked, added up.

        Raises
        ------
        TimeoutError
            it is not ready.
        """
        return sum(r.message.completed - r.message.started for r in self._all())

    @property
    def wall_time(self) -> float:
        """Seconds from submission to the last answer.

        Raises
        ------
        TimeoutError
            it is not ready.
        """
        return max((r.received for r in self._all()), default=self._submitted) - self._submitted

    def timedelta(
        self,
        start: datetime | Iterable[datetime],
        end: datetime | Iterable[datetime],
        start_key: Callable[[Iterable[datetime]], datetime] = min,
        end_key: Callable[[Iterable[datetime]], datetime] = max,
    ) -> float:
        """Seconds between moments of its tasks: ``result.timedelta(result.submitted, result.started)``.

        Of several moments ``start_key`` and ``end_key`` choose one.
        """
        first = start if isinstance(start, datetime) else start_key(start)
        last = end if isinstance(end, datetime) else end_key(end)
        return (last - first).total_seconds()

    def _all(self) -> list[Reply]:
        if not self.done():
            raise TimeoutError(f"{self!r} is not ready")
        return [r for r in self._replies if r is not None]


def moment(seconds: float) -> datetime | None:
    """Seconds since 1970 as a moment; None for 0."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
