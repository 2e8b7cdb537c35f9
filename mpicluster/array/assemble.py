"""Arrays put together along one axis from ranges of others. Collective over the mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.assembly import Move, Piece, moves, span
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated

__all__ = ["assemble"]


def assemble(operands: Sequence[DistArray], pieces: Sequence[Piece], axis: int) -> DistArray:
    """The array whose ``axis`` is made of ``pieces`` of that of the operands, one after another; in even blocks of it.

    All operands lie in blocks of ``axis``, are of one type, and have equal shapes beside it. Each element travels at most once, what stays
    does not; at most one message from a rank to another. Memory: the result, and what is sent and received.
    """
    mesh, first = operands[0].mesh, operands[0]
    size, me = mesh.size, mesh.rank
    length = sum(p.length for p in pieces)
    shape = tuple(length if i == axis else n for i, n in enumerate(first.shape))
    layout = Block(axis)
    out = layout.bounds(shape, size)
    bounds = tuple(_bounds(x, axis) for x in operands)
    fixed = tuple(pieces)
    held = [np.moveaxis(blocks.host(x.local), axis, 0) for x in operands]
    rest = held[0].shape[1:]

    def between(sender: int, receiver: int) -> tuple[Move, ...]:
        return moves(fixed, bounds, out, sender, receiver)

    result = np.empty(layout.local_shape(shape, size, me), first.dtype)
    rows = np.moveaxis(result, axis, 0)
    incoming = [(peer, due) for peer in range(size) if peer != me and (due := between(peer, me))]
    come = [(peer, due, np.empty((sum(m.length for m in due), *rest), first.dtype)) for peer, due in incoming]
    sends = []
    for peer in range(size):
        if peer != me and (due := between(me, peer)):
            parts = [held[m.operand][span(m.start, m.step, m.length)] for m in due]
            sends.append((peer, np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))))
    pending = mesh.post(sends, [(peer, values) for peer, _, values in come])
    for m in between(me, me):
        rows[m.at : m.at + m.length] = held[m.operand][span(m.start, m.step, m.length)]
    mesh.complete(pending)
    for _, due, values in come:
        at = 0
        for m in due:
            rows[m.at : m.at + m.length] = values[at : at + m.length]
            at += m.length
    return DistArray(mesh, layout, shape, blocks.like(first.local, result))


def _bounds(x: DistArray, axis: int) -> tuple[int, ...]:
    layout: Any = x.layout
    assert isinstance(layout, Block)
    assert layout.axis == axis
    return layout.bounds(x.shape, x.mesh.size)


def in_blocks_of(x: DistArray, axis: int) -> DistArray:
    """The array in blocks of an axis, even or not."""
    if isinstance(x.layout, Block) and x.layout.axis == axis:
        return x
    if isinstance(x.layout, Replicated) and x.mesh.size == 1:
        return DistArray(x.mesh, Block(axis), x.shape, x.local)
    return x.redistribute(Block(axis))
