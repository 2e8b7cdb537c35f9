"""Moving an array's elements from one layout to another. Collective over the mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.layout import Block, Layout, Part, Plan, Replicated, Shape, plan
from mpicluster.array.mesh import Mesh
from mpicluster.array.regions import Listed

__all__ = ["Share", "redistribute", "transfer"]

Host = np.ndarray[Any, Any]


def redistribute(mesh: Mesh, block: Any, shape: Shape, source: Layout, target: Layout) -> Any:
    """This rank's block of the array in layout ``target``, from that in ``source``. Both are settled.

    The result may share memory with ``block`` only if the layouts are equal. At most size - 1 messages each way, each element
    travels at most once; from blocks to all ranks: one Allgatherv. Memory: the new block, and what is sent and received once more where
    it does not lie in one piece.
    """
    if source == target:
        return block
    mesh.check()
    data = blocks.host(block)
    if isinstance(target, Replicated) and isinstance(source, Block):
        rows = mesh.allgather(np.moveaxis(data, source.axis, 0), source.parts(shape, mesh.size))
        return blocks.like(block, np.moveaxis(rows if mesh.size > 1 else rows.copy(), 0, source.axis))
    result = np.empty(target.local_shape(shape, mesh.size, mesh.rank), data.dtype)
    transfer(mesh, [Share(shape, data, source, result, target)])
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

    Nothing that stays on its rank is sent. Memory: what is sent and received once more, where it does not lie in one piece.
    """
    plans = [_plan(mesh, share) for share in shares]
    receives: list[tuple[int, Host]] = []
    indirect: list[tuple[Host, Part, Host]] = []
    sends: list[tuple[int, Host]] = []
    for share, steps in zip(shares, plans, strict=True):
        for part in steps.receives:
            rows = share.into[slice(*part.runs[0][0])] if part.runs and _whole_rows(part, share.into.shape) else share.into
            if rows.flags.c_contiguous and rows.shape == part.shape:
                receives.append((part.peer, rows))
            else:
                values = np.empty(part.shape, share.into.dtype)
                receives.append((part.peer, values))
                indirect.append((share.into, part, values))
        sends += [(part.peer, _contiguous(blocks.pick(share.values, part))) for part in steps.sends]
    pending = mesh.post(sends, receives)
    for share, steps in zip(shares, plans, strict=True):
        if steps.kept is not None:
            before, after = steps.kept
            blocks.put(share.into, after, blocks.pick(share.values, before))
    mesh.complete(pending)
    for into, part, values in indirect:
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
    result = np.empty(values.shape, values.dtype)
    blocks.copy_into(result, values)
    return result
