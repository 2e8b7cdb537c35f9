"""Notes as a scheduler makes them, for the tests of the history."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mpicluster.hub.notes import Ended, Submitted, Wrote
from mpicluster.hub.store import Batch
from mpicluster.wire import messages as m

FAILURE = msgspec.msgpack.encode(
    {"ename": "ValueError", "evalue": "no", "traceback": "line 1\nline 2", "info": {"engine_id": 1, "method": "apply"}, "pickled": b""}
)


def submitted(job, client="c", *, first=1, tasks=1, targets=None, label="", data=None, **options):
    data = data or [b"d%d" % i for i in range(tasks)]
    terms = m.Terms(label=label) if label else None
    fields = {"kind": "apply", "allowed": [], "fn": b"f", "bulk": b"", "sizes": [], "collective": "", "retries": 0} | options
    return Submitted(job, client, m.Submit(first=first, targets=targets, data=data, terms=terms, **fields))


def ended(job, part=0, *, task=1, engine=0, outcome=m.OK, data=b"v", sizes=(), completed=2.0, output=()):
    return Ended(job, part, m.Result(task, engine, outcome, data, list(sizes), 1.0, completed, list(output)))


def wrote(job, part, *output):
    return Wrote(job, part, list(output))


def batch(*notes, when=100.0):
    return Batch(when, notes)


def file_size(path):
    """All that is on the disk."""
    return sum(p.stat().st_size for p in (Path(path), Path(path + "-wal")) if p.exists())
