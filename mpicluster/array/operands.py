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

__all__ = [
    "apply",
    "as_dist",
    "block_for",
    "blocks_for",
    "broadcast",
    "common_layout",
    "is_scalar",
    "mesh_of",
    "namespace_of",
    "normal_axes",
    "normal_axis",
    "replicated",
]


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
    """An array of what every rank has, as it is: a number, nested sequences, an array of NumPy's or of another library."""
    foreign = dtype is None and not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__array_namespace__")
    block = value if foreign else blocks.as_numbers(value, dtype)
    return DistArray(mesh, Replicated(), tuple(block.shape), block)


def as_dist(value: Any, mesh: Mesh) -> DistArray:
    """An operand as an array: Python's and NumPy's values are replicated, being the same on every rank."""
    return value if isinstance(value, DistArray) else replicated(mesh, value)


def is_scalar(value: Any) -> bool:
    """Whether it is a number of Python's, which has no type of its own among arrays. NumPy's have one."""
    return isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)


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


def broadcast(*shapes: Shape) -> Shape:
    """The shape to which these broadcast.

    Raises
    ------
    ValueError
        there is none.
    """
    result = [1] * max(map(len, shapes))
    for shape in shapes:
        for axis in range(-len(shape), 0):
            n = shape[axis]
            if result[axis] == 1:
                result[axis] = n
            elif n not in (1, result[axis]):
                told = " ".join(str(s).replace(" ", "") for s in shapes)
                raise ValueError(f"operands could not be broadcast together with shapes {told}")
    return tuple(result)


def common_layout(arrays: Sequence[DistArray], shape: Shape, mesh: Mesh) -> Layout:
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
        chosen = [[range(1)] if n == 1 else [range(lo, hi) for lo, hi in r] for n, r in zip(x.shape, runs, strict=True)]
        return blocks.like(whole, blocks.host(whole)[blocks.place(chosen)])
    if isinstance(x.layout, Replicated) and isinstance(target, Block):  # a view will do
        bounds = target.bounds(x.shape, mesh.size)
        mine = (slice(None),) * target.axis + (slice(bounds[mesh.rank], bounds[mesh.rank + 1]),)
        return blocks.like(x.local, blocks.host(x.local)[mine])
    return redistribute(mesh, x.local, x.shape, x.layout, target.settled(x.shape, mesh.size))


def _of_one_library(held: list[Any]) -> list[Any]:
    """Blocks, of which NumPy's become those of another library if there is one of it."""
    for block in held:
        if type(block) is not np.ndarray and not is_scalar(block):
            return [blocks.like(block, b) if type(b) is np.ndarray else b for b in held]
    return held


def blocks_for(operands: Sequence[Any], layout: Layout, shape: Shape) -> list[Any]:
    """This rank's blocks of arrays, such that they broadcast with that of an array of ``shape`` in ``layout``, and are of one library.

    Python's numbers stay what they are. May communicate.
    """
    held = []
    for x in operands:
        if not isinstance(x, DistArray):
            held.append(x)
        else:
            held.append(x.local if x.shape == shape and x.layout == layout else block_for(x, layout, shape))
    return _of_one_library(held)


def apply(function: Callable[..., Any] | str, *operands: Any) -> Any:
    """A function of blocks that broadcasts like NumPy's, of arrays; a tuple of arrays if it returns one. ``function`` may be the name of
    one of NumPy's, or of the namespace that other blocks have.

    No message if the arrays have one layout, or all but one are replicated. Else the others are brought to the layout of the first that
    has the shape of the result. Python scalars are handed on as they are.
    """  # fmt: skip
    mesh = mesh_of(*operands)
    given: list[Any] = []
    first: DistArray | None = None
    alike = True
    for x in operands:
        if isinstance(x, DistArray):
            array = x
        elif is_scalar(x):
            given.append(x)
            continue
        else:
            array = as_dist(x, mesh)
        given.append(array)
        if first is None:
            first = array
        elif array.shape != first.shape or array.layout != first.layout:
            alike = False
    if first is None:
        given[0] = first = as_dist(given[0], mesh)
    if alike:
        shape, layout = first.shape, first.layout
        held = _of_one_library([x.local if isinstance(x, DistArray) else x for x in given])
    else:
        arrays = [x for x in given if isinstance(x, DistArray)]
        shape = broadcast(*(x.shape for x in arrays))
        layout = common_layout(arrays, shape, mesh)
        held = blocks_for(given, layout, shape)
    if callable(function):
        result = function(*held)
    else:
        block = next(b for b in held if not is_scalar(b))
        result = getattr(np if type(block) is np.ndarray else blocks.namespace(block), function)(*held)
    if isinstance(result, tuple):
        return tuple(DistArray(mesh, layout, shape, r) for r in result)
    return DistArray(mesh, layout, shape, result)


def namespace_of(*operands: Any) -> Any:
    """The namespace of the blocks of the first array among the operands whose blocks are not NumPy's; else NumPy's."""
    names = (blocks.namespace(x.local) for x in operands if isinstance(x, DistArray) and type(x.local) is not np.ndarray)
    return next(names, blocks.numpy_namespace)
