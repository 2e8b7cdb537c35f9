"""Moving an array's elements from one layout to another. Collective over the mesh."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.layout import Block, Layout, Part, Replicated, Shape, plan
from mpicluster.array.mesh import Mesh

__all__ = ["redistribute"]


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
    return blocks.like(block, _move(mesh, data, shape, source, target))


def _whole_rows(part: Part, shape: Shape) -> bool:
    """Whether a part of a block in C order lies in one piece: one run of axis 0, all of the others."""
    return all(len(r) == 1 for r in part.runs) and part.shape[1:] == shape[1:]


def _move(mesh: Mesh, data: np.ndarray[Any, Any], shape: Shape, source: Layout, target: Layout) -> np.ndarray[Any, Any]:
    steps = plan(shape, mesh.size, source, target, mesh.rank)
    result = np.empty(target.local_shape(shape, mesh.size, mesh.rank), data.dtype)
    direct, indirect = [], []
    for part in steps.receives:
        if _whole_rows(part, result.shape):
            direct.append((part.peer, result[slice(*part.runs[0][0])] if part.runs else result))
        else:
            indirect.append((part, np.empty(part.shape, data.dtype)))
    sends = [(part.peer, _contiguous(blocks.pick(data, part))) for part in steps.sends]
    pending = mesh.post(sends, [*direct, *((part.peer, values) for part, values in indirect)])
    if steps.kept is not None:
        before, after = steps.kept
        blocks.put(result, after, blocks.pick(data, before))
    mesh.complete(pending)
    for part, values in indirect:
        blocks.put(result, part, values)
    return result


def _contiguous(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values in C order."""
    if values.flags.c_contiguous:
        return values
    result = np.empty(values.shape, values.dtype)
    blocks.copy_into(result, values)
    return result
