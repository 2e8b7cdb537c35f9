"""Zarr arrays, by the library zarr: each rank writes and reads whole chunks, which are files of their own, all at once."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpicluster.array import files
from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Shape, default_layout
from mpicluster.array.mesh import Mesh

__all__ = ["load", "save"]

#: A chunk has at most so many bytes: other programs read chunks whole.
_CHUNK = 1 << 26


def save(path: Path, x: DistArray, name: str | None = None) -> None:
    """Write an array as one of Zarr's; see `mpicluster.array.io.save`. With ``name``, into the group at ``path``, which is made if missing.

    A chunk is a rank's block, cut into equal parts where it is larger than 64 MiB, and compressed as zarr does by default. Blocks are first
    made such that chunks are whole: of even ones, less than a chunk moves to a neighbour. An array that is there is replaced when the new
    one is complete; a group never is.
    """
    files.numeric(x.dtype, "the array")
    mesh = x.mesh
    layout = x.layout if isinstance(x.layout, Block) else default_layout(x.shape, mesh.size)
    chunks, parts = _chunked(x.shape, layout, x.itemsize, mesh.size)
    x = x.redistribute(parts)
    with mesh.together():
        zarr = files.optional("zarr", "Zarr")
        part = _begun(zarr, path, name, x, chunks) if mesh.rank == 0 else None
    part = mesh.tell(part)
    try:
        with mesh.together():
            block = blocks.host(x.local)
            if block.size and (mesh.rank == 0 or isinstance(parts, Block)):
                place = tuple(slice(*runs[0]) for runs in parts.runs(x.shape, mesh.size, mesh.rank))
                zarr.open_array(part, mode="r+")[place if place else ...] = block
        with mesh.together():
            if mesh.rank == 0:
                _ended(zarr, part, path, name)
    except BaseException:
        if mesh.rank == 0:
            shutil.rmtree(part, ignore_errors=True)
        raise


def _chunked(shape: Shape, layout: Layout, itemsize: int, size: int) -> tuple[Shape, Layout]:
    """The shape of chunks, and a layout in which each rank has whole ones."""
    if not isinstance(layout, Block):
        return (), layout
    axis, n = layout.axis % len(shape), shape[layout.axis]
    each = -(-n // size)
    chunk = [max(1, each if i == axis else m) for i, m in enumerate(shape)]
    for i in (axis, *(i for i in range(len(shape)) if i != axis)):
        rows = max(1, _CHUNK * chunk[i] // (math.prod(chunk) * itemsize))
        if rows < chunk[i]:
            chunk[i] = -(-chunk[i] // -(-chunk[i] // rows))
    held = -(-each // chunk[axis]) * chunk[axis]
    sizes = tuple(max(0, min(n - rank * held, held)) for rank in range(size))
    return tuple(chunk), Block(axis, sizes).settled(shape, size)


def _begun(zarr: Any, path: Path, name: str | None, x: DistArray, chunks: Shape) -> Path:
    """Make an array beside the place where it is to be."""
    _replaceable(path, name)
    target = path.resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    part = files.hidden(target)
    try:
        zarr.create_array(part, shape=x.shape, chunks=chunks, dtype=np.dtype(x.dtype))
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return part


def _place(path: Path, name: str | None) -> Path:
    return path if name is None else path / name


def _replaceable(path: Path, name: str | None) -> None:
    """See that there is nothing at that place but an array, and a group above it."""
    place = _place(path, name)
    if name is not None and path.exists() and _kind(path) != "group":
        raise FileExistsError(errno.EEXIST, "what is there is no group of arrays", str(path))
    if place.exists() and _kind(place) != "array":
        raise FileExistsError(errno.EEXIST, "what is there is no array, and is not replaced; into a group: save(..., name=...)", str(place))


def _kind(folder: Path) -> str | None:
    """``"array"``, ``"group"``, or None for anything else."""
    for mark, kind in ((".zarray", "array"), (".zgroup", "group")):
        if (folder / mark).is_file():
            return kind
    try:
        return str(json.loads((folder / "zarr.json").read_text("utf-8")).get("node_type"))
    except (OSError, ValueError):
        return None


def _ended(zarr: Any, part: Path, path: Path, name: str | None) -> None:
    """Put the array where it is to be."""
    place = _place(path, name).resolve()
    if name is not None:
        group = zarr.open_group(path, mode="a")
        if place.parent != path.resolve():
            group.require_group(os.path.dirname(name))
    old = part.with_suffix(".old")
    if place.exists():
        place.rename(old)
    try:
        part.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
    if old.exists():
        shutil.rmtree(old)


def load(path: Path, mesh: Mesh, layout: Layout | None, name: str | None = None) -> DistArray:
    """Read an array, or the one of that name in a group; see `mpicluster.array.io.load`. Each rank reads its part.

    Raises
    ------
    FileNotFoundError
        there is none.
    ValueError
        it is a group, and no name is given.
    TypeError
        it holds no numbers.
    """
    place = _place(path, name)
    with mesh.together():
        zarr = files.optional("zarr", "Zarr")
        found = _found(zarr, place) if mesh.rank == 0 else None
    shape, dtype = mesh.tell(found)

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        values = zarr.open_array(place, mode="r")
        yield values if shape else {(): values[...]}

    return files.read_rectangles(mesh, shape, np.dtype(dtype), layout, opened)


def _found(zarr: Any, place: Path) -> tuple[Shape, str]:
    if not place.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    if _kind(place) == "group":
        names = ", ".join(sorted(item.name for item in place.iterdir() if _kind(item) == "array"))
        raise ValueError(f"{place} is a group, of the arrays {names or '(none)'}: name one, load(path, name=...)")
    values = zarr.open_array(place, mode="r")
    return tuple(values.shape), files.numeric(values.dtype, str(place)).str
