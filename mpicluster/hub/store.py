"""The file of the history: one SQLite connection, used by one thread. Rows in, rows out; it knows no questions.

A submission is one row. Results are kept in *blocks*: those of one job that ended within one batch are one row, packed. A row for
each result costs three times as much to write (measured: 3.4 against 1.1 microseconds, most of it with the GIL held).
"""

from __future__ import annotations

import operator
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec

from mpicluster.config import HISTORY_OUTPUT, HistoryLimits
from mpicluster.hub.notes import Ended, Note, Submitted, Wrote, newest
from mpicluster.wire.messages import LOST, Piece, Submit

__all__ = ["MANY", "PURGED", "Batch", "Request", "Row", "Store", "StoreError"]

_VERSION = 1
#: The outcome of a result that was forgotten while others of its job were not.
PURGED = -2
#: A block is at most about so large, so that reading one result does not read hundreds of megabytes.
_BLOCK = 4 * 1024 * 1024
#: Requests looked at together, and how often so many when there is something to forget.
MANY = 500
_ROUNDS = 16
_LARGEST = 2**63 - 1
_COLUMNS = "job, name, first, count, submitted, kind, label, retries, gone, targets"
_SCHEMA = """
CREATE TABLE clients (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE requests (job INTEGER PRIMARY KEY, client INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    submitted REAL NOT NULL, kind TEXT NOT NULL, label TEXT NOT NULL, retries INTEGER NOT NULL, targets BLOB,
    gone INTEGER NOT NULL, submit BLOB);
CREATE INDEX by_task ON requests (client, first);
CREATE TABLE blocks (number INTEGER PRIMARY KEY, job INTEGER NOT NULL, newest REAL NOT NULL, data BLOB NOT NULL);
CREATE INDEX by_job ON blocks (job);
CREATE TABLE again (job INTEGER NOT NULL, part INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (job, part)) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The file cannot be used any more, and why."""


class Batch(NamedTuple):
    """Notes of one turn of the hub's loop, and when that was (seconds since 1970)."""

    when: float
    notes: Sequence[Note]
    #: about how large they are
    nbytes: int = 0


class Request(NamedTuple):
    """What was submitted, without its data."""

    job: int
    client: str
    first: int
    #: how many: tasks of a balanced submission, or targets
    parts: int
    submitted: float
    kind: str
    label: str
    retries: int
    #: how many of its results were forgotten
    gone: int
    targets: list[int] | None

    def indices(self, task: int, engine: int) -> list[int]:
        """Which parts an id means (engine -1: of any engine)."""
        if self.targets is None:
            return [task - self.first] if engine < 0 else []
        return list(range(self.parts)) if engine < 0 else [i for i, target in enumerate(self.targets) if target == engine]


class Row(NamedTuple):
    """How a part has ended."""

    part: int
    engine: int
    outcome: int
    data: bytes
    #: bytes of its value that are not kept
    dropped: int
    started: float
    completed: float
    #: when the hub had heard it
    received: float
    output: list[Piece]


_rows = msgspec.msgpack.Decoder(list[Row])
_targets = msgspec.msgpack.Decoder(list[int])
_submit = msgspec.msgpack.Decoder(Submit)
_COMPLETED = operator.itemgetter(Row._fields.index("completed"))
_encoder = msgspec.msgpack.Encoder()
_LOST_WITH_THE_CLUSTER = b"the cluster ended before this task did"


