"""Sums of products over any axes: as products of matrices, into which arrays are flattened without a message."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated, Shape, block_sizes
from mpicluster.array.operands import normal_axis
from mpicluster.linalg.checks import operands
from mpicluster.linalg.multiplication import as_kind, of_one_type, product

__all__ = ["tensordot"]


def tensordot(x1: Any, x2: Any, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> DistArray:
    """The sum of products over some axes of both, which the result does not have; it has the other axes of x1, then those of x2.

    ``axes``
        how many: the last of ``x1`` and the first of ``x2``; or two sequences of as many axes, one for each operand.

    It is the product of two matrices, and has their layouts and costs (see `matmul`): an operand becomes one without a message. But if each
    is divided along a summed axis, and these are not summed with each other, the smaller one is redistributed first. Memory: a copy of the
    operands' blocks, where axes change places.

    Raises
    ------
    ValueError
        the axes are not of equal lengths, or are too many.
    """
    x1, x2 = operands(x1, x2)
    summed1, summed2 = _summed(axes, x1.ndim, x2.ndim)
    if [x1.shape[i] for i in summed1] != [x2.shape[i] for i in summed2]:
        raise ValueError("shape-mismatch for sum")
    a, b = of_one_type(x1, x2)
    at1, at2 = _place(a, summed1), _place(b, summed2)
    if at1 is not None and at2 is not None and at1 != at2:
        if a.size >= b.size:
            b, at2 = b.redistribute(Block(summed2[at1])), at1
        else:
            a, at1 = a.redistribute(Block(summed1[at2])), at2
    first = at1 if at1 is not None else at2
    order = list(range(len(summed1)))
    if first is not None:
        order = [first, *(i for i in order if i != first)]
    free1, free2 = _free(a, summed1), _free(b, summed2)
    left = _flattened(a, free1, [summed1[i] for i in order], summed_first=False)
    right = _flattened(b, free2, [summed2[i] for i in order], summed_first=True)
    rows, columns = _even(a, free1), _even(b, free2)
    result = product(left, right, rows=rows, columns=columns)
    return as_kind(x1, _unflattened(result, [*free1], [*free2], a.shape, b.shape))


def _summed(axes: Any, ndim1: int, ndim2: int) -> tuple[list[int], list[int]]:
    """The axes that are summed over, of each operand."""
    try:
        count = operator.index(axes)
    except TypeError:
        first, second = ([a] if isinstance(a, int | np.integer) else list(a) for a in axes)
        if len(first) != len(second):
            raise ValueError("shape-mismatch for sum") from None
        pair = [normal_axis(int(a), ndim1) for a in first], [normal_axis(int(a), ndim2) for a in second]
        if any(len(set(p)) != len(p) for p in pair):
            raise ValueError("an axis is named twice") from None
        return pair
    if not 0 <= count <= min(ndim1, ndim2):
        raise ValueError(f"{count} axes cannot be summed over, of arrays of {ndim1} and {ndim2} dimensions")
    return list(range(ndim1 - count, ndim1)), list(range(count))


def _place(x: DistArray, summed: list[int]) -> int | None:
    """Which of the summed axes is divided."""
    return summed.index(x.layout.axis) if isinstance(x.layout, Block) and x.layout.axis in summed else None


def _free(x: DistArray, summed: list[int]) -> list[int]:
    """The other axes, the divided one first."""
    divided = x.layout.axis if isinstance(x.layout, Block) else -1
    return sorted((i for i in range(x.ndim) if i not in summed), key=lambda i: i != divided)


def _lengths(x: DistArray, axes: list[int]) -> int:
    return math.prod(x.shape[i] for i in axes)


def _flattened(x: DistArray, free: list[int], summed: list[int], *, summed_first: bool) -> DistArray:
    """The array as a matrix. Its divided axis is the first of those that are merged, so blocks stay blocks."""
    groups = (summed, free) if summed_first else (free, summed)
    block = x.local.transpose([*groups[0], *groups[1]])
    block = block.reshape([math.prod(x.local.shape[i] for i in group) for group in groups])
    layout: Layout = Replicated()
    if isinstance(x.layout, Block):
        axis = 0 if x.layout.axis in groups[0] else 1
        unit = _lengths(x, groups[axis][1:])
        layout = Block(axis, tuple(n * unit for n in x.layout.parts(x.shape, x.mesh.size)))
    shape = (_lengths(x, groups[0]), _lengths(x, groups[1]))
    return DistArray(x.mesh, layout.settled(shape, x.mesh.size), shape, block)


def _even(x: DistArray, free: list[int]) -> tuple[int, ...] | None:
    """How the merged axes are divided, if the first of them is, evenly."""
    if not free:
        return None
    return tuple(n * _lengths(x, free[1:]) for n in block_sizes(x.shape[free[0]], x.mesh.size))


def _unflattened(x: DistArray, free1: list[int], free2: list[int], shape1: Shape, shape2: Shape) -> DistArray:
    """The result with all its axes, in their order."""
    merged = [shape1[i] for i in free1], [shape2[i] for i in free2]
    shape = [*merged[0], *merged[1]]
    layout = x.layout
    local = list(shape)
    if isinstance(layout, Block):
        axis = layout.axis * len(free1)
        if not merged[layout.axis]:  # a side of length 1
            return _unflattened(x.replicate(), free1, free2, shape1, shape2)
        unit = math.prod(merged[layout.axis][1:])
        sizes = tuple(n // unit for n in layout.parts(x.shape, x.mesh.size)) if unit else block_sizes(shape[axis], x.mesh.size)
        layout = Block(axis, sizes)
        local[axis] = sizes[x.mesh.rank]
    order = [*np.argsort(free1), *(len(free1) + np.argsort(free2))]
    block = x.local.reshape(local).transpose(order)
    if isinstance(layout, Block):
        layout = Block(order.index(layout.axis), layout.sizes)
    final = tuple(shape[i] for i in order)
    return DistArray(x.mesh, layout.settled(final, x.mesh.size), final, block)
