"""What the hub remembers of every task: a thread with the only hands on the file, so that the hub's loop never waits for a disk.

The loop hands over *notes*, and *questions* of clients, and gets *answers* back through a descriptor that it waits for. Questions are
answered after all notes that were taken before them, and whoever waits for a task to end (`Recall`) is told as its note comes by: so
what is asked and what ends cannot miss each other.

When the file cannot be used any more, the history stops, and says so once in the log and always in `facts`; the cluster goes on.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from mpicluster.config import HISTORY_PAUSE, HISTORY_PENDING, HistoryLimits
from mpicluster.hub.notes import Ended, Note, Submitted
from mpicluster.hub.questions import HistoryQuestion, Questions, Refused
from mpicluster.hub.store import Batch, Request, Row, Store, StoreError
from mpicluster.wire import messages as m

__all__ = ["History"]

_log = logging.getLogger(__name__)
#: So many notes are written together, without a pause ...
_MANY = 20_000
#: ... and when so many wait, the disk does not answer.
_TOO_MANY = 2_000_000
_encoder = msgspec.msgpack.Encoder()


class _Asked(NamedTuple):
    """Who asked (an address of the hub's, and a client's id), and what."""

    listener: bytes
    client: str
    question: HistoryQuestion


class History:
    """The history of one cluster, kept at ``path``. ``path=None``: there is none, and questions are told so.

    `take`, `ask`, `answers`, `facts` and `close` are the loop's; all else happens in the thread.
    """

    def __init__(self, cluster: str, path: str | None, limits: HistoryLimits | None = None) -> None:
        self._cluster = cluster
        self._path = path
        self._limits = limits or HistoryLimits()
        #: why there is none; empty as long as there is one
        self.stopped = "" if path is not None else "the cluster was started without a history"
        #: what waits for the thread, and how much that is; each side of a deque is one thread's
        self._batches: deque[Batch] = deque()
        self._questions: deque[_Asked] = deque()
        self._notes = self._nbytes = 0
        #: notes that the thread has dealt with; only the thread adds to them
        self._notes_done = self._nbytes_done = 0
        self._thinned = 0
        self._answers: deque[tuple[bytes, m.Message]] = deque()
        #: the loop becomes readable here when there are answers
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: parts that somebody waits for, by job and index
        self._watched: dict[tuple[int, int], list[tuple[_Asked, Request]]] = {}
        #: there is something to do, and it does not wait for more
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self._store: Store | None = None
        self._size = 0
        self._tasks = 0
        self._thread: threading.Thread | None = None
        if path is not None:
            self._thread = threading.Thread(target=self._run, name="mpicluster-history", daemon=True)
            self._thread.start()

    # -- the loop's side ---------------------------------------------------------------------------------------------

    def take(self, notes: Sequence[Note], when: float) -> None:
        """Remember this, which was heard at that moment (seconds since 1970)."""
        if self.stopped:
            return
        nbytes = 0
        for note in notes:
            if type(note) is Ended:
                nbytes += len(note.result.data)
            elif type(note) is Submitted:
                nbytes += sum(map(len, note.submit.data))
        if self._nbytes - self._nbytes_done + nbytes > HISTORY_PENDING:
            self._thinned += len(notes)
            notes = [_thin(note) for note in notes]
            nbytes = 0
        self._batches.append(Batch(when, notes, nbytes))
        self._notes += len(notes)
        self._nbytes += nbytes
        if not self._wake.is_set():
            self._wake.set()
        waiting = self._notes - self._notes_done
        if self._watched or waiting > _MANY:
            self._hurry.set()
        if waiting > _TOO_MANY:
            self._stop(f"{waiting} notes wait for the disk, which does not answer")

    def ask(self, listener: bytes, client: str, question: HistoryQuestion) -> None:
        """Answer a question of a client, once the notes before it are written."""
        if self._path is None:
            self._answers.append((listener, m.Answer(question.request, b"", self._why(), m.NO_HISTORY)))
            os.eventfd_write(self.descriptor, 1)
            return
        self._questions.append(_Asked(listener, client, question))
        self._wake.set()
        self._hurry.set()

    def answers(self) -> list[tuple[bytes, m.Message]]:
        """What is to be said, and to whom; to be called when the descriptor is readable."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            pass
        said = []
        while self._answers:
            said.append(self._answers.popleft())
        return said

    def facts(self) -> dict[str, object]:
        """How it is, for `status`."""
        return {
            "on": not self.stopped,
            "stopped": self.stopped if self._path is not None else "",
            "tasks": self._tasks,
            "nbytes": self._size,
            "without_values": self._thinned,
            "limits": self._limits._asdict(),
        }

    def close(self, timeout: float) -> None:
        """Write what there is, for so many seconds at most, and end."""
        self._closing = True
        self._wake.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(timeout)
        if self._thread is None or not self._thread.is_alive():
            os.close(self.descriptor)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._path is not None
        try:
            self._store = Store(self._path, self._limits)
        except StoreError as e:
            self._stop(str(e))
        while not self._closing or self._batches or self._questions:
            self._wake.wait()
            self._wake.clear()
            if not self._closing:
                self._hurry.wait(HISTORY_PAUSE)
            self._hurry.clear()
            self._turn()
        if self._store is not None:
            self._store.close()

    def _turn(self) -> None:
        """Write what has come, then answer what was asked before that."""
        asked = [self._questions.popleft() for _ in range(len(self._questions))]
        while self._batches:
            self._write()
        for one in asked:
            try:
                self._answer(one)
            except StoreError as e:
                self._stop(str(e))
                self._say(one.listener, m.Answer(one.question.request, b"", self._why(), m.NO_HISTORY))
            except Exception as e:  # noqa: BLE001 - a fault of ours: who asked is told, and all goes on
                _log.exception("a question that could not be answered")
                self._say(one.listener, m.Answer(one.question.request, b"", f"{type(e).__name__}: {e}", m.UNFIT))
            while self._batches:  # a long row of questions does not hold up what is to be written
                self._write()

    def _write(self) -> None:
        batches, count = [], 0
        while self._batches and count < _MANY:
            batches.append(self._batches.popleft())
            count += len(batches[-1].notes)
        if self._store is not None and not self.stopped:
            try:
                ended = self._store.write(batches, self._watched)
                self._tasks, self._size = self._store.tasks, self._store.nbytes
                self._tell(self._store, ended)
            except StoreError as e:
                self._stop(str(e))
        self._notes_done += count
        self._nbytes_done += sum(batch.nbytes for batch in batches)

    def _tell(self, store: Store, ended: Iterable[tuple[tuple[int, int], Row]]) -> None:
        """Tell those who wait for these parts."""
        questions = Questions(self._cluster, store)
        for (job, part), row in ended:
            for one, request in self._watched.pop((job, part), ()):
                self._say(one.listener, m.Recalled(one.question.request, questions.remembered(request, part, row, results=True)))

    def _answer(self, one: _Asked) -> None:
        question = one.question
        if self.stopped or self._store is None:
            self._say(one.listener, m.Answer(question.request, b"", self._why(), m.NO_HISTORY))
            return
        questions = Questions(self._cluster, self._store)
        try:
            if isinstance(question, m.Find):
                data = questions.find(question)
            elif isinstance(question, m.History):
                data = questions.history(question.start)
            elif isinstance(question, m.Recall):
                data = self._recall(one, question, questions)
            elif isinstance(question, m.Purge):
                data = _encoder.encode(questions.purge(question))
                self._tasks, self._size = self._store.tasks, self._store.nbytes
            else:
                data = _encoder.encode(questions.resubmit(one.client, question))
        except Refused as e:
            self._say(one.listener, m.Answer(question.request, b"", str(e), e.fault))
            return
        self._say(one.listener, m.Answer(question.request, data))

    def _recall(self, one: _Asked, question: m.Recall, questions: Questions) -> bytes:
        found = questions.recall(question)
        if question.watch:
            for (job, index), request in found.under_way.items():
                self._watched.setdefault((job, index), []).append((one, request))
        return _encoder.encode((found.known, found.parts))

    def _say(self, listener: bytes, message: m.Message) -> None:
        self._answers.append((listener, message))
        os.eventfd_write(self.descriptor, 1)

    def _stop(self, why: str) -> None:
        """There is no history any more."""
        if self.stopped:
            return
        self.stopped = why
        _log.warning("HISTORY STOPPED: %s. The cluster goes on; what ends from now on is not remembered (%s)", why, self._path)
        watched, self._watched = self._watched, {}
        for one in {id(one): one for waiting in watched.values() for one, _ in waiting}.values():
            self._say(one.listener, m.Answer(one.question.request, b"", self._why(), m.NO_HISTORY))

    def _why(self) -> str:
        if self._path is None:
            return f"there is no history: {self.stopped}"
        return f"the history has stopped: {self.stopped}"


def _thin(note: Note) -> Note:
    """A note without what is large."""
    if type(note) is Ended and note.result.data:
        x = note.result
        return Ended(note.job, note.part, msgspec.structs.replace(x, data=b"", sizes=x.sizes or [len(x.data)], output=[]))
    if type(note) is Submitted:
        x_ = note.submit
        size = sum(map(len, x_.data))
        return Submitted(note.job, note.client, msgspec.structs.replace(x_, data=[b""] * len(x_.data), sizes=x_.sizes or [size]))
    return note
