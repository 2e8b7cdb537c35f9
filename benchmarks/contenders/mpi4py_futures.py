"""mpi4py.futures: one master and the workers, as ranks of one job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mpi4py.futures import MPIPoolExecutor

from benchmarks.measures import Size
from benchmarks.take import take
from benchmarks.work import Measurement, imported_increment, rates, times

# The task is an importable function here: mpi4py.futures pickles it by name and knows no other way.


@contextmanager
def cluster(engines: int) -> Iterator[Mapping[str, Measurement]]:
    """The pool of this job's other ranks. It is there already: its start is mpiexec's and is not measured."""
    with MPIPoolExecutor(max_workers=engines) as executor:
        executor.bootup(wait=True)
        yield {
            "apply": lambda size: apply(executor, size),
            "map": lambda size: map_of_four(executor, size),
            "tasks": lambda size: tasks(executor, size),
        }


def apply(executor: MPIPoolExecutor, size: Size) -> list[float]:
    """One call on some worker and back."""
    times(lambda: executor.submit(imported_increment, 1).result(timeout=60), size.warmup)
    return times(lambda: executor.submit(imported_increment, 1).result(timeout=60), size.calls)


def map_of_four(executor: MPIPoolExecutor, size: Size) -> list[float]:
    """A map of four items."""
    times(lambda: list(executor.map(imported_increment, range(4), timeout=60)), max(1, size.warmup // 4))
    return times(lambda: list(executor.map(imported_increment, range(4), timeout=60)), size.maps)


def tasks(executor: MPIPoolExecutor, size: Size) -> list[float]:
    """Many small tasks, one per message."""
    return rates(lambda n: list(executor.map(imported_increment, range(n), chunksize=1)), size.tasks, size.bursts)


if __name__ == "__main__":
    take(cluster)
