"""Matrices by panels: blocks of ``nb`` rows, dealt out to the ranks in turn, and how the ranks work through them together.

The block of a rank has whole rows of a matrix A, in C order; its transposed is a column-major view of whole columns of A^T. So a panel
can be worked on by BLAS and LAPACK where it lies, and pivots are found in it without a message.

All factorisations and triangular solves are one pattern, `fan_out`: the owner of a panel finishes it and sends it to all, who bring up to
date what they have of the panels to come.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster import buffers
from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, BlockCyclic, BlockCyclic2D, Layout, default_layout
from mpicluster.array.manipulation import matrix_transpose
from mpicluster.array.mesh import MPI, Mesh
from mpicluster.array.redistribute import redistribute

__all__ = [
    "SMALL",
    "Panels",
    "adjoint",
    "are_few",
    "divided_axis",
    "fan_out",
    "first_of",
    "handed",
    "indices_of",
    "is_small",
    "rows_of",
    "transposed",
    "working_copy",
]

Matrix = NDArray[Any]

#: Matrices with no more rows and columns are copied whole to every rank: the messages would take longer than the arithmetic.
SMALL = 256
_WIDEST, _NARROWEST = 128, 16
#: While a panel is on its way, work is done in pieces of about so many rows, so that MPI can pass it on in between.
_PIECE = 1024


def are_few(n: int) -> bool:
    """Whether so many rows or columns are better on one rank."""
    return n <= SMALL


def is_small(x: DistArray) -> bool:
    """Whether a divided matrix is better copied whole to every rank."""
    return x.mesh.size > 1 and are_few(max(x.shape))


@dataclasses.dataclass(frozen=True, slots=True)
class Panels:
    """``length`` rows in panels of ``nb``, dealt out to ``size`` ranks in turn, as ``rank`` sees them. The last may be shorter."""

    length: int
    nb: int
    size: int
    rank: int

    @classmethod
    def of(cls, mesh: Mesh, length: int, steps: int | None = None) -> Panels:
        """Panels as wide as is good for this many rows; ``steps``: how many of these will be worked through, if not all.

        128 rows keep the BLAS busy; fewer where that leaves every rank with less than four panels. One panel on a single rank.
        """
        if mesh.size == 1:
            return cls(length, max(1, length), 1, 0)
        even = (length if steps is None else steps) // (4 * mesh.size) // 8 * 8
        return cls(length, max(_NARROWEST, min(_WIDEST, even)), mesh.size, mesh.rank)

    @property
    def layout(self) -> BlockCyclic:
        """The layout of a matrix with these rows."""
        return BlockCyclic(0, self.nb)

    @property
    def count(self) -> int:
        """How many panels there are, on all ranks."""
        return -(-self.length // self.nb)

    @property
    def local(self) -> int:
        """How many rows this rank has."""
        return self._rows_below(self.count)

    def _rows_below(self, k: int) -> int:
        """How many rows this rank has in panels before ``k``."""
        mine = max(0, -(-(k - self.rank) // self.size))
        full = mine * self.nb
        last = self.count - 1
        return full - (self.count * self.nb - self.length if k > last >= 0 and self.owner(last) == self.rank else 0)

    def owner(self, k: int) -> int:
        """The rank that has panel ``k``."""
        return k % self.size

    def rows(self, k: int) -> slice:
        """The rows of panel ``k``, of all."""
        return slice(k * self.nb, min((k + 1) * self.nb, self.length))

    def mine(self, k: int) -> slice:
        """The rows of panel ``k`` in its owner's block."""
        start, rows = k // self.size * self.nb, self.rows(k)
        return slice(start, start + rows.stop - rows.start)

    def before(self, k: int) -> slice:
        """The rows of this rank's block in panels before ``k``."""
        return slice(0, self._rows_below(k))

    def after(self, k: int) -> slice:
        """The rows of this rank's block in panels after ``k``."""
        return slice(self._rows_below(k + 1), self.local)

    def within(self, part: slice) -> Iterator[int]:
        """The panels of this rank in a part of its block that begins and ends with one."""
        return ((at // self.nb) * self.size + self.rank for at in range(part.start, part.stop, self.nb))

    def indices(self) -> NDArray[np.intp]:
        """The index, among all rows, of each row of this rank's block."""
        return indices_of(self.layout, self.length, self.size, self.rank)


def indices_of(layout: Layout, length: int, size: int, rank: int) -> NDArray[np.intp]:
    """Which of ``length`` rows, divided by a settled layout, a rank has."""
    (runs,) = layout.runs((length,), size, rank)
    return np.concatenate([np.arange(0), *(np.arange(lo, hi) for lo, hi in runs)])


def divided_axis(x: DistArray) -> int:
    """Which axis of a matrix is divided; 0 where it is neither or both."""
    return x.layout.axis if isinstance(x.layout, Block | BlockCyclic) else 0


def transposed(x: DistArray) -> DistArray:
    """A matrix transposed: a view, in the layout of the other axis. Of a 2-D layout, after moving it to blocks."""
    if isinstance(x.layout, BlockCyclic2D):
        x = x.redistribute(default_layout(x.shape, x.mesh.size))
    layout = x.layout
    if isinstance(layout, Block | BlockCyclic):
        layout = dataclasses.replace(layout, axis=1 - layout.axis)
    return DistArray(x.mesh, layout, x.shape[::-1], x.local.T)


def adjoint(x: DistArray) -> DistArray:
    """The conjugate transposed of a matrix, or of each of a stack, in the layout of the other axis.

    No message, but from a 2-D grid; of complex numbers an Allreduce of a byte: all raise if one has too little memory.
    """
    turned = matrix_transpose(x)
    block = blocks.host(turned.local)
    if block.dtype.kind != "c":
        return turned
    with x.mesh.preparing(x.nbytes):
        return DistArray(x.mesh, turned.layout, turned.shape, blocks.like(turned.local, block.conj()))


def rows_of(x: DistArray, panels: Panels, kind: np.dtype[Any]) -> Matrix:
    """The rows of a matrix that this rank has as panels, in C order: not to be written to. At most size - 1 messages each way."""
    return _rows(x, panels, kind, copy=False)


def working_copy(x: DistArray, panels: Panels, kind: np.dtype[Any]) -> Matrix:
    """As `rows_of`, to be written to. Memory: the block, and once more what is sent and received if axis 1 was divided."""
    return _rows(x, panels, kind, copy=True)


def _rows(x: DistArray, panels: Panels, kind: np.dtype[Any], *, copy: bool) -> Matrix:
    target = panels.layout.settled(x.shape, x.mesh.size)
    block = blocks.host(redistribute(x.mesh, x.local, x.shape, x.layout, target, scratch=True))
    if target != x.layout and block.dtype == kind and block.flags.writeable:
        return block
    with x.mesh.preparing(x.nbytes):
        if not copy and block.dtype == kind and block.flags.c_contiguous:  # as a block of one row is in any order
            return block
        result = buffers.array(block.shape, kind)
        blocks.copy_into(result, block)
    return result


def first_of(memory: NDArray[np.uint8], shape: tuple[int, ...], kind: np.dtype[Any]) -> Matrix:
    """An array in C order at the beginning of bytes."""
    return memory[: math.prod(shape) * kind.itemsize].view(kind).reshape(shape)


def handed(values: Matrix, message: Matrix | None) -> Matrix:
    """Values, in the message if there is one."""
    if message is None:
        return values
    message[...] = values
    return message


def fan_out(
    mesh: Mesh,
    panels: Panels,
    order: range,
    *,
    nbytes: int,
    room: Callable[[int, Matrix], Matrix],
    ready: Callable[[int, Matrix | None], Matrix],
    use: Callable[[int, Matrix, slice], None],
) -> Iterator[tuple[int, Matrix]]:
    """Work through panels, rising or falling: each depends on those before it. Yields each panel as it is known to all ranks.

    ``nbytes``
        of the longest message;
    ``room(k, memory)``
        is the array of message k, in one piece, at the beginning of so many bytes;
    ``ready(k, message)``
        finishes panel k, at its owner, and gives what the others need of it: in the message, which is None on a single rank;
    ``use(k, message, part)``
        brings up to date, by panel k, a part of this rank's block: rows of panels that come later in ``order``.

    One Ibcast for each panel. The next panel goes first (it is brought up to date, finished and on its way before the rest is touched), so
    that ranks need not wait for it: lookahead of one panel. Memory: two messages, which all ranks have before the first, or raise.

    The caller may leave between panels, if all ranks do: then nothing is under way.
    """
    rising = order.step > 0
    with mesh.preparing(nbytes):
        memory = [np.empty(nbytes if mesh.size > 1 else 0, np.uint8) for _ in order[:2]]

    def begin(k: int) -> tuple[Matrix, list[MPI.Request]]:
        message = room(k, memory[k % 2]) if mesh.size > 1 else None
        if message is None or panels.owner(k) == mesh.rank:
            message = ready(k, message)
        return message, mesh.ibcast(message, panels.owner(k))

    pending = begin(order[0]) if order else None
    for place, k in enumerate(order, 1):
        assert pending is not None
        message, requests = pending
        mesh.complete(requests)
        pending = None
        yield k, message
        rest = panels.after(k) if rising else panels.before(k)
        if place < len(order):
            following = order[place]
            if panels.owner(following) == mesh.rank:
                first = panels.mine(following)
                use(k, message, first)
                rest = slice(first.stop, rest.stop) if rising else slice(0, first.start)
            pending = begin(following)
        step = max(1, _PIECE // panels.nb) * panels.nb
        for at in range(rest.start, rest.stop, step):
            use(k, message, slice(at, min(at + step, rest.stop)))
            if pending is not None:
                mesh.progress(pending[1])
