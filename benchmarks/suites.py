"""What is measured together: contenders, measures, sizes and targets. Tables only."""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks import measures
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.linalg import measures as linalg
from benchmarks.measures import OURS, Measure, Target

__all__ = ["SUITES", "Suite"]

_FOLDER = "benchmarks.linalg"


class Suite(msgspec.Struct, frozen=True):
    """One table of results."""

    name: str
    title: str
    contenders: dict[str, Contender]
    measures: dict[str, Measure]
    targets: tuple[Target, ...]
    full: Any
    quick: Any
    #: engines, or ranks
    engines: int
    #: rounds of a full run
    rounds: int
    #: what a reader must know to compare
    note: str
    #: the page of the documentation that a full run writes
    page: str | None = None


def _of(*contenders: Contender) -> dict[str, Contender]:
    return {contender.name: contender for contender in contenders}


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "cluster",
            "Benchmarks",
            CONTENDERS,
            measures.MEASURES,
            measures.TARGETS,
            measures.FULL,
            measures.QUICK,
            4,
            5,
            "`raw-zmq` is client to hub to engine and back, that is two round trips, in plain pyzmq over `ipc`; `raw-mpi` is the"
            " bare `Bcast`, `Scatterv`, `Gatherv` in warm buffers, without a client. The small task is a function as typed in a"
            " notebook, which travels by value; `mpi4py.futures` can only take it by name. An array is a new one each time.",
        ),
        Suite(
            "linalg",
            "Benchmarks of linear algebra",
            _of(
                Contender(OURS, f"{_FOLDER}.ours", ("mpicluster", "scipy"), extra_ranks=0, threads=1),
                Contender("numpy", f"{_FOLDER}.numpy", ("numpy",), threads=linalg.RANKS),
                Contender("scipy", f"{_FOLDER}.scipy", ("scipy",), threads=linalg.RANKS),
                Contender("heat", f"{_FOLDER}.heat", ("heat", "torch"), extra_ranks=0, threads=1),
                Contender("dask", f"{_FOLDER}.dask", ("dask", "distributed"), threads=1),
                Contender("scalapack", f"{_FOLDER}.scalapack", ("mkl",), extra_ranks=0, threads=1),
            ),
            linalg.MEASURES,
            linalg.TARGETS,
            linalg.FULL,
            linalg.QUICK,
            linalg.RANKS,
            3,
            f"float64. Ours, Heat and ScaLAPACK run on {linalg.RANKS} ranks with one BLAS thread each, dask on {linalg.RANKS} workers,"
            f" NumPy and SciPy in one process with {linalg.RANKS} threads. Operands lie where each has them: blocks of rows, of columns for"
            " ScaLAPACK; what an operation moves for itself is in its time. ScaLAPACK is MKL's, in blocks of 128 columns, not tuned.",
            "linalg-benchmarks",
        ),
    )
}
