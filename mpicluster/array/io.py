"""Arrays in files. All ranks write and read at once, each its own part; the name's suffix says in what format.

=====================  =====================================================================================
``.npy``               NumPy's own; the file is the same however the array is divided
``.h5``, ``.hdf5``     a dataset of an HDF5 file; needs h5py
``.zarr``              a Zarr array, a folder with a file for each chunk; needs zarr
``.csv``, ``.txt``     a table of numbers as text
=====================  =====================================================================================

All ranks must see the file by the same name. A file that is written has another name until it is complete: what was there before stays if
writing fails. Errors are raised on all ranks.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Layout
from mpicluster.array.mesh import as_mesh
from mpicluster.array.operands import as_dist, mesh_of

__all__ = ["load", "save"]

_MODULES = {".npy": "npy", ".h5": "hdf5", ".hdf5": "hdf5", ".zarr": "zarr", ".csv": "csv", ".txt": "csv"}
#: What else may be given: when writing, and when reading.
_OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "npy": ((), ()),
    "hdf5": (("name",), ("name",)),
    "zarr": (("name",), ("name",)),
    "csv": (("delimiter", "header"), ("delimiter", "skiprows", "dtype", "usecols")),
}


def _format(path: Path, options: dict[str, Any], way: int) -> Any:
    """The module of a file's format.

    Raises
    ------
    ValueError
        its suffix is none of those known.
    TypeError
        the format has no such option.
    """
    name = _MODULES.get(path.suffix.lower())
    if name is None:
        raise ValueError(f"{path}: files of {', '.join(_MODULES)} are known, not of {path.suffix!r}")
    known = _OPTIONS[name][way]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(f"{path.suffix} files have no option {unknown[0]!r}{': they have ' if known else ''}{', '.join(known)}")
    return importlib.import_module(f"mpicluster.array.{name}")


def save(path: str | os.PathLike[str], x: Any, /, **options: Any) -> None:
    """Write an array to a file, which is replaced if it is there.

    The ranks write at once, each what it holds; what is in many small pieces of the file (blocks of columns, cyclic layouts) is first
    redistributed. A handful of small messages beside that.

    ``name``
        of HDF5 and Zarr: of the dataset, or of the array in a group; the others in the file or group stay. In HDF5 "data" by default;
    ``delimiter``, ``header``
        of tables: what is between numbers (a comma by default), and a first line.

    Raises
    ------
    OSError
        the file cannot be written: no such folder, no permission, no space.
    ValueError, TypeError
        the format is not known, or does not hold such arrays.
    ImportError
        the library that the format needs is not installed.
    """
    path = Path(path)
    form = _format(path, options, 0)
    form.save(path, as_dist(x, mesh_of(x)), **options)


def load(path: str | os.PathLike[str], /, *, layout: Layout | None = None, comm: Any = None, **options: Any) -> DistArray:
    """Read an array from a file.

    The ranks read at once, each what it is to hold; where that is in many small pieces of the file, it is redistributed after reading.

    ``layout``, ``comm``
        how the array is divided (by default in blocks of axis 0), and the ranks that hold it (by default all of the current world);
    ``name``
        of HDF5 and Zarr: of the dataset, or of the array in a group; need not be given where there is just one;
    ``delimiter``, ``skiprows``, ``dtype``, ``usecols``
        of tables: what is between numbers (a comma by default, None for white space), how many lines are a header, the type of the numbers
        (float64 by default), and which columns to read.

    Raises
    ------
    OSError
        the file cannot be read: it is not there, or there is no permission.
    ValueError, TypeError, KeyError
        it is not of that format, or is cut off; it holds no numbers; it has no such dataset.
    ImportError
        the library that the format needs is not installed.
    """
    path = Path(path)
    form = _format(path, options, 1)
    result: DistArray = form.load(path, as_mesh(comm), layout, **options)
    return result
