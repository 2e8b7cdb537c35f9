"""dask.distributed: a local cluster of processes with one thread each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dask.distributed import Client, LocalCluster

from benchmarks.contenders.views import idle
from benchmarks.measures import Size
from benchmarks.take import take
from benchmarks.work import Measurement, arrays, increment, rates, times


@contextmanager
def cluster(engines: int) -> Iterator[Mapping[str, Measurement]]:
    """A cluster as a person starts it from Python, without its dashboard."""
    begin = time.perf_counter()
    with (
        LocalCluster(n_workers=engines, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        Client(local) as client,
    ):
        client.run(os.getpid)
        started = time.perf_counter() - begin
        yield {
            "start": lambda _: [started],
            "apply": lambda size: apply(client, size),
            "map": lambda size: map_of_four(client, size),
            "tasks": lambda size: tasks(client, size),
            "push": lambda size: push(client, size),
            "idle": idle,
        }


def apply(client: Client, size: Size) -> list[float]:
    """One call on one worker and back; `pure=False`, for it must run each time."""
    worker = next(iter(client.scheduler_info()["workers"]))

    def call() -> None:
        client.submit(increment, 1, workers=worker, pure=False).result(timeout=60)

    times(call, size.warmup)
    return times(call, size.calls)


def map_of_four(client: Client, size: Size) -> list[float]:
    """A map of four items."""

    def call() -> None:
        client.gather(client.map(increment, range(4), pure=False))

    times(call, max(1, size.warmup // 4))
    return times(call, size.maps)


def tasks(client: Client, size: Size) -> list[float]:
    """Many small tasks: a fifth of them, it is that much slower."""
    return rates(lambda n: client.gather(client.map(increment, range(n), pure=False)), size.tasks // 5, size.bursts)


def push(client: Client, size: Size) -> list[float]:
    """One array to all workers. Each is a new one: dask knows an array by its hash and would not send it twice."""
    samples = []
    for array in arrays(size):
        begin = time.perf_counter()
        held = client.scatter(array, broadcast=True, timeout=60)
        samples.append(time.perf_counter() - begin)
        held.release()
    return samples[1:]


if __name__ == "__main__":
    take(cluster)
