"""Which batch systems there are, and which is at hand."""

from __future__ import annotations

import shutil

from mpicluster.batch.htcondor import HTCondor
from mpicluster.batch.local import Local
from mpicluster.batch.lsf import LSF
from mpicluster.batch.pbs import PBS
from mpicluster.batch.sge import GridEngine
from mpicluster.batch.slurm import Slurm
from mpicluster.batch.system import System

__all__ = ["NAMES", "system"]

_SYSTEMS: dict[str, System] = {s.name: s for s in (Slurm(), PBS(), LSF(), GridEngine(), HTCondor(), Local())}
_ALSO = {"openpbs": "pbs", "gridengine": "sge", "condor": "htcondor"}
NAMES = tuple(_SYSTEMS)


def system(name: str) -> System:
    """The batch system of a name.

    Raises
    ------
    ValueError
        there is none.
    """
    found = _SYSTEMS.get(_ALSO.get(name.lower(), name.lower()))
    if found is None:
        here = [s.name for s in _SYSTEMS.values() if s.name != "local" and shutil.which(s.submitter)]
        at_hand = f"; here is {', '.join(here)}" if here else ""
        raise ValueError(f"there is no batch system {name!r}; there are {', '.join(_SYSTEMS)}{at_hand}")
    return found
