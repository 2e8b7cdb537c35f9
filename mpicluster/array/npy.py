"""Arrays in NumPy's own files, ``.npy``: written and read by all ranks at once, each its own part."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mpicluster.array import files
from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, BlockCyclic, Layout, Replicated, Shape, default_layout
from mpicluster.array.mesh import Mesh
from mpicluster.array.stretches import stretches

__all__ = ["load", "save"]


class Head(NamedTuple):
    """What a file holds, and where its values begin."""

    dtype: str
    shape: Shape
    fortran: bool
    start: int


def save(path: Path, x: DistArray) -> None:
    """Write an array in C order; see `mpicluster.array.io.save`. ``numpy.load`` reads it. The file is the same however x is divided.

    Blocks of rows are written from where they lie. What lies in short stretches (blocks of columns) is first redistributed, which takes the
    memory of a copy and of what is sent and received.
    """
    kind = files.numeric(x.dtype, "the array")
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": x.shape}
    np.lib.format.write_array_header_1_0(stream, described)
    head = np.frombuffer(stream.getvalue(), np.uint8)
    x, mesh = x.redistribute(files.in_file(x.shape, x.layout, x.mesh, kind)), x.mesh
    mine = mesh.rank == 0 or not isinstance(x.layout, Replicated)
    block = blocks.host(x.local)
    parts = [(len(head) + s.start * kind.itemsize, block[s.place]) for s in stretches(x.shape, x.layout, mesh.size, mesh.rank) if mine]
    with files.replacing(mesh, path) as part:
        files.write(mesh, part, [(0, head), *parts] if mesh.rank == 0 else parts, path)


def load(path: Path, mesh: Mesh, layout: Layout | None) -> DistArray:
    """Read an array; see `mpicluster.array.io.load`. What is wanted in short stretches is redistributed after reading.

    Rank 0 reads what the file holds, and tells the others.

    Raises
    ------
    ValueError
        it is no such file, or cut off.
    TypeError
        it holds no numbers.
    """
    with mesh.together():
        head = _head(path) if mesh.rank == 0 else None
    head = mesh.tell(head)
    kind, shape = np.dtype(head.dtype), head.shape
    target = (layout if layout is not None else default_layout(shape, mesh.size)).settled(shape, mesh.size)
    stored = shape[::-1] if head.fortran else shape
    source = files.in_file(stored, _reversed(target, shape, mesh.size) if head.fortran else target, mesh, kind)
    with mesh.together():
        block = np.empty(source.local_shape(stored, mesh.size, mesh.rank), kind)
    there = stretches(stored, source, mesh.size, mesh.rank)
    files.read(mesh, path, [(head.start + s.start * kind.itemsize, block[s.place]) for s in there])
    x = DistArray(mesh, source, stored, block)
    if head.fortran:
        x = DistArray(mesh, _reversed(source, stored, mesh.size), shape, block.T)
    return x.redistribute(target)


def _reversed(layout: Layout, shape: Shape, size: int) -> Layout:
    """Of the array with its axes in reverse order, the layout in which each rank holds the same."""
    last = len(shape) - 1
    if isinstance(layout, Block):
        return Block(last - layout.axis, layout.sizes)
    if isinstance(layout, BlockCyclic):
        return BlockCyclic(last - layout.axis, layout.nb)
    return layout if isinstance(layout, Replicated) else default_layout(shape[::-1], size).settled(shape[::-1], size)


def _head(path: Path) -> Head:
    with path.open("rb") as stream:
        try:
            shape, fortran, kind = _header(stream)
        except ValueError as e:
            raise ValueError(f"{path} is no .npy file that is understood: {e}") from e
        files.numeric(kind, str(path))
        start, length = stream.tell(), os.fstat(stream.fileno()).st_size
    wanted = start + kind.itemsize * int(np.prod(shape, dtype=object))
    if length < wanted:
        raise ValueError(f"{path} is cut off: it has {length} bytes, and an array of {kind} of shape {shape} needs {wanted}")
    return Head(kind.str, shape, fortran and len(shape) > 1, start)


def _header(stream: BinaryIO) -> tuple[Shape, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version in ((2, 0), (3, 0)):  # which differ in the encoding of names of fields, and there are none
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"its format is of version {version[0]}.{version[1]}, and 1.0, 2.0 and 3.0 are known")
