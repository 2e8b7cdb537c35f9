"""A contender's own process: open its cluster, take what was asked for, write it down."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import msgspec

from benchmarks.records import Began, Ended, Failed, Record, Request, Sampled
from benchmarks.work import Measurement

__all__ = ["Opener", "take"]

#: opens a cluster of so many engines and gives what can be measured on it, by the measure's name
Opener = Callable[[int], AbstractContextManager[Mapping[str, Measurement]]]


def take(opener: Opener, *, write: bool = True) -> None:
    """Serve the request in ``sys.argv``. Where a job has several ranks, all take and one writes.

    An error in a measure is recorded and the next one follows; an error in the start or the end is recorded and ends it.
    """
    request = msgspec.json.decode(sys.argv[-1], type=Request)
    with open(request.records if write else os.devnull, "ab", buffering=0) as sink:

        def record(entry: Record) -> None:
            sink.write(msgspec.json.encode(entry) + b"\n")

        stage = "start"
        record(Began(stage))
        try:
            with opener(request.engines) as measurements:
                for measure in request.measures:
                    if measure not in measurements:
                        continue
                    record(Began(measure))
                    try:
                        samples = measurements[measure](request.size)
                    except Exception as error:  # noqa: BLE001 - a contender may fail in any way; the others go on
                        record(Failed(measure, _words(error)))
                    else:
                        record(Sampled(measure, samples))
                stage = "stop"
                record(Began(stage))
        except Exception as error:
            record(Failed(stage, _words(error)))
            raise
        record(Ended())


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