class Store:
    """An open file.

    Raises
    ------
    StoreError
        from the constructor and from all methods: the file cannot be read or written.
    """

    def __init__(self, path: str, limits: HistoryLimits) -> None:
        self._limits = limits
        #: what parts that are under way have written
        self._written: dict[tuple[int, int], list[Piece]] = {}
        #: parts that have not ended, of each job under way
        self._open: dict[int, int] = {}
        #: numbers of clients, as they were used last
        self._clients: OrderedDict[str, int] = OrderedDict()
        #: up to which job it has been seen what there is to forget
        self._pruned_to = -1
        #: the file has no room for values, since all that it holds belongs to jobs under way
        self.crowded = False
        self.path = path
        with _told():
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            except OSError as e:
                raise StoreError(f"{path}: {e.strerror}") from e
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
            self._prepare()
            #: jobs of this hub are numbered from here: a file may have been begun by one before
            self.base: int = self._value("SELECT coalesce(max(job), 0) FROM requests")
            #: tasks that are remembered
            self.tasks: int = self._value("SELECT coalesce(sum(count), 0) FROM requests")

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # no shared memory: this works on network file systems as well
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")  # a crash of this process loses nothing; one of the machine, the history
        self._db.execute("PRAGMA journal_size_limit = 4194304")
        self._db.execute("PRAGMA cache_size = -8192")
        version = self._value("PRAGMA user_version")
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT")
        elif version != _VERSION:
            raise StoreError(f"{self.path} was written by another version of mpicluster (format {version}, not {_VERSION})")

    def _value(self, sql: str, *values: Any) -> Any:
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else row[0]

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        with _told():
            pages = int(self._value("PRAGMA page_count")) - int(self._value("PRAGMA freelist_count"))
            return pages * int(self._value("PRAGMA page_size"))

    def close(self) -> None:
        """Close the file; what was written stays."""
        with suppress(sqlite3.Error):
            self._db.close()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, batches: Iterable[Batch], wanted: Container[tuple[int, int]] = ()) -> list[tuple[tuple[int, int], Row]]:
        """Keep what these notes say, and forget what is too old or too much. Results of the parts (job, part) that are ``wanted``."""
        requests: list[tuple[Any, ...]] = []
        blocks: dict[int, list[tuple[Any, ...]]] = {}
        found = []
        now = 0.0
        with _told(), self._transaction():
            for batch in batches:
                now = batch.when
                for note in batch.notes:
                    if type(note) is Ended:  # the most frequent by far
                        job, part, x = note
                        job += self.base
                        if x.output or x.sizes or self.crowded or self._written:
                            row = self._ended(job, note, now)
                        else:
                            row = (part, x.engine, x.outcome, x.data, 0, x.started, x.completed, now, ())
                        if job in blocks:
                            blocks[job].append(row)
                        else:
                            blocks[job] = [row]
                        if wanted and (job, part) in wanted:
                            found.append(((job, part), Row(*row)))
                    elif type(note) is Submitted:
                        requests.append(self._submitted(note.job + self.base, note, now))
                    elif type(note) is Wrote:
                        key = (note.job + self.base, note.part)
                        self._written[key] = newest([*self._written.get(key, ()), *note.output], HISTORY_OUTPUT)
            self._db.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)", requests)
            self._keep(blocks.items(), now)
            for job, rows in blocks.items():
                self._count_down(job, len(rows))
            self._prune(now)
        return found

    def _keep(self, results: Iterable[tuple[int, Sequence[Sequence[Any]]]], now: float) -> None:
        """Write results of jobs, in blocks of bounded size."""
        blocks = []
        for job, rows in results:
            latest = max(now, max(map(_COMPLETED, rows)))  # a bound is enough
            data = _encoder.encode(rows)
            some = len(rows) // (len(data) // _BLOCK + 1) + 1
            packed = [data] if some >= len(rows) else [_encoder.encode(rows[i : i + some]) for i in range(0, len(rows), some)]
            blocks += [(job, latest, block) for block in packed]
        self._db.executemany("INSERT INTO blocks (job, newest, data) VALUES (?, ?, ?)", blocks)

    def _count_down(self, job: int, ended: int) -> None:
        """So many parts of a job are not under way any more."""
        left = self._open.pop(job, 0) - ended
        if left > 0:
            self._open[job] = left

    def _submitted(self, job: int, note: Submitted, when: float) -> tuple[Any, ...]:
        _, client, submit = note
        count = len(submit.data) if submit.targets is None else len(submit.targets)
        self._open[job] = count
        self.tasks += count
        targets = None if submit.targets is None else _encoder.encode(submit.targets)
        kept = None if self.crowded else _encoder.encode(submit)
        label = submit.terms.label if submit.terms is not None else ""
        return job, self._client(client), submit.first, count, when, submit.kind, label, submit.retries, targets, kept

    def _ended(self, job: int, note: Ended, when: float) -> tuple[Any, ...]:
        _, index, x = note
        written = self._written.pop((job, index), None) if self._written else None
        output = x.output if written is None else [*written, *x.output]
        if output:
            output = newest(output, HISTORY_OUTPUT)
        if x.sizes:
            return index, x.engine, x.outcome, b"", sum(x.sizes), x.started, x.completed, when, output
        if self.crowded and len(x.data) > 64:
            return index, x.engine, x.outcome, b"", len(x.data), x.started, x.completed, when, []
        return index, x.engine, x.outcome, x.data, 0, x.started, x.completed, when, output

    def _client(self, name: str) -> int:
        number = self._clients.get(name)
        if number is None:
            self._db.execute("INSERT OR IGNORE INTO clients (name) VALUES (?)", (name,))
            number = self._clients[name] = int(self._value("SELECT number FROM clients WHERE name = ?", name))
            if len(self._clients) > 1024:
                self._clients.popitem(last=False)
        return number

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    # -- forgetting --------------------------------------------------------------------------------------------------

    def _prune(self, now: float) -> None:
        """Forget the oldest jobs that have ended, until all limits hold, or for a while."""
        limits, oldest = self._limits, now - self._limits.age
        if self.tasks <= limits.tasks and self.nbytes <= limits.nbytes:
            begun = self._value("SELECT submitted FROM requests ORDER BY job LIMIT 1")
            if begun is None or begun >= oldest:
                self._pruned_to, self.crowded = -1, False
                return
        for _ in range(_ROUNDS):
            surplus = self.tasks - limits.tasks
            large = self.nbytes > limits.nbytes
            rows = self._db.execute(
                "SELECT job, count, submitted FROM requests WHERE job > ? ORDER BY job LIMIT ?", (self._pruned_to, 32 if large else MANY)
            ).fetchall()
            run: list[tuple[int, int]] = []
            enough = not rows
            for job, count, submitted in rows:
                if surplus <= 0 and not large and submitted >= oldest:
                    enough = True
                    break
                self._pruned_to = job
                if job in self._open:
                    self._drop(run)
                    run = []
                else:
                    run.append((job, count))
                    surplus -= count
            self._drop(run)
            if enough:
                self._pruned_to = -1
                break
        self.crowded = self.nbytes > limits.nbytes

    def _drop(self, run: Sequence[tuple[int, int]]) -> None:
        """Forget jobs, given with their number of parts, between which there is no other."""
        if run:
            self.tasks -= sum(count for _, count in run)
            for table in ("blocks", "requests", "again"):
                self._db.execute(f"DELETE FROM {table} WHERE job BETWEEN ? AND ?", (run[0][0], run[-1][0]))

    def is_open(self, job: int) -> bool:
        """Whether some of it is under way."""
        return job in self._open

    def forget_ended(self, requests: Iterable[Request]) -> int:
        """Forget those of these neighbours of which nothing is under way; how many parts they had."""
        before = self.tasks
        run: list[tuple[int, int]] = []
        with _told(), self._transaction():
            for request in requests:
                if request.job in self._open:
                    self._drop(run)
                    run = []
                else:
                    run.append((request.job, request.parts))
            self._drop(run)
        return before - self.tasks

    def forget(self, parts: Iterable[tuple[Request, int]]) -> int:
        """Forget these results; how many there were. Of a job of which nothing is left, all."""
        by_job: dict[int, tuple[Request, set[int]]] = {}
        for request, index in parts:
            by_job.setdefault(request.job, (request, set()))[1].add(index)
        known = self.results(list(by_job))
        forgotten = 0
        with _told(), self._transaction():
            for job, (request, indices) in by_job.items():
                rows = known.get(job, {})
                here = {i for i in indices if i in rows and rows[i].outcome != PURGED}
                forgotten += len(here)
                left = [_forgotten(row) if row.part in here else row for row in rows.values()]
                if len(left) == request.parts and all(row.outcome == PURGED for row in left):
                    self._drop([(job, request.parts)])
                elif here:
                    self._db.execute("UPDATE requests SET gone = gone + ? WHERE job = ?", (len(here), job))
                    self._db.execute("DELETE FROM blocks WHERE job = ?", (job,))
                    self._keep([(job, left)], max(row.received for row in left))
        return forgotten

    # -- reading -----------------------------------------------------------------------------------------------------

    def requests(self, start: int, where: str = "", values: Sequence[Any] = ()) -> list[Request]:
        """Some of the requests from job ``start`` on, oldest first; none when there are none."""
        sql = f"""SELECT {_COLUMNS} FROM requests JOIN clients ON client = number WHERE job >= ? {where} ORDER BY job LIMIT {MANY}"""
        with _told():
            return [_request(row) for row in self._db.execute(sql, (start, *values))]

    def find(self, client: str, task: int) -> Request | None:
        """The request that a task belongs to."""
        sql = f"""SELECT {_COLUMNS} FROM requests JOIN clients ON client = number
            WHERE client = (SELECT number FROM clients WHERE name = ?) AND first <= ? ORDER BY first DESC, job DESC LIMIT 1"""
        if task > _LARGEST:
            return None
        with _told():
            row = self._db.execute(sql, (client, task)).fetchone()
        if row is None:
            return None
        request = _request(row)
        return request if task < request.first + (request.parts if request.targets is None else 1) else None

    def results(self, jobs: Sequence[int], newest_from: float | None = None) -> dict[int, dict[int, Row]]:
        """How parts of these jobs have ended, by job and part; those that completed before ``newest_from`` may be left out."""
        found: dict[int, dict[int, Row]] = {}
        with _told():
            for i in range(0, len(jobs), MANY):
                some = jobs[i : i + MANY]
                sql = f"SELECT job, data FROM blocks WHERE job IN ({', '.join('?' * len(some))}) AND newest >= ? ORDER BY number"
                for job, data in self._db.execute(sql, (*some, -1.0 if newest_from is None else newest_from)):
                    rows = found.setdefault(job, {})
                    for row in _rows.decode(data):
                        rows[row.part] = row
        return found

    def unfinished(self, request: Request, index: int) -> Row | None:
        """What is known of a part that has no result: None when it is under way."""
        if request.job > self.base:
            return None
        return Row(index, -1, LOST, _LOST_WITH_THE_CLUSTER, 0, 0.0, 0.0, 0.0, [])

    def output_of(self, job: int, index: int) -> list[Piece]:
        """What a part that is under way has written."""
        return self._written.get((job, index), [])

    def submit_of(self, job: int) -> Submit | None:
        """All that was submitted; None when it is not kept."""
        with _told():
            data = self._value("SELECT submit FROM requests WHERE job = ?", job)
        return None if data is None else _submit.decode(data)

    def mark_again(self, names: Iterable[tuple[int, int, str]]) -> None:
        """These parts (job, index) have been submitted again, under these names."""
        with _told(), self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO again VALUES (?, ?, ?)", names)

    def again(self, job: int, index: int) -> str | None:
        """Under which name a part was submitted again."""
        with _told():
            name: str | None = self._value("SELECT name FROM again WHERE job = ? AND part = ?", job, index)
            return name


@contextmanager
def _told() -> Iterator[None]:
    """What SQLite raises, as a `StoreError`."""
    try:
        yield
    except sqlite3.Error as e:
        raise StoreError(f"{type(e).__name__}: {e}") from e


def _request(row: tuple[Any, ...]) -> Request:
    job, name, first, parts, submitted, kind, label, retries, gone, targets = row
    return Request(job, name, first, parts, submitted, kind, label, retries, gone, None if targets is None else _targets.decode(targets))


def _forgotten(row: Row) -> Row:
    return Row(row.part, row.engine, PURGED, b"", 0, row.started, row.completed, row.received, [])
