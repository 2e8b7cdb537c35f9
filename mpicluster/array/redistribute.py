"""Moving an array's elements from one layout to another. Collective over the mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mpicluster import buffers
from mpicluster.array import local as blocks
from mpicluster.array.layout import Block, Layout, Part, Plan, Replicated, Shape, plan
from mpicluster.array.mesh import Mesh
from mpicluster.array.regions import Listed

__all__ = ["Share", "redistribute", "transfer"]

Host = np.ndarray[Any, Any]


def redistribute(mesh: Mesh, block: Any, shape: Shape, source: Layout, target: Layout, *, scratch: bool = False) -> Any:
    """This rank's block of the array in layout ``target``, from that in ``source``. Both are settled.

    The result may share memory with ``block`` only if the layouts are equal. At most size - 1 messages each way, each element
    travels at most once; from blocks to all ranks: one Allgatherv. Memory: the new block, and what is sent and received once more where
    it does not lie in one piece. If a rank has not enough, all raise. ``scratch``: the new block is for a short time (see `buffers`).
    """
    if source == target:
        return block
    mesh.check()
    data = blocks.host(block)
    if isinstance(target, Replicated) and isinstance(source, Block):
        rows = mesh.allgather(np.moveaxis(data, source.axis, 0), source.parts(shape, mesh.size))
        return blocks.like(block, np.moveaxis(rows if mesh.size > 1 else rows.copy(), 0, source.axis))
    with mesh.preparing(_moving(shape, data.dtype, source, target)):
        result = (buffers.array if scratch else np.empty)(target.local_shape(shape, mesh.size, mesh.rank), data.dtype)
        packed = _Packed(mesh, [Share(shape, data, source, result, target)])
    packed.move()
    return blocks.like(block, result)


class Share(NamedTuple):
    """A part of one array that becomes a part of another, of this shape: what this rank has of it, and where it puts what it gets.

    Arrays of NumPy of one type, which do not share memory.
    """

    shape: Shape
    values: Host
    source: Layout
    into: Host
    target: Layout


def transfer(mesh: Mesh, shares: Sequence[Share]) -> None:
    """Move parts of arrays to where they belong, all at once: of each at most one message from a rank to another.

    Nothing that stays on its rank is sent. Memory: what is sent and received once more, where it does not lie in one piece. If a rank has
    not enough, all raise.
    """
    with mesh.preparing(sum(_moving(share.shape, share.into.dtype, share.source, share.target) for share in shares)):
        packed = _Packed(mesh, shares)
    packed.move()


def _moving(shape: Shape, kind: np.dtype[Any], source: Layout, target: Layout) -> int:
    """Bytes of what goes from one layout to another: none, where no rank needs anything of the others."""
    return 0 if source == target or isinstance(source, Replicated) else math.prod(shape) * kind.itemsize


class _Packed:
    """Parts of arrays, ready to be moved: with all the memory that this takes, so that what is begun can be ended."""

    def __init__(self, mesh: Mesh, shares: Sequence[Share]) -> None:
        self._mesh = mesh
        self._receives: list[tuple[int, Host]] = []
        self._sends: list[tuple[int, Host]] = []
        #: what stays here, if that is a view, and what comes but not to its place: the array that it goes into, where, and the values
        self._kept: list[tuple[Host, Part, Host]] = []
        self._indirect: list[tuple[Host, Part, Host]] = []
        for share in shares:
            steps = _plan(mesh, share)
            if steps.kept is not None:
                before, after = steps.kept
                values = blocks.pick(share.values, before)
                if np.may_share_memory(values, share.values):
                    self._kept.append((share.into, after, values))
                else:
                    blocks.put(share.into, after, values)
                    del values
            for part in steps.receives:
                rows = share.into[slice(*part.runs[0][0])] if part.runs and _whole_rows(part, share.into.shape) else share.into
                if rows.flags.c_contiguous and rows.shape == part.shape:
                    self._receives.append((part.peer, rows))
                else:
                    values = buffers.array(part.shape, share.into.dtype)
                    self._receives.append((part.peer, values))
                    self._indirect.append((share.into, part, values))
            self._sends += [(part.peer, _contiguous(blocks.pick(share.values, part))) for part in steps.sends]

    def move(self) -> None:
        """Send, and receive."""
        pending = self._mesh.post(self._sends, self._receives)
        for into, part, values in self._kept:
            blocks.put(into, part, values)
        self._mesh.complete(pending)
        for into, part, values in self._indirect:
            blocks.put(into, part, values)


def _plan(mesh: Mesh, share: Share) -> Plan:
    """Remembered, unless a layout is listed: such a one is long, and hardly comes again."""
    listed = isinstance(share.source, Listed) or isinstance(share.target, Listed)
    make = plan.__wrapped__ if listed else plan
    return make(share.shape, mesh.size, share.source, share.target, mesh.rank)


def _whole_rows(part: Part, shape: Shape) -> bool:
    """Whether a part of a block in C order lies in one piece: one run of axis 0, all of the others."""
    return all(len(r) == 1 for r in part.runs) and part.shape[1:] == shape[1:]


def _contiguous(values: Host) -> Host:
    """The values in C order."""
    if values.flags.c_contiguous:
        return values
    result = buffers.array(values.shape, values.dtype)
    blocks.copy_into(result, values)
    return result
