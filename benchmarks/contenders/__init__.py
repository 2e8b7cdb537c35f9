"""The table of contenders. Each is a module that is run in a process of its own; this one only says how."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec

from benchmarks.measures import OURS

__all__ = ["CONTENDERS", "Contender", "mpiexec"]


class Contender(msgspec.Struct, frozen=True):
    """One of those that run."""

    name: str
    #: in this package, unless it has a package of its own
    module: str
    #: distributions whose versions the report states
    packages: tuple[str, ...]
    #: started by mpiexec, with so many ranks more than engines; None: started as one plain process
    extra_ranks: int | None = None
    #: the module that runs the module, if any
    runner: str | None = None
    #: threads of the BLAS in each process; None: as it finds them
    threads: int | None = None

    def command(self, engines: int) -> list[str]:
        """The command line that runs this contender, without its request."""
        ranks = [] if self.extra_ranks is None else [mpiexec(), "-n", str(engines + self.extra_ranks)]
        runner = [] if self.runner is None else ["-m", self.runner]
        return [*ranks, sys.executable, *runner, "-m", self.module if "." in self.module else f"benchmarks.contenders.{self.module}"]


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(OURS, "mpicluster", ("mpicluster",)),
        Contender("ipyparallel", "ipyparallel", ("ipyparallel",)),
        Contender("dask", "dask", ("distributed",)),
        Contender("mpi4py.futures", "mpi4py_futures", ("mpi4py",), extra_ranks=1, runner="mpi4py.futures"),
        Contender("raw-zmq", "raw_zmq", ("pyzmq",)),
        Contender("raw-mpi", "raw_mpi", ("mpi4py",), extra_ranks=0),
    )
}


def mpiexec() -> str:
    """The mpiexec of this environment, else the one on PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
