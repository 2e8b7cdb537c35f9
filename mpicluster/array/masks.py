"""What masks choose of arrays. Collective over the mesh.

A mask is brought to the layout of the array (a byte for each element that is elsewhere); then each rank chooses of its block. What a rank
has chosen is one run of the result, or, where axes of the mask come before the divided one, a run for each index of these. So ranks tell
each other how long these are, and `regions.interleaved` says where they belong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated, default_layout
from mpicluster.array.mesh import Mesh
from mpicluster.array.redistribute import Host, redistribute
from mpicluster.array.regions import along, even, interleaved
from mpicluster.array.statistics import with_block_layout

__all__ = ["compress", "counted"]

#: An array whose chosen elements would be in more runs is first brought to the default layout.
_MOST_RUNS = 4096


def _fitted(x: DistArray, mask: DistArray, first: int) -> tuple[DistArray, Host]:
    """The array, in blocks or replicated, and the mask of its axes from ``first`` on as it fits the array's block."""
    x = with_block_layout(x)
    last = first + mask.ndim
    if isinstance(x.layout, Replicated) and not isinstance(mask.layout, Replicated):
        mask = with_block_layout(mask)
        assert isinstance(mask.layout, Block)
        x = x.redistribute(along(mask.layout, mask.layout.axis + first))
    if isinstance(x.layout, Block) and first <= x.layout.axis < last:
        default = default_layout(x.shape, x.mesh.size)
        if math.prod(x.shape[first : x.layout.axis]) > _MOST_RUNS and default != x.layout:
            return _fitted(x.redistribute(default), mask, first)
        mask = mask.redistribute(Block(x.layout.axis - first, x.layout.parts(x.shape, x.mesh.size)))
    else:
        mask = mask.replicate()
    return x, blocks.host(mask.local)


def counted(mesh: Mesh, mask: Host, before: int) -> list[list[int]]:
    """How many elements each rank's part of a divided mask chooses, for each index of the axes before the divided one. One Allgather.

    ``before``
        how many these axes are.
    """
    parts = math.prod(mask.shape[:before])
    if not parts:
        return [[0]] * mesh.size
    lines = mask.reshape(parts, math.prod(mask.shape[before:]))
    counts: list[list[int]] = mesh.gather_ints(*np.count_nonzero(lines, axis=1).tolist()).tolist()
    return counts


def compress(x: DistArray, mask: DistArray, first: int) -> DistArray:
    """The array with the axes of the mask, from ``first`` on, replaced by one of the places where it is true, in C order; a new array.

    In even blocks of that axis, if the divided one is among those of the mask: one Allgather of counts, and each element that is chosen
    travels at most once. Else divided as the array is, without a message but for the mask, which is replicated.
    """
    mesh = x.mesh
    x, where = _fitted(x, mask, first)
    key: list[Any] = [*[slice(None)] * first, where]
    near = isinstance(x.layout, Block) and first <= x.layout.axis < first + mask.ndim
    with mesh.preparing(x.nbytes if near else 0):  # a rank may choose much more than others
        block = blocks.host(x.local)[tuple(key)]
    shape = (*x.shape[:first], 0, *x.shape[first + mask.ndim :])
    layout: Layout = x.layout
    if isinstance(layout, Block) and near:
        counts = counted(mesh, where, layout.axis - first)
        shape = (*shape[:first], sum(map(sum, counts)), *shape[first + 1 :])
        layout = even(shape, mesh.size, first)
        block = redistribute(mesh, block, shape, interleaved(counts, shape, first), layout)
    else:
        shape = (*shape[:first], block.shape[first], *shape[first + 1 :])
        if isinstance(layout, Block):
            layout = along(layout, layout.axis if layout.axis < first else layout.axis - mask.ndim + 1)
    return DistArray(mesh, layout, shape, blocks.like(x.local, block))
