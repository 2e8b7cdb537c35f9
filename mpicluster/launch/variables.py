"""What a launcher tells its ranks by environment variables, and whether MPI believes it. Pure: text in, text out.

A rank that was started by the wrong launcher finds a world of its own: every rank says that it is "0 of 1". No
MPI library reports that, so the variables that the launcher left are compared with what MPI says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Told", "belongs", "clean_environment", "launcher_rank", "launcher_size", "told"]


@dataclass(frozen=True)
class Told:
    """What one launcher says of this rank."""

    #: who says it, as a person would call it
    launcher: str
    #: the launcher's kind: ``"openmpi"``, ``"mpich"``, ``"slurm"``, ``"batch"``, or another's name
    kind: str
    #: the variable that holds the size, and its value
    variable: str
    size: int
    rank: int | None


#: size, rank, kind, name. The first that is set is the one that started this process: mpiexec before srun, since an
#: mpiexec inside a Slurm job is itself carried by srun.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "openmpi", "Open MPI's mpiexec"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "mpich", "MVAPICH's mpiexec"),
    ("PMI_SIZE", "PMI_RANK", "mpich", "MPICH's (or Intel MPI's) mpiexec"),
    ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK", "jsrun", "jsrun"),
    ("FLUX_JOB_SIZE", "FLUX_TASK_RANK", "flux", "flux run"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "slurm", "srun"),
    ("SLURM_NTASKS", "SLURM_PROCID", "batch", "a Slurm job script"),
)

#: what each launcher leaves in the environment of its ranks
_SLURM_MARKS = re.compile(
    r"PMI_.*|PMIX_.*|SLURM_(PROCID|LOCALID|NODEID|TASK_PID|GTIDS|STEPID|STEP_.*|SRUN_.*|LAUNCH_.*|PMI.*|MPI_TYPE|CPU_BIND.*)"
)
_MPIEXEC_MARKS = re.compile(
    r"OMPI_(?!ALLOW_RUN_AS_ROOT).*|OPAL_.*|PRTE_.*|MPI_LOCAL.*|MV2_COMM_.*|HYDRA_.*|HYDI_.*|JSM_NAMESPACE_.*|FLUX_TASK_.*|FLUX_JOB_SIZE"
)


def _number(environ: Mapping[str, str], variable: str) -> int | None:
    value = environ.get(variable, "")
    return int(value) if value.isascii() and value.isdigit() else None


def told(environ: Mapping[str, str]) -> Told | None:
    """What the launcher of this process says of the world, or None when no launcher left its mark."""
    for size_in, rank_in, kind, name in _LAUNCHERS:
        size, rank = _number(environ, size_in), _number(environ, rank_in)
        if size is None or (kind == "batch" and rank is None):
            continue  # salloc sets SLURM_NTASKS alone: a shell, not a rank
        if kind == "mpich" and "SLURM_STEP_NUM_TASKS" in environ and "PMI_FD" in environ and "HYDI_CONTROL_FD" not in environ:
            kind, name = "slurm", "srun --mpi=pmi2"
        return Told(launcher=name, kind=kind, variable=size_in, size=size, rank=rank)
    return None


def launcher_size(environ: Mapping[str, str]) -> int | None:
    """Ranks that the launcher says it started, or None."""
    found = told(environ)
    return found.size if found else None


def launcher_rank(environ: Mapping[str, str]) -> int | None:
    """Rank that the launcher says this process has, or None."""
    found = told(environ)
    if found and found.rank is not None:
        return found.rank
    return _number(environ, "PMIX_RANK")


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the launcher's marks: a process that is started with it is no rank of that world.

    Where no launcher left a mark everything is the person's own (``OMPI_MCA_*`` tuning, say) and stays.
    """
    found = told(environ)
    if "PMIX_RANK" not in environ and (found is None or found.kind == "batch"):
        return dict(environ)
    kept = {k: v for k, v in environ.items() if not _SLURM_MARKS.fullmatch(k)}
    if found and found.kind != "slurm":
        kept = {k: v for k, v in kept.items() if not _MPIEXEC_MARKS.fullmatch(k)}
    return kept


def belongs(kind: str, vendor: str) -> bool | None:
    """Whether a launcher of this kind can start ranks of an MPI of this vendor; None when that depends on its options."""
    if kind in ("openmpi", "mpich"):
        open_mpi = vendor in ("Open MPI", "Spectrum MPI")
        return open_mpi == (kind == "openmpi")
    return None
