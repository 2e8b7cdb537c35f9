"""The result of tasks that were submitted elsewhere, or before, as the hub's history has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpicluster.client.metadata import Metadata
from mpicluster.client.record import moment
from mpicluster.client.reply import Reply
from mpicluster.client.result import AsyncResult
from mpicluster.config import INLINE_UP_TO
from mpicluster.errors import NotKept
from mpicluster.ids import parse_task_id
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["AsyncHubResult"]


class AsyncHubResult(AsyncResult):
    """An `AsyncResult` of tasks that any client has submitted. Those under way are told by the hub as they end: nobody polls."""

    def __init__(
        self, client: Client, parts: Sequence[m.Remembered], *, single: bool, assemble: Callable[[list[Any]], Any] | None = None
    ) -> None:
        name = f"task {parts[0].id}" if len(parts) == 1 else f"{len(parts)} tasks"
        super().__init__(client, name, len(parts), single=single, assemble=assemble)
        self._ids = [part.id for part in parts]
        self._submissions = [part.submitted for part in parts]
        self._submitted = min(self._submissions)
        self._labels = [part.label for part in parts]
        self._label = self._labels[0] if len(set(self._labels)) == 1 else ""
        self._slots: dict[str, list[int]] = {}
        for slot, part in enumerate(parts):
            self._slots.setdefault(part.id, []).append(slot)
        for part in parts:
            if part.outcome >= 0:
                self._remember(part)

    def _remember(self, part: m.Remembered) -> None:
        """A part has ended."""
        sizes = [part.dropped] if part.dropped else []
        message = m.Result(0, part.engine, part.outcome, part.data, sizes, part.started, part.completed, part.output)
        for slot in self._slots.get(part.id, ()):
            self._deliver(slot, Reply(message, (), time.time()))

    def _decode_slot(self, reply: Reply) -> Any:
        if reply.message.sizes:
            raise NotKept(
                f"the hub has kept no value of {self._name}, which has {reply.message.sizes[0]} bytes on engine {reply.message.engine}: "
                f"those above {INLINE_UP_TO} go to the client that submitted the task, and nowhere else"
            )
        return super()._decode_slot(reply)

    def _id_of(self, slot: int) -> str | None:
        return self._ids[slot]

    def _record(self, slot: int, reply: Reply | None) -> Metadata:
        record = super()._record(slot, reply)
        record.submitted, record.label = moment(self._submissions[slot]), self._labels[slot] or None
        return record

    def _slots_on(self, engine: int) -> list[int]:
        return [slot for slot, reply in enumerate(self._replies) if reply is not None and reply.message.engine == engine]

    def _tasks(self) -> list[int]:
        return [task for client, task, _ in map(parse_task_id, self._ids) if client == self._client.id]

    def cancel(self) -> bool:
        """`AsyncResult.cancel`, for tasks of this client; False if another has submitted some of them, which only that one can cancel."""
        if not self.done() and any(parse_task_id(i)[0] != self._client.id for i in self._ids):
            return False
        return super().cancel()
