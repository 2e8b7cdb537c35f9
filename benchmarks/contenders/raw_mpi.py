"""The floor of moving data: the bare collective between as many ranks, in buffers that are warm.

What a client must add (its array to the root, or back) is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from mpi4py import MPI

from benchmarks.measures import Size
from benchmarks.take import take
from benchmarks.work import Measurement, expect


@contextmanager
def cluster(engines: int) -> Iterator[Mapping[str, Measurement]]:
    """This job itself: all ranks measure, rank 0 writes."""
    comm = MPI.COMM_WORLD
    expect(comm.size == engines, f"{comm.size} ranks, not {engines}: is this mpiexec of the MPI that mpi4py loads?")
    yield {
        "push": lambda size: push(comm, size),
        "scatter": lambda size: scatter(comm, size),
        "gather": lambda size: gather(comm, size),
    }


def push(comm: MPI.Comm, size: Size) -> list[float]:
    """Bcast of the array from rank 0."""
    array = np.full(size.nbytes // 8, float(comm.rank))
    return timed(comm, lambda: comm.Bcast(array, root=0), size)


def scatter(comm: MPI.Comm, size: Size) -> list[float]:
    """Scatterv of the array from rank 0."""
    whole, part, counts = buffers(comm, size)
    return timed(comm, lambda: comm.Scatterv([whole, counts, MPI.DOUBLE], part, root=0), size)


def gather(comm: MPI.Comm, size: Size) -> list[float]:
    """Gatherv of the parts to rank 0."""
    whole, part, counts = buffers(comm, size)
    return timed(comm, lambda: comm.Gatherv(part, [whole, counts, MPI.DOUBLE], root=0), size)


def buffers(comm: MPI.Comm, size: Size) -> tuple[np.ndarray | None, np.ndarray, list[int]]:
    """The whole on rank 0, this rank's part, and how many elements each rank has."""
    length = size.nbytes // 8
    counts = [length // comm.size + (rank < length % comm.size) for rank in range(comm.size)]
    whole = np.ones(length) if comm.rank == 0 else None
    return whole, np.ones(counts[comm.rank]), counts


def timed(comm: MPI.Comm, collective: Callable[[], None], size: Size) -> list[float]:
    """Seconds from all ranks being ready to the last one being done, as rank 0 sees it; the first is to warm up."""
    samples = []
    for _ in range(size.copies + 1):
        comm.Barrier()
        begin = time.perf_counter()
        collective()
        comm.Barrier()
        samples.append(time.perf_counter() - begin)
    return samples[1:]


if __name__ == "__main__":
    take(cluster, write=MPI.COMM_WORLD.rank == 0)
