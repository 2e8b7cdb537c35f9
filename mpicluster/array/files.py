"""Files that all ranks write or read. A new file is complete or not there, and what fails on one rank is raised by all.

Each rank writes its own stretches, independently, by MPI-IO on a communicator of itself alone: MPI knows what file systems need (locks on
NFS, say), and the ranks do not depend on each other. MPI's collective writing is avoided on purpose: when the disk is full, that of Open
MPI 5.0.11 waits for ever on some ranks, or says that all is well (tried), while an independent write tells. Ranks read by ordinary calls
of the system, which say why they fail.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Layout, Replicated, Shape, default_layout
from mpicluster.array.mesh import MPI, Mesh
from mpicluster.array.stretches import in_stretches

__all__ = ["hidden", "in_file", "numeric", "optional", "read", "read_rectangles", "replacing", "write"]

#: At a time: MPI cannot count more than 2**31 - 1 bytes.
_GIB = 1 << 30
#: What does not lie in order is copied in pieces of so many bytes.
_PIECE = 1 << 26
#: A rank reads and writes its block directly if it lies in the file in stretches of so many bytes on average.
_STRETCH = 1 << 16

Host = np.ndarray[Any, Any]


def numeric(dtype: Any, what: str) -> np.dtype[Any]:
    """A type, if it is one of numbers or truth values.

    Raises
    ------
    TypeError
        it is structured, of strings, of objects, or of times; ``what`` says of what.
    """
    kind = np.dtype(dtype)
    if kind.kind not in "biufc":
        raise TypeError(f"{what} is of type {kind}; only numbers and truth values are written and read by all ranks")
    return kind


def in_file(shape: Shape, layout: Layout, mesh: Mesh, kind: np.dtype[Any]) -> Layout:
    """The layout in which the ranks write or read an array that is, or is to be, in another: one in which each has long stretches of the
    file, and not all of a replicated array."""  # fmt: skip
    known = default_layout(shape, mesh.size).settled(shape, mesh.size) if isinstance(layout, Replicated) else layout
    return in_stretches(shape, known, mesh.size, max(1, _STRETCH // kind.itemsize))


def optional(library: str, files: str) -> Any:
    """A library that need not be installed.

    Raises
    ------
    ImportError
        it is not.
    """
    try:
        return importlib.import_module(library)
    except ImportError as e:
        raise ImportError(f'{files} files need {library}, which cannot be imported here ({e}): pip install "mpicluster[io]"') from e


# -- writing ---------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(mesh: Mesh, path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, which takes its place when all ranks leave without an error, else is removed.

    Inside, errors must be raised on all ranks. Three small messages in all. A link stays one: the file that it points to is replaced; its
    permissions are kept.
    """
    with mesh.together():
        names = _begun(path) if mesh.rank == 0 else None
    target, part = mesh.tell(names)
    try:
        yield part
        with mesh.together():
            if mesh.rank == 0:
                part.replace(target)
    except BaseException:
        if mesh.rank == 0:
            with contextlib.suppress(OSError):
                part.unlink()
        raise


def _begun(path: Path) -> tuple[Path, Path]:
    target, mode = path.resolve(), None
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    part = hidden(target)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if mode is not None:
            os.fchmod(descriptor, stat.S_IMODE(mode))
    finally:
        os.close(descriptor)
    return target, part


def hidden(target: Path) -> Path:
    """A name that nobody uses, for what is to be ``target``, in the same folder."""
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")


def write(mesh: Mesh, file: Path, parts: Iterable[tuple[int, Host]], path: Path) -> None:
    """Each rank writes arrays, in C order, at byte offsets of ``file``, which is there. ``path`` is its name in messages.

    No message but an agreement at the end. Where no disk of this host is below (NFS, say), each rank waits until its bytes have arrived,
    since such a file system says only then that it is full. Memory: 64 MiB for what does not lie in order.
    """
    with mesh.together(), _opened(file, path) as opened:
        for offset, values in parts:
            at = offset
            for piece in _in_order(values):
                _write(opened, at, piece, path)
                at += piece.size
        if os.major(file.stat().st_dev) == 0:
            opened.Sync()


@contextlib.contextmanager
def _opened(file: Path, path: Path) -> Iterator[MPI.File]:
    os.close(os.open(file, os.O_WRONLY))  # says why it cannot be
    try:
        opened = MPI.File.Open(MPI.COMM_SELF, str(file), MPI.MODE_WRONLY)
        try:
            yield opened
        finally:
            opened.Close()
    except MPI.Exception as e:
        raise OSError(errno.EIO, f"MPI could not open, complete or close it: {e}", str(path)) from e


def _write(opened: MPI.File, offset: int, raw: Host, path: Path) -> None:
    status = MPI.Status()
    try:
        opened.Write_at(offset, [raw, MPI.BYTE], status)
        written = status.Get_elements(MPI.BYTE)
        problem = f"{written} were" if written != raw.size else ""
    except MPI.Exception as e:
        problem = str(e)
    if problem:
        free = shutil.disk_usage(path.resolve().parent).free
        number = errno.ENOSPC if free < raw.size else errno.EIO
        said = f"{os.strerror(number)}: {raw.size} bytes could not be written at {offset} ({problem}); {free} bytes are free there"
        raise OSError(number, said, str(path))


def _in_order(values: Host) -> Iterator[Host]:
    """The bytes of an array in C order, in pieces."""
    values = np.atleast_1d(values)
    if values.flags.c_contiguous:
        raw = values.reshape(-1).view(np.uint8)
        yield from (raw[lo : lo + _GIB] for lo in range(0, raw.size, _GIB))
        return
    rows = max(1, _PIECE * len(values) // values.nbytes)
    for lo in range(0, len(values), rows):
        piece = values[lo : lo + rows]
        copied = np.empty(piece.shape, piece.dtype)
        blocks.copy_into(copied, piece)
        yield from _in_order(copied)


# -- reading ---------------------------------------------------------------------------------------------------------------------------


def read(mesh: Mesh, path: Path, parts: Iterable[tuple[int, Host]]) -> None:
    """Each rank fills contiguous arrays with what is at byte offsets of a file. No message but an agreement at the end.

    Raises
    ------
    ValueError
        the file ends before.
    OSError
        it cannot be read.
    """
    with mesh.together(), path.open("rb", buffering=0) as opened:
        for offset, values in parts:
            raw = values.reshape(-1).view(np.uint8)
            at = 0
            while at < raw.size:
                n = os.preadv(opened.fileno(), [raw[at : at + _GIB].data], offset + at)
                if n == 0:
                    raise ValueError(f"{path} is cut off: it has {offset + at} bytes, and ends within the array")
                at += n


def read_rectangles(
    mesh: Mesh, shape: Shape, kind: np.dtype[Any], layout: Layout | None, opened: Callable[[], AbstractContextManager[Any]]
) -> DistArray:
    """An array from what ``opened()`` gives, which is indexed with slices: each rank asks for its rectangles. Memory: twice its block."""
    target = (layout if layout is not None else default_layout(shape, mesh.size)).settled(shape, mesh.size)
    source = in_file(shape, target, mesh, kind)
    with mesh.together():
        block = np.empty(source.local_shape(shape, mesh.size, mesh.rank), kind)
        if block.size:
            with opened() as values:
                for there, here in blocks.placed(source.runs(shape, mesh.size, mesh.rank)):
                    block[here] = values[there]
    return DistArray(mesh, source, shape, block).redistribute(target)
