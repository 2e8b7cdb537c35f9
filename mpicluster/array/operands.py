"""What functions of several arrays have in common: one mesh, one layout, and blocks that fit each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, BlockCyclic, Layout, Replicated, Shape, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.mesh import Mesh, current
from mpicluster.array.redistribute import redistribute

__all__ = ["apply", "as_dist", "block_for", "mesh_of", "normal_axes", "normal_axis", "replicated"]


def mesh_of(*operands: Any) -> Mesh:
    """The mesh of all arrays among the operands; the current one if there is none.

    Raises
    ------
    ValueError
        they lie on different ranks.
    ArrayLost
        the ranks of the mesh cannot be reached from this task.
    """
    mesh: Mesh | None = None
    for x in operands:
        if isinstance(x, DistArray):
            if mesh is None:
                mesh = x.mesh
            elif x.mesh is not mesh:
                raise ValueError(
                    f"the operands lie on different ranks ({', '.join(map(str, mesh.members))} and {', '.join(map(str, x.mesh.members))}): "
                    f"arrays that meet must be of one communicator"
                )
    if mesh is None:
        return current()
    mesh.check()
    return mesh


def replicated(mesh: Mesh, value: Any, dtype: Any = None) -> DistArray:
    """An array of what every rank has, as it is."""
    block = np.asarray(value, dtype)
    return DistArray(mesh, Replicated(), block.shape, block)


def as_dist(value: Any, mesh: Mesh) -> DistArray:
    """An operand as an array: Python's and NumPy's values are replicated, being the same on every rank."""
    return value if isinstance(value, DistArray) else replicated(mesh, value)


def normal_axis(axis: int, ndim: int) -> int:
    """An axis that is not negative.

    Raises
    ------
    numpy.exceptions.AxisError
        there is none such; a ValueError and IndexError.
    """
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return int(axis) % ndim


def normal_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Axes that are not negative, rising; all for None.

    Raises
    ------
    ValueError
        one is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    normal = sorted(normal_axis(a, ndim) for a in axes)
    if len(set(normal)) != len(normal):
        raise ValueError("duplicate value in 'axis'")
    return tuple(normal)


# -- elementwise -----------------------------------------------------------------------------------------------------------------------


def _common_layout(arrays: Sequence[DistArray], shape: Shape, mesh: Mesh) -> Layout:
    """In which layout the result of an elementwise function of these lies: that of the first that is divided and has its shape."""
    divided = [x for x in arrays if not isinstance(x.layout, Replicated)]
    if not divided:
        grown = not any(x.shape == shape for x in arrays)
        large = math.prod(shape) * max((x.itemsize for x in arrays), default=8) > REPLICATED_UP_TO
        return default_layout(shape, mesh.size) if grown and large else Replicated()
    fitting = all(x.shape == shape or isinstance(x.layout, Replicated) for x in arrays)
    for x in divided:
        if x.shape == shape and (fitting or isinstance(x.layout, Block)):
            return x.layout
    for x in sorted(divided, key=lambda x: -x.size):
        if isinstance(x.layout, Block):
            axis = x.layout.axis + len(shape) - x.ndim
            if shape[axis] == x.shape[x.layout.axis]:
                return Block(axis, x.layout.sizes)
    return default_layout(shape, mesh.size)


def block_for(x: DistArray, layout: Layout, shape: Shape) -> Any:
    """This rank's block of ``x`` such that it broadcasts with the block of an array of ``shape`` in ``layout``. May communicate."""
    if isinstance(layout, Replicated) or not x.shape:
        return x.replicate().local
    mesh, missing = x.mesh, len(shape) - x.ndim
    if x.shape == shape:
        target: Layout = layout
    elif isinstance(layout, Block | BlockCyclic):
        axis = layout.axis - missing
        if axis < 0 or x.shape[axis] != shape[layout.axis]:
            return x.replicate().local
        target = Block(axis, layout.sizes) if isinstance(layout, Block) else BlockCyclic(axis, layout.nb)
    else:  # rows and columns of those of a replicated operand that are not broadcast
        whole = x.replicate().local
        runs = layout.runs(shape, mesh.size, mesh.rank)[missing:]
        return whole[np.ix_(*([0] if n == 1 else [i for lo, hi in r for i in range(lo, hi)] for n, r in zip(x.shape, runs, strict=True)))]
    if isinstance(x.layout, Replicated) and isinstance(target, Block):  # a view will do
        bounds = target.bounds(x.shape, mesh.size)
        return x.local[(slice(None),) * target.axis + (slice(bounds[mesh.rank], bounds[mesh.rank + 1]),)]
    return redistribute(mesh, x.local, x.shape, x.layout, target.settled(x.shape, mesh.size))


def apply(function: Callable[..., Any], *operands: Any) -> Any:
    """A function of blocks that broadcasts like NumPy's, of arrays; a tuple of arrays if it returns one.

    No message if the arrays have one layout, or all but one are replicated. Else the others are brought to the layout of the first that
    has the shape of the result. Python scalars are handed on as they are.
    """
    mesh = mesh_of(*operands)
    given = [as_dist(x, mesh) if isinstance(x, np.ndarray) else x for x in operands]
    arrays = [x for x in given if isinstance(x, DistArray)]
    if len(arrays) == 1:
        only = arrays[0]
        shape, layout = only.shape, only.layout
        result = function(*(x.local if x is only else x for x in given))
    else:
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        layout = _common_layout(arrays, shape, mesh)
        fitting = [block_for(x, layout, shape) if isinstance(x, DistArray) else x for x in given]
        result = function(*fitting)
    if isinstance(result, tuple):
        return tuple(DistArray(mesh, layout, shape, r) for r in result)
    return DistArray(mesh, layout, shape, result)


def namespace_of(*operands: Any) -> Any:
    """The namespace of the blocks of the first array among the operands; NumPy's if there is none."""
    return next((blocks.namespace(x.local) for x in operands if isinstance(x, DistArray)), blocks.numpy_namespace)
