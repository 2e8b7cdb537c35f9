"""Diagonals of divided matrices, and their sums. Part of a diagonal is a diagonal of a block."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Shape
from mpicluster.array.statistics import folded, with_block_layout
from mpicluster.linalg.checks import operands

__all__ = ["diagonal", "trace"]


def diagonal(x: Any, /, *, offset: int = 0) -> DistArray:
    """A diagonal of each matrix, that many above the main one, as the last axis. A copy.

    In even blocks of the diagonal, if the matrices are divided (at most one message each way to two others: parts of the diagonal lie where
    rows or columns do); else divided as the stack is, without a message.

    Raises
    ------
    ValueError
        it has less than two dimensions.
    """
    x, offset = _checked(x, offset)
    shape = (*x.shape[:-2], _length(x.shape, offset))
    block = np.array(np.diagonal(blocks.host(x.local), _local_offset(x, offset), -2, -1))
    layout = x.layout
    if isinstance(layout, Block) and layout.axis >= x.ndim - 2:
        layout = Block(len(shape) - 1, _parts(x, offset))
        return DistArray(x.mesh, layout.settled(shape, x.mesh.size), shape, blocks.like(x.local, block)).redistribute(Block(len(shape) - 1))
    return DistArray(x.mesh, layout, shape, blocks.like(x.local, block))


def _checked(x: Any, offset: int) -> tuple[DistArray, int]:
    """An array of matrices, in blocks or replicated, and which diagonal is meant: of those beside the matrix the nearest."""
    (x,) = operands(x)
    if x.ndim < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    return with_block_layout(x), max(-x.shape[-2], min(offset, x.shape[-1]))


def _length(shape: Shape, offset: int) -> int:
    """How long a diagonal is."""
    rows, columns = shape[-2:]
    return max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))


def _local_offset(x: DistArray, offset: int) -> int:
    """Which diagonal of this rank's block is part of that of the array."""
    if not isinstance(x.layout, Block) or x.layout.axis < x.ndim - 2:
        return offset
    start = x.layout.bounds(x.shape, x.mesh.size)[x.mesh.rank]
    return offset + start if x.layout.axis == x.ndim - 2 else offset - start


def _parts(x: DistArray, offset: int) -> tuple[int, ...]:
    """How much of a diagonal each rank has, where the matrices are divided."""
    layout = x.layout
    assert isinstance(layout, Block)
    by_rows, length = layout.axis == x.ndim - 2, _length(x.shape, offset)
    first = max(0, -offset) if by_rows else max(0, offset)  # the row, or column, in which it begins
    at = [min(max(0, b - first), length) for b in layout.bounds(x.shape, x.mesh.size)]
    return tuple(hi - lo for lo, hi in itertools.pairwise(at))


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> DistArray:
    """The sum of a diagonal of each matrix; integers are summed as int64 or uint64.

    Replicated, if the matrices are divided: one fold of the size of the result. Else divided as the stack is, without a message.

    Raises
    ------
    ValueError
        it has less than two dimensions.
    """
    x, offset = _checked(x, offset)
    kind = np.dtype(x.dtype)
    summing = dtype if dtype is not None else np.uint64 if kind.kind == "u" else np.int64 if kind.kind in "ib" else kind
    block = np.asarray(np.sum(np.diagonal(blocks.host(x.local), _local_offset(x, offset), -2, -1), axis=-1, dtype=summing))
    layout = x.layout
    if isinstance(layout, Block) and layout.axis >= x.ndim - 2:
        block, layout = folded(x.mesh, block, np.add)
    return DistArray(x.mesh, layout, x.shape[:-2], blocks.like(x.local, block))
