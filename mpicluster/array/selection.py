"""Rectangles of arrays: what integers, ranges of indices and new axes choose, and what becomes of it. Collective over the mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, BlockCyclic, BlockCyclic2D, Layout, Replicated, Shape, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.redistribute import Host, redistribute
from mpicluster.array.regions import along, even, places, selected

__all__ = ["choose", "delivered", "divided_axes", "without"]

#: of each axis an index, or a range of indices; None for a new axis
Choice = Sequence[int | range | None]


def choose(x: DistArray, choice: Choice) -> DistArray:
    """What is at these indices, none negative, of each axis. May share memory with the array.

    Where all of the divided axis is chosen, no message, and the layout is kept. Of a range of it, the elements move to even blocks, each at
    most once. What is at one index of it is replicated, by one Bcast, up to `limits.REPLICATED_UP_TO`; divided, if it is larger.
    """
    mesh = x.mesh
    axes = [axis for axis, item in zip(_axes(choice), choice, strict=True) if not isinstance(item, int)]
    gone = tuple(axis for axis in range(x.ndim) if axis not in axes)
    ranges = tuple(range(item, item + 1) if isinstance(item, int) else item for item in choice if item is not None)
    shape = tuple(map(len, ranges))
    stays = _stays(x, ranges, axes)
    with mesh.preparing(0 if stays or isinstance(x.layout, Replicated) else math.prod(shape) * x.itemsize):
        values = blocks.host(x.local)[blocks.place(places(x.layout, x.shape, mesh.size, mesh.rank, ranges))]
    if stays:
        target, block = x.layout, values
    else:
        target, lies = _target(x, ranges, gone), selected(x.layout, x.shape, mesh.size, ranges)
        block = _from_owner(x, values, shape, lies) if isinstance(target, Replicated) else redistribute(mesh, values, shape, lies, target)
    block = block[(*(0 if isinstance(item, int) else None if item is None else slice(None) for item in choice), ...)]
    if isinstance(target, Block | BlockCyclic):
        target = along(target, axes.index(target.axis))
    return DistArray(mesh, target, tuple(1 if axis is None else shape[axis] for axis in axes), blocks.like(x.local, block))


def _axes(choice: Choice) -> list[int | None]:
    """The axis of the array to which each item belongs."""
    axes, axis = [], 0
    for item in choice:
        axes.append(None if item is None else axis)
        axis += item is not None
    return axes


def divided_axes(layout: Layout) -> tuple[int, ...]:
    """The axes along which a layout divides arrays."""
    if isinstance(layout, Replicated):
        return ()
    return (layout.axis,) if isinstance(layout, Block | BlockCyclic) else (0, 1)


def _stays(x: DistArray, ranges: Sequence[range], axes: Sequence[int | None]) -> bool:
    """Whether the layout fits what is chosen: all of the divided axes, which are kept. ``axes``: those of the array that the result has."""
    if isinstance(x.layout, BlockCyclic2D) and len(axes) != x.ndim:
        return False
    return all(axis in axes and ranges[axis] == range(x.shape[axis]) for axis in divided_axes(x.layout))


def _target(x: DistArray, ranges: Sequence[range], gone: Sequence[int]) -> Layout:
    """How that shall lie which is chosen, with the axes of the array."""
    layout, size = x.layout, x.mesh.size
    kept = [axis for axis in range(x.ndim) if axis not in gone]
    shape = tuple(len(ranges[axis]) for axis in kept)
    if not isinstance(layout, Block | BlockCyclic):
        target = default_layout(shape, size)
    elif layout.axis not in gone:
        target = even(shape, size, kept.index(layout.axis))
    else:
        large = math.prod(shape) * x.itemsize > REPLICATED_UP_TO
        target = default_layout(shape, size) if large else Replicated()
    return along(target, kept[target.axis]) if isinstance(target, Block) else target


def _from_owner(x: DistArray, values: Host, shape: Shape, lies: Layout) -> Host:
    """What is chosen on every rank: one Bcast, where it is all of one rank's."""
    mesh = x.mesh
    owners = [rank for rank in range(mesh.size) if all(lies.runs(shape, mesh.size, rank))]
    if len(owners) != 1:
        whole: Host = redistribute(mesh, values, shape, lies, Replicated())
        return whole
    with mesh.preparing(math.prod(shape) * values.itemsize):
        block = np.array(values, order="C") if mesh.rank == owners[0] else np.empty(shape, values.dtype)
    return mesh.bcast(block, owners[0])


def without(x: DistArray, axes: Sequence[int]) -> DistArray:
    """The array without axes of length 1, as `choose` has it: shares memory, where the divided axis is not among them."""
    return choose(x, tuple(0 if axis in axes else range(n) for axis, n in enumerate(x.shape)))


def delivered(value: DistArray, layout: Layout, shape: Shape, ranges: Sequence[range]) -> Host:
    """This rank's part of a value that is to be put where ranges choose of an array of ``shape`` in ``layout``.

    The value has as many axes, each as long as the range, or of length 1. What broadcasts along a divided axis is replicated first: one
    Allgatherv. Else each element travels at most once.
    """
    mesh = value.mesh
    lengths = tuple(map(len, ranges))
    if any(value.shape[axis] != lengths[axis] for axis in divided_axes(layout)):
        value = value.replicate()
    target = selected(layout, shape, mesh.size, ranges, value.shape)
    return blocks.host(redistribute(mesh, blocks.host(value.local), value.shape, value.layout, target))
