"""Datasets in HDF5 files, by h5py: read by all ranks at once; written by all at once too, though h5py's wheels know no MPI.

An HDF5 dataset that is neither chunked nor compressed is its values in C order, in one place of the file. So rank 0 makes the dataset and
reserves that place; with the file closed, the ranks write their parts there; and rank 0 gives the dataset its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpicluster.array import files
from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Layout
from mpicluster.array.mesh import Mesh
from mpicluster.array.stretches import stretches

__all__ = ["load", "save"]

#: The name of a dataset when none is given.
_NAME = "data"
#: What HDF5 may need for its own records of a new dataset.
_MARGIN = 1 << 16


def save(path: Path, x: DistArray, name: str = _NAME) -> None:
    """Write an array as a dataset; see `mpicluster.array.io.save`.

    A file that is there keeps its other datasets, and nothing in it is touched before there is space enough. A dataset of that name is
    replaced when the new one is complete (HDF5 uses its space again only after ``h5repack``). Memory and messages as for ``.npy`` files.
    """
    kind, mesh = files.numeric(x.dtype, "the array"), x.mesh
    with mesh.together():
        files.optional("h5py", "HDF5")
        there = path.exists() if mesh.rank == 0 else None
    if not mesh.tell(there):
        with files.replacing(mesh, path) as part:
            _write(part, x, kind, name, "w", path)
        return
    hidden = f".{secrets.token_hex(6)}.part"
    with mesh.together():
        if mesh.rank == 0:
            _reserve(path, x.nbytes)
    try:
        _write(path, x, kind, hidden, "r+", path)
        with mesh.together():
            if mesh.rank == 0:
                _rename(path, hidden, name)
    except BaseException:
        if mesh.rank == 0:
            with contextlib.suppress(Exception):
                _remove(path, hidden)
        raise


def _reserve(path: Path, nbytes: int) -> None:
    """See that so many bytes fit behind a file, which HDF5 then takes for its own, or cuts off."""
    size = path.stat().st_size
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), size, nbytes + _MARGIN)
        except OSError as e:
            stream.truncate(size)
            raise OSError(e.errno, f"{e.strerror}: no room for {nbytes} bytes more", str(path)) from e


def _write(file: Path, x: DistArray, kind: np.dtype[Any], name: str, mode: str, path: Path) -> None:
    mesh = x.mesh
    x = x.redistribute(files.in_file(x.shape, x.layout, mesh, kind))
    block = blocks.host(x.local)
    with mesh.together():
        start = _made(file, x.shape, kind, name, mode, block) if mesh.rank == 0 else None
    start = mesh.tell(start)
    if start is None:
        return
    there = stretches(x.shape, x.layout, mesh.size, mesh.rank)
    files.write(mesh, file, [(start + s.start * kind.itemsize, block[s.place]) for s in there], path)


def _made(file: Path, shape: tuple[int, ...], kind: np.dtype[Any], name: str, mode: str, block: Any) -> int | None:
    """Make a dataset; where in the file its values are to be written, or None if there is nothing left to write."""
    h5py = files.optional("h5py", "HDF5")
    plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plain.set_layout(h5py.h5d.CONTIGUOUS)
    plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    place: int | None = None
    try:
        with h5py.File(file, mode) as opened:
            if shape:
                place = opened.create_dataset(name, shape, kind, dcpl=plain).id.get_offset()
            else:
                opened.create_dataset(name, data=block)
    except RuntimeError as e:  # what h5py says when a file cannot be completed
        raise OSError(errno.EIO, str(e), str(file)) from e
    return place


def _rename(path: Path, hidden: str, name: str) -> None:
    h5py = files.optional("h5py", "HDF5")
    with h5py.File(path, "r+") as opened:
        if name in opened:
            if not isinstance(opened[name], h5py.Dataset):
                raise ValueError(f"{name!r} in {path} is a group of datasets, which is not replaced: give another name")
            del opened[name]
        opened.move(hidden, name)


def _remove(path: Path, hidden: str) -> None:
    with files.optional("h5py", "HDF5").File(path, "r+") as opened:
        if hidden in opened:
            del opened[hidden]


def load(path: Path, mesh: Mesh, layout: Layout | None, name: str | None = None) -> DistArray:
    """Read a dataset, by default the only one; see `mpicluster.array.io.load`. Each rank reads its part of it.

    Raises
    ------
    KeyError
        there is no such dataset.
    ValueError
        no name is given, and there are several.
    TypeError
        it holds no numbers.
    """
    with mesh.together():
        h5py = files.optional("h5py", "HDF5")
        found = _found(h5py, path, name) if mesh.rank == 0 else None
    dataset, shape, dtype = mesh.tell(found)

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        with h5py.File(path, "r") as file:
            yield file[dataset]

    return files.read_rectangles(mesh, shape, np.dtype(dtype), layout, opened)


def _found(h5py: Any, path: Path, name: str | None) -> tuple[str, tuple[int, ...], str]:
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with h5py.File(path, "r") as opened:
        if name is None:
            names = [n for n, item in opened.items() if isinstance(item, h5py.Dataset)]
            if len(names) != 1:
                raise ValueError(f"{path} has {len(names)} datasets{': ' * bool(names)}{', '.join(names)}; name one: load(path, name=...)")
            name = names[0]
        if name not in opened or not isinstance(opened[name], h5py.Dataset):
            raise KeyError(f"{path} has no dataset {name!r}; it has {', '.join(opened) or 'none'}")
        dataset = opened[name]
        kind = files.numeric(dataset.dtype, f"the dataset {name!r} in {path}")
        return name, tuple(dataset.shape), kind.str
