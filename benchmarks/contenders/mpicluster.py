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
from benchmarks.work import Measurement, arrays, expect, increment, times
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
            "array": lambda size: array(rc, size),
            "arrays": lambda size: asynchronous(rc, size),
            "hub": lambda size: hub_growth(rc, hub, fresh, size),
        }


def array(rc: Any, size: Size) -> list[float]:
    """A handle, an operation on it, and its value here."""
    x = rc.xp.ones(8)
    times(lambda: float(rc.xp.sum(x)), size.warmup)
    return times(lambda: float(rc.xp.sum(x)), size.calls)


def asynchronous(rc: Any, size: Size) -> list[float]:
    """Operations of which each needs the one before, and only the last one's value is asked for."""

    def burst(n: int) -> float:
        x = rc.xp.zeros(8)
        for _ in range(n):
            x = x + 1
        return float(x[0])

    samples = []
    burst(size.tasks // 10)
    for _ in range(size.bursts):
        begin = time.perf_counter()
        expect(burst(size.tasks) == size.tasks, "an operation was not done")
        samples.append(size.tasks / (time.perf_counter() - begin))
    return samples


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
