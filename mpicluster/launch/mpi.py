"""How ranks are started with the MPI that is installed, and whether those that run were started by the right launcher."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpicluster.errors import LaunchError
from mpicluster.launch import process
from mpicluster.launch.cores import cores
from mpicluster.launch.installed import Installation, Launcher, Library, identify, installation, library, mpiexec_of, parse_library
from mpicluster.launch.variables import belongs, clean_environment, launcher_rank, launcher_size, told

__all__ = [
    "Installation",
    "Launcher",
    "Library",
    "allocated",
    "check_launcher",
    "check_library",
    "clean_environment",
    "command",
    "cores",
    "environment",
    "installation",
    "is_rank",
    "launcher_rank",
    "launcher_size",
    "library",
    "parse_library",
    "shell",
    "tuning",
]


def command(mpi: Installation, n: int, worker: Sequence[str], hosts: str | None = None) -> list[str]:
    """The command line that starts ``n`` ranks of ``worker``, here or on ``hosts``: ``a:2,b:2``, or the path of a host file."""
    argv = [mpi.launcher.path]
    if hosts is not None:
        argv += _where(mpi.library.kind, hosts)
    if mpi.library.kind == "openmpi":
        if mpi.library.ulfm:
            argv += ["--with-ft", "ulfm"]  # a dead rank does not end the others
        # more ranks than cores are allowed; and ranks that are bound to the same core are slower by orders of magnitude
        argv += ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]
    return [*argv, "-n", str(n), *worker]


def _where(kind: str, hosts: str) -> list[str]:
    """The words by which an mpiexec is told its hosts."""
    if os.sep in hosts or Path(hosts).is_file():
        return ["--hostfile" if kind == "openmpi" else "-f", hosts]
    return ["--host" if kind == "openmpi" else "-hosts", hosts]


def shell(mpi: Installation) -> str:
    """What ``/bin/sh -c`` runs to become ``$@``, whose last option says which launcher that is: its pid, and the host, ``$0``.

    An mpiexec of Open MPI that was killed leaves its session folder, and one that happens to get its pid later refuses to start ("The PMIx
    server's listener thread failed to start", seen with 5.0.11): so it is removed. Whoever has a pid is the only one to use its folder.
    """
    leftovers = 'rm -rf "${TMPDIR:-${TEMP:-${TMP:-/tmp}}}/ompi.$$" 2>/dev/null; ' if mpi.library.kind == "openmpi" else ""
    return leftovers + 'exec "$@" --launcher "$$@$0"'


def environment(mpi: Installation, environ: Mapping[str, str], *, root: bool) -> dict[str, str]:
    """The environment to start that command line with."""
    env = clean_environment(environ)
    env.update(mpi.library.env)
    env.update(tuning(mpi.library.vendor, env))
    if root and mpi.library.kind == "openmpi":
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return env


def tuning(vendor: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that a rank sets before it starts an MPI of this vendor, unless the person has set them.

    Open MPI's ``ofi`` byte transfer layer serves one-sided transfers over libfabric alone, which engines do not use
    (messages over libfabric go by another component); that it looks for a network costs each start a full second.
    """
    if vendor != "Open MPI" or "OMPI_MCA_btl" in environ:
        return {}
    return {"OMPI_MCA_btl": "^ofi"}


def is_rank(environ: Mapping[str, str]) -> bool:
    """Whether mpiexec or srun started this process as one of several: not a job script, which is one process."""
    found = told(environ)
    return found is not None and found.kind != "batch"


def allocated(environ: Mapping[str, str]) -> int | None:
    """How many engines the batch job in which this process runs was given; None if it runs in none."""
    for name in ("SLURM_NTASKS", "LSB_DJOB_NUMPROC", "NSLOTS"):
        if environ.get(name, "").isdigit():
            return int(environ[name])
    try:
        return len(Path(environ["PBS_NODEFILE"]).read_text().split()) or None
    except (KeyError, OSError):
        return None


# --- the classic: every rank says 0 of 1 ------------------------------------------------------------------------------

#: the first rank that exits takes the others with it, so they wait until rank 0 was heard
_RANK_0_SPEAKS = 3.0
_LAUNCHERS = ("mpiexec", "mpirun", "prterun", "orterun", "mpiexec.hydra", "mpiexec.openmp", "mpiexec.mpich", "srun", "jsrun")


def check_library(text: str, environ: Mapping[str, str]) -> str | None:
    """Before MPI is started: whether the launcher of this process is that of another MPI.

    ``text`` is what ``MPI.Get_library_version()`` says. Returns an explanation, or None. Some libraries abort, or
    take a second to fail, when they are started by another's launcher.
    """
    found = told(environ)
    vendor, version = parse_library(text)
    if found is None or belongs(found.kind, vendor) is not False:
        return None
    if found.kind == "mpich" and found.size == 1:
        return None  # one rank of one: that is what it will find
    if found.kind == "openmpi" and "PMI_FD" in environ:
        return None  # an MPICH job that was started from within an Open MPI rank
    happened = f"{found.launcher} started this process ({found.variable}={found.size}), but mpi4py loads {vendor} {version}"
    return _explain(happened, f"{vendor} {version}", found.size, environ)


def check_launcher(size: int, rank: int, environ: Mapping[str, str]) -> str | None:
    """After MPI was started: whether its world is the one that the launcher made. Returns an explanation, or None."""
    if size != 1:
        return None
    found = told(environ)
    expected = found.size if found else 1
    variable = f"{found.variable}={expected}" if found else ""
    who = found.launcher if found else "the launcher"
    if expected == 1:
        local, pmix = environ.get("MPI_LOCALNRANKS", ""), environ.get("PMIX_RANK", "")
        if local.isdigit() and int(local) > 1:
            expected, variable = int(local), f"MPI_LOCALNRANKS={local}"
        elif pmix.isdigit() and int(pmix) > rank:
            expected, variable = int(pmix) + 1, f"PMIX_RANK={pmix}"
        else:
            return None
    if not (found and found.size == expected):
        who, count = "the launcher", f"at least {expected}"
    else:
        count = str(expected)
    return _explain(
        f"{who} says that there are {count} ranks ({variable}), but MPI says that this is rank {rank} of {size}: "
        "each engine would be alone",
        None,
        expected,
        environ,
    )


def _explain(happened: str, loaded: str | None, n: int, environ: Mapping[str, str]) -> str:
    """The explanation for rank 0, and one line for the others, so that n ranks do not say it n times."""
    mine = launcher_rank(environ)
    if mine:
        time.sleep(_RANK_0_SPEAKS)
        return f"mpicluster: rank {mine} was started by the wrong launcher; the message of rank 0 says more"
    found = told(environ)
    lines = ["mpicluster: the engines were started by the wrong launcher.", f"  What happened:  {happened}."]
    right: Launcher | None = None
    kind = ""
    try:
        lib = library()
        kind = lib.kind
        right = mpiexec_of(lib)
        lines.append(f"  mpi4py loads:   {lib}" + (f" ({lib.path})" if lib.path else ""))
    except LaunchError:
        lines += [f"  mpi4py loads:   {loaded}"] if loaded else []
    by = next((p for p in process.ancestors(os.getpid()) if p.name in _LAUNCHERS), None)
    if by is not None:
        path = Path(by.program() or by.name)
        if path.name in ("prterun", "orterun") and path.with_name("mpiexec").exists():
            path = path.with_name("mpiexec")  # Open MPI's mpiexec turns itself into that
        known = identify(str(path)) if path.is_absolute() else None
        lines.append(f"  launched by:    {path}" + (f" ({known})" if known else ""))
    lines.append("  What to do:")
    if found and found.kind == "slurm":
        way = "pmix" if kind == "openmpi" else "pmi2"
        lines.append(
            f"    srun, as it was called, does not connect ranks of this MPI. `srun --mpi={way}` may; inside the allocation so does:"
        )
    if found and found.kind == "batch":
        lines.append("    a job script is one process, not the job's ranks; start them from it:")
    lines += [
        f"    {right.path if right else 'mpiexec'} -n {n} mpicluster engine",
        f"    or let mpicluster find the right mpiexec:  mpicluster start -n {n}",
        "    `mpicluster doctor` shows what is installed.",
    ]
    return "\n".join(lines)
