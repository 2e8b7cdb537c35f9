"""Rows of an array by their indices, wherever they are: each rank asks the owners for what it needs. Collective over the mesh."""

from __future__ import annotations

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated

__all__ = ["look_up"]


def look_up(x: DistArray, indices: DistArray) -> DistArray:
    """``x[indices]``, where indices of one dimension are within bounds and not negative; divided as they are.

    Where x is divided along axis 0: three exchanges (how many, which, and the rows), of at most size - 1 messages each. Where it is divided
    along another axis, the indices are replicated. Where it is replicated, no message.
    """
    mesh = x.mesh
    shape = (indices.shape[0], *x.shape[1:])
    if isinstance(x.layout, Block) and x.layout.axis != 0:
        block = blocks.namespace(x.local).take(x.local, blocks.like(x.local, indices.replicate().local), axis=0)
        return DistArray(mesh, x.layout, shape, block)
    layout: Layout = indices.layout
    if isinstance(x.layout, Replicated):
        mine = blocks.host(indices.local)
        return DistArray(mesh, layout, shape, blocks.namespace(x.local).take(x.local, blocks.like(x.local, mine), axis=0))
    assert isinstance(x.layout, Block)
    wanted = indices.redistribute(Block(0))
    return DistArray(mesh, Block(0), shape, blocks.like(x.local, _ask(x, blocks.host(wanted.local))))


def _ask(x: DistArray, wanted: np.ndarray) -> np.ndarray:
    """The rows at these indices, in their order."""
    mesh, rows = x.mesh, blocks.host(x.local)
    assert isinstance(x.layout, Block)
    bounds = np.asarray(x.layout.bounds(x.shape, mesh.size))
    if mesh.size == 1:
        return np.take(rows, wanted, axis=0)
    owner = np.searchsorted(bounds, wanted, side="right") - 1
    order = np.argsort(owner, kind="stable")
    asked = np.bincount(owner, minlength=mesh.size)
    due = mesh.alltoall_ints(asked)
    mine = np.split(wanted[order], np.cumsum(asked)[:-1])
    theirs = [np.empty(n, np.int64) for n in due]
    others = [p for p in range(mesh.size) if p != mesh.rank]
    mesh.exchange([(p, np.ascontiguousarray(mine[p])) for p in others if asked[p]], [(p, theirs[p]) for p in others if due[p]])
    answers = [(p, np.take(rows, theirs[p] - bounds[mesh.rank], axis=0)) for p in others if due[p]]
    come = np.empty((wanted.size, *rows.shape[1:]), rows.dtype)
    starts = np.concatenate([[0], np.cumsum(asked)])
    mesh.exchange(answers, [(p, come[starts[p] : starts[p + 1]]) for p in others if asked[p]])
    me = mesh.rank
    come[starts[me] : starts[me + 1]] = np.take(rows, mine[me] - bounds[me], axis=0)
    result = np.empty_like(come)
    result[order] = come
    return result
