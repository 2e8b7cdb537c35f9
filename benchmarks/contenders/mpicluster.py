"""Ours."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from benchmarks.contenders.views import measurements
from benchmarks.measures import Size
from benchmarks.take import take
from benchmarks.work import Measurement, arrays, increment
from mpicluster import Cluster


@contextmanager
def cluster(engines: int) -> Iterator[Mapping[str, Measurement]]:
    """A cluster as a person starts it from Python."""
    begin = time.perf_counter()
    with Cluster(n=engines) as rc:
        rc[:].apply_sync(os.getpid)
        started = time.perf_counter() - begin
        hub = psutil.Process(rc.contact.hub_pid)
        fresh = hub.memory_info().rss
        yield {
            "start": lambda _: [started],
            **measurements(rc),
            "hub": lambda size: hub_growth(rc, hub, fresh, size),
        }


def hub_growth(rc: Any, hub: psutil.Process, fresh: int, size: Size) -> list[float]:
    """MB of the hub above its start, after all that came before, these tasks and these pushes."""
    view = rc.load_balanced_view()
    for left in range(size.hub_tasks, 0, -10_000):
        view.map_sync(increment, range(min(left, 10_000)), chunksize=1)
    for array in arrays(size, size.hub_pushes - 1):
        rc[:].push({"a": array}, block=True)
    return [(hub.memory_info().rss - fresh) / 1e6]


if __name__ == "__main__":
    take(cluster)
