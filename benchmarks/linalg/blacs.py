"""ScaLAPACK by ctypes, as the `mkl` wheel has it, on the MPI that mpi4py has loaded. For 1 x p grids, 64-bit reals.

MKL's libraries name no library that they need: all symbols come from those loaded before, globally. The BLACS must be that of the
running MPI: another one crashes the process.
"""

from __future__ import annotations

import ctypes as ct
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

__all__ = ["Grid", "Matrix", "integer", "load"]

_GLOBAL = os.RTLD_LAZY | os.RTLD_GLOBAL


def load() -> Any:
    """The libraries, to be called by the names of their functions.

    Raises
    ------
    OSError
        a library is not there.
    """
    blacs = "openmpi" if MPI.Get_library_version().startswith("Open MPI") else "intelmpi"
    for path in _loaded_mpi():
        ct.CDLL(path, mode=_GLOBAL)  # mpi4py loaded it for itself only
    folder = Path(sys.prefix) / "lib"
    last: Any = None
    for name in ("core", "sequential", "intel_lp64", f"blacs_{blacs}_lp64", "scalapack_lp64"):
        found = sorted(folder.glob(f"libmkl_{name}.so*"))
        if not found:
            raise OSError(f"there is no libmkl_{name}: pip install mkl")
        last = ct.CDLL(str(found[0]), mode=_GLOBAL)
    del last
    return ct.CDLL(None)


def _loaded_mpi() -> list[str]:
    names = ("libmpi.so", "libmpich.so", "libmpi_abi.so")
    with open("/proc/self/maps") as maps:
        paths = {line.split(None, 5)[5].strip() for line in maps if len(line.split(None, 5)) == 6}
    return sorted(p for p in paths if os.path.basename(p).startswith(names))


def integer(value: int) -> Any:
    """An integer as Fortran takes it."""
    return ct.byref(ct.c_int(value))


class Grid:
    """The ranks of a communicator in one row."""

    def __init__(self, library: Any, comm: MPI.Intracomm) -> None:
        self.comm, self.library = comm, library
        handle = library.Csys2blacs_handle
        handle.argtypes = [ct.c_void_p if MPI.Get_library_version().startswith("Open MPI") else ct.c_int]
        self.context = ct.c_int(handle(MPI._handleof(comm)))
        library.Cblacs_gridinit(ct.byref(self.context), b"R", 1, comm.size)


class Matrix:
    """``m x n``, by blocks of ``nb`` columns dealt out over the grid; this rank's part in the order of columns."""

    def __init__(self, grid: Grid, m: int, n: int, nb: int) -> None:
        self.grid, self.m, self.n, self.nb = grid, m, n, nb
        size, rank = grid.comm.size, grid.comm.rank
        self.columns = sum(min(nb, n - j) for j in range(rank * nb, n, size * nb))
        self.local = np.zeros((m, self.columns), order="F")
        self.describes = np.array([1, grid.context.value, m, n, max(1, min(m, nb)), nb, 0, 0, max(1, m)], np.int32)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Pointer, first row, first column, descriptor."""
        return ct.c_void_p(self.local.ctypes.data), integer(1), integer(1), ct.c_void_p(self.describes.ctypes.data)

    def copy(self) -> Matrix:
        """Another with the same values."""
        other = Matrix(self.grid, self.m, self.n, self.nb)
        other.local[...] = self.local
        return other
