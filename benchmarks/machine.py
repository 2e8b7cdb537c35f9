"""What a result must say about where it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

__all__ = ["facts", "load"]


def facts(packages: list[str], environment: dict[str, str]) -> dict[str, str]:
    """The machine, the MPI, and the versions of all that run."""
    return {
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} usable of {os.cpu_count()}",
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "MPI": _mpi(environment),
        **{package: _version(package) for package in packages},
    }


def load() -> str:
    """How busy the machine is with others: a run beside much load says little."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _mpi(environment: dict[str, str]) -> str:
    """The library that mpi4py loads, asked in another process: MPI is not to start in this one."""
    ask = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"
    try:
        answer = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, timeout=60, check=True)
    except (subprocess.SubprocessError, OSError):
        return "none that mpi4py could load"
    return answer.stdout.partition(",")[0].splitlines()[0].strip()
