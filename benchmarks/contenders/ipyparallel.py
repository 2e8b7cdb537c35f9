"""IPython Parallel with its own start, its engines under MPI."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ipyparallel

from benchmarks.contenders.views import measurements, push
from benchmarks.take import take
from benchmarks.work import Measurement


@contextmanager
def cluster(engines: int) -> Iterator[Mapping[str, Measurement]]:
    """A cluster as a person starts it from Python. It runs a tenth of the tasks: it is that much slower."""
    begin = time.perf_counter()
    with ipyparallel.Cluster(engines="mpi", n=engines) as rc:
        rc[:].apply_sync(os.getpid)
        started = time.perf_counter() - begin
        yield {
            "start": lambda _: [started],
            **measurements(rc, tasks_fraction=0.1),
            "broadcast": lambda size: push(rc.broadcast_view(), size),
        }


if __name__ == "__main__":
    take(cluster)
