"""Tables of numbers as text: each rank writes, or reads and parses, its own lines."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mpicluster.array import files
from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Layout, default_layout
from mpicluster.array.mesh import Mesh

__all__ = ["load", "save"]

#: Text is parsed and looked through in pieces of so many bytes.
_PIECE = 1 << 24
_LOOK = 1 << 16
_BOM = b"\xef\xbb\xbf"
#: So many digits bring back every number of a type.
_DIGITS = {"float16": 5, "float32": 9, "float64": 17}

Host = np.ndarray[Any, Any]


def save(path: Path, x: DistArray, delimiter: str = ",", header: str = "") -> None:
    """Write a table, one row in a line, or a vector, one element; see `mpicluster.array.io.save`. ``header`` is a first line.

    Numbers are written with as many digits as bring them back. One Allgather of lengths. Memory: the text of this rank's rows.

    Raises
    ------
    ValueError
        the array has no dimension, or more than two.
    TypeError
        it is complex, or of extended precision.
    """
    kind, mesh = files.numeric(x.dtype, "the array"), x.mesh
    if x.ndim not in (1, 2):
        raise ValueError(f"a table has one dimension or two, not the shape {x.shape}")
    if kind.kind in "fc" and kind.name not in _DIGITS:
        raise TypeError(f"numbers of type {kind} are not written as text: convert them, or write real and imaginary parts")
    digits = f"%.{_DIGITS[kind.name]}g" if kind.kind == "f" else "%d"
    rows = x.redistribute(Block(0))
    stream = io.BytesIO(f"{header}\n".encode() if header and mesh.rank == 0 else b"")
    stream.seek(0, io.SEEK_END)
    np.savetxt(stream, blocks.host(rows.local), fmt=digits, delimiter=delimiter)
    text = np.frombuffer(stream.getbuffer(), np.uint8)
    start = int(mesh.gather_ints(text.size)[: mesh.rank].sum())
    with files.replacing(mesh, path) as part:
        files.write(mesh, part, [(start, text)], path)


def load(
    path: Path,
    mesh: Mesh,
    layout: Layout | None,
    delimiter: str | None = ",",
    skiprows: int = 0,
    dtype: Any = np.float64,
    usecols: int | Sequence[int] | None = None,
) -> DistArray:
    """Read a table of numbers, always of two dimensions; see `mpicluster.array.io.load`.

    Each rank parses the lines that begin in its part of the file. Empty lines, and what follows a ``#``, are passed over. A Bcast and two
    Allgathers of small numbers; then rows move to where they belong. Memory: 16 MiB of text, and twice the rows.

    ``delimiter``
        what is between numbers; None: any white space;
    ``skiprows``
        how many lines to pass over at the beginning: a header;
    ``dtype``
        the type of the numbers;
    ``usecols``
        which columns to read, from 0; all by default.

    Raises
    ------
    ValueError
        a line is malformed, or has more or fewer columns than the first; it is named.
    """
    kind = files.numeric(dtype, "the table")
    with mesh.together():
        told = _extent(path, skiprows) if mesh.rank == 0 else None
    begin, end = mesh.tell(told)
    with mesh.together(), path.open("rb") as stream:
        bounds = [_line_start(stream, begin, end, begin + (end - begin) * r // mesh.size) for r in (mesh.rank, mesh.rank + 1)]
        stream.seek(bounds[0])
        table = _Table(delimiter, kind, usecols)
        table.read(stream, bounds[1] - bounds[0])
    _check(path, mesh, table, skiprows)
    said = mesh.gather_ints(table.rows, table.columns)
    columns = next((int(c) for n, c in said if n), 0)
    sizes = tuple(int(n) for n in said[:, 0])
    shape = (sum(sizes), columns)
    with mesh.together():
        values = table.values(columns)
    x = wrap(mesh, Block(0, sizes), shape, values)
    return x.redistribute(layout if layout is not None else default_layout(shape, mesh.size))


def _extent(path: Path, skiprows: int) -> tuple[int, int]:
    """Where the lines after the header begin, and where they end."""
    with path.open("rb") as stream:
        begin = len(_BOM) if stream.read(len(_BOM)) == _BOM else 0
        stream.seek(begin)
        for _ in range(skiprows):
            stream.readline()
        begin = stream.tell()
        return begin, stream.seek(0, io.SEEK_END)


def _line_start(stream: BinaryIO, begin: int, end: int, at: int) -> int:
    """The first place from ``at`` on where a line begins; ``end`` if there is none."""
    if at <= begin:
        return begin
    at -= 1
    stream.seek(at)
    while at < end:
        text = stream.read(min(_LOOK, end - at))
        found = text.find(b"\n")
        if found >= 0:
            return at + found + 1
        if not text:
            break
        at += len(text)
    return end


class _Table:
    """The lines of one rank, parsed up to the first that is malformed."""

    def __init__(self, delimiter: str | None, kind: np.dtype[Any], usecols: int | Sequence[int] | None) -> None:
        self._options: dict[str, Any] = {"delimiter": delimiter, "dtype": kind, "usecols": usecols, "ndmin": 2}
        self._kind = kind
        self._parts: list[Host] = []
        self.rows = 0
        #: how many columns the first row has
        self.columns = 0
        #: how many lines were read, and where among them are the first row, and the first malformed line, or -1
        self.lines = 0
        self.first = -1
        self.bad = -1
        #: what is wrong with it
        self.reason = ""

    def values(self, columns: int) -> Host:
        return np.concatenate(self._parts) if self._parts else np.empty((0, columns), self._kind)

    def read(self, stream: BinaryIO, nbytes: int) -> None:
        """Parse so many bytes, which are whole lines."""
        rest = b""
        while nbytes and self.bad < 0:
            text = stream.read(min(_PIECE, nbytes))
            nbytes = nbytes - len(text) if text else 0
            text = rest + text
            cut = text.rfind(b"\n") + 1 if nbytes else len(text)
            whole, rest = text[:cut], text[cut:]
            if whole:
                self._add(whole.decode("utf-8", "replace").removesuffix("\n").split("\n"))

    def _parsed(self, lines: list[str]) -> Host:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no data
            return np.loadtxt(lines, **self._options)

    def _add(self, lines: list[str]) -> None:
        try:
            part, problem = self._parsed(lines), ""
        except ValueError as e:
            part, problem = np.empty((0, 0)), str(e)
        if problem or (self.rows and len(part) and part.shape[1] != self.columns):
            self._find(lines, problem)
        elif len(part):
            if not self.rows:
                self.columns = part.shape[1]
                self.first = self.lines + next(i for i, line in enumerate(lines) if len(self._parsed([line])))
            self.rows += len(part)
            self._parts.append(part)
        self.lines += len(lines)

    def _find(self, lines: list[str], problem: str) -> None:
        """Which line is malformed, and why; something is."""
        self.bad, self.reason = self.lines, problem
        for i, line in enumerate(lines, self.lines):
            try:
                row = self._parsed([line])
            except ValueError as e:
                self.bad, self.reason = i, re.sub(r" at row \d+", "", str(e))
                return
            width = row.shape[1] if row.size else 0
            if width and self.first < 0:
                self.columns, self.first = width, i
            elif width not in (0, self.columns):
                self.bad, self.reason = i, f"{width} columns, where the first row has {self.columns}"
                return


def _check(path: Path, mesh: Mesh, table: _Table, skipped: int) -> None:
    """Raise on all ranks what is wrong with the first malformed line. One Allgather, and a Bcast if there is one."""
    said = mesh.gather_ints(table.lines, table.columns, table.first, table.bad)
    before, columns = skipped, 0
    for rank, (lines, width, first, bad) in enumerate(said.tolist()):
        columns = columns or width
        if width not in (0, columns):
            raise ValueError(f"{path}, line {before + first + 1}: {width} columns, where the first row has {columns}")
        if bad >= 0:
            raise ValueError(f"{path}, line {before + bad + 1}: {mesh.tell(table.reason, rank)}")
        before += lines
