"""Stacks of matrices, and small or replicated ones: each rank does whole matrices with NumPy, and all hear of it if one of them fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated
from mpicluster.array.mesh import Mesh

__all__ = ["alike", "in_stacks", "of_whole", "stacked"]


def alike(mesh: Mesh, replicated: bool, function: Callable[[], Any]) -> Any:
    """What this rank computes; all raise if one fails. Of replicated operands that is so without a message, else one Allreduce."""
    if replicated:
        return function()
    with mesh.together():
        return function()


def in_stacks(x: DistArray) -> DistArray:
    """A stack of matrices such that each is whole on one rank: blocks of an axis of the stack, or replicated.

    At most size - 1 messages each way, where a matrix was divided.
    """
    if isinstance(x.layout, Replicated) or (isinstance(x.layout, Block) and x.layout.axis < x.ndim - 2):
        return x
    return x.redistribute(Block(max(range(x.ndim - 2), key=lambda i: x.shape[i])))


def stacked(x: DistArray, function: Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], ...]]) -> tuple[DistArray, ...]:
    """A function of a stack of matrices, as NumPy has it; results are divided as the stack is."""
    x = in_stacks(x)
    results = alike(x.mesh, isinstance(x.layout, Replicated), lambda: function(blocks.host(x.local)))
    stack = x.shape[:-2]
    return tuple(DistArray(x.mesh, x.layout, (*stack, *r.shape[len(stack) :]), blocks.like(x.local, r)) for r in results)


def of_whole(
    x: DistArray, function: Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], ...]], layout: Layout
) -> tuple[DistArray, ...]:
    """A function of a matrix, of which every rank has or gets all; results are replicated if it was, else divided as ``layout`` says.

    One Allgatherv and one Allreduce of a byte, of a divided matrix.
    """
    replicated = isinstance(x.layout, Replicated)
    values = blocks.host(x.replicate().local)
    results = alike(x.mesh, replicated, lambda: function(values))
    arrays = tuple(DistArray(x.mesh, Replicated(), r.shape, blocks.like(x.local, r)) for r in results)
    return arrays if replicated else tuple(a.redistribute(layout) for a in arrays)
