"""Arrays of what is there already: on every rank alike, or on each its own block."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Layout, Replicated, default_layout
from mpicluster.array.mesh import as_mesh
from mpicluster.array.operands import mesh_of
from mpicluster.array.placement import refuse_device

__all__ = ["asarray", "from_dlpack", "from_local", "hash_of", "replicate"]


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array of what every rank has: each keeps its block of it. Numbers and 0-d arrays are replicated.

    No message, unless an array is brought to another layout, or arrays are among nested sequences.

    ``obj``
        a nested sequence, a NumPy array or what can be had as one (the same on every rank), or an array, which is returned as it is if it
        need not change. Python's numbers become bool, int64, float64 or complex128 unless a type is given;
    ``copy``
        true: always copy; false: never, and raise ValueError if that cannot be. If it is not given, a replicated array shares the memory
        of ``obj``, and a divided one does not, on any number of ranks.

    Raises
    ------
    ValueError
        a copy is needed and must not be; an array lies on other ranks than those of ``comm``; nested sequences have various lengths.
    OverflowError
        an integer does not fit the type.
    TypeError
        there is something in it that is no number.
    """
    refuse_device(device)
    if isinstance(obj, DistArray):
        return _changed(obj, dtype, copy, layout, comm)
    nested = _arrays_in(obj)
    mesh = as_mesh(comm) if comm is not None else mesh_of(*nested)
    whole = blocks.as_numbers(_plain(obj) if nested else obj, dtype, copy=False if copy is False else None)
    settled = (layout if layout is not None else default_layout(whole.shape, mesh.size)).settled(whole.shape, mesh.size)
    runs = settled.runs(whole.shape, mesh.size, mesh.rank)
    if isinstance(settled, Block | Replicated) or mesh.size == 1:
        block = whole[tuple(slice(*r[0]) if r else slice(0, 0) for r in runs)] if runs else whole
    elif copy is False:
        raise ValueError(f"an array in the layout {settled} cannot be had without a copy")
    else:
        block = whole[blocks.place([[range(lo, hi) for lo, hi in r] for r in runs])]
    shared = copy is False or (copy is None and isinstance(settled, Replicated))
    return DistArray(mesh, settled, whole.shape, block if shared else np.array(block, copy=True, order="C"))


def _changed(x: DistArray, dtype: Any, copy: bool | None, layout: Layout | None, comm: Any) -> DistArray:
    """An array in another type and layout."""
    if comm is not None and as_mesh(comm) is not x.mesh:
        raise ValueError("the array lies on other ranks than those of comm, and arrays do not go from one communicator to another")
    target = x.layout if layout is None else layout.settled(x.shape, x.mesh.size)
    recast = dtype is not None and x.dtype != dtype
    if copy is False and (target != x.layout or recast):
        raise ValueError("the array cannot be had in this type and layout without a copy")
    if recast:
        namespace = blocks.namespace(x.local)
        x = DistArray(x.mesh, x.layout, x.shape, namespace.astype(x.local, dtype))
    if target != x.layout:
        return x.redistribute(target)
    return x.copy() if copy and not recast else x


def _arrays_in(obj: Any) -> list[DistArray]:
    """The arrays in nested sequences."""
    if isinstance(obj, DistArray):
        return [obj]
    if not isinstance(obj, list | tuple):
        return []
    return [x for part in obj if isinstance(part, list | tuple | DistArray) for x in _arrays_in(part)]


def _plain(obj: Any) -> Any:
    """Nested sequences with NumPy's arrays in place of ours. One Allgatherv for each that is divided."""
    if isinstance(obj, DistArray):
        return np.asarray(obj)
    return [_plain(x) for x in obj] if isinstance(obj, list | tuple) else obj


def replicate(obj: Any, *, dtype: Any = None, comm: Any = None) -> DistArray:
    """An array of what every rank has, all of it kept on each. One Allgatherv of an array that is divided."""
    return asarray(obj, dtype=dtype, layout=Replicated(), comm=comm)


def from_local(block: Any, *, axis: int = 0, comm: Any = None) -> DistArray:
    """An array whose blocks the ranks have already: they lie one after another along ``axis``, each as long as it is.

    Blocks may be of any library that has an array API namespace; they are not copied, and what is written to one is written to the other.
    Two Allgathers of a few integers, and an Allreduce of a byte.

    Raises
    ------
    ValueError
        blocks differ in type, or in shape but for ``axis``, or there is no such axis; on all ranks.
    TypeError
        blocks hold something else than numbers; on all ranks.
    """
    mesh = as_mesh(comm)
    with mesh.together():
        block = _as_block(block)
    mine = f"rank {mesh.rank} has {block.dtype} of shape {tuple(block.shape)}"
    said = mesh.gather_ints(block.ndim, hash_of(block.dtype))
    if (said != said[0]).any():
        raise ValueError(f"blocks differ in type or number of dimensions; {mine}")
    if not -block.ndim <= axis < block.ndim:
        raise np.exceptions.AxisError(axis, block.ndim)
    along = axis % block.ndim
    shapes = mesh.gather_ints(*block.shape)
    others = np.delete(shapes, along, axis=1)
    if (others != others[0]).any():
        raise ValueError(f"blocks differ in shape beside axis {along}: {', '.join(str(tuple(row)) for row in shapes.tolist())}")
    sizes = tuple(shapes[:, along].tolist())
    shape = tuple(sum(sizes) if i == along else int(n) for i, n in enumerate(block.shape))
    return wrap(mesh, Block(along, sizes), shape, block)


def _as_block(block: Any) -> Any:
    """What can be a block: as it is if it has a namespace of its own, else NumPy's."""
    if isinstance(block, DistArray):
        raise TypeError("a block is an array of this rank alone: NumPy's, or of another library")
    try:
        blocks.namespace(block)
    except TypeError:
        block = blocks.as_numbers(block)
    if isinstance(block, np.ndarray):
        block = np.asarray(block)
    if not block.ndim:
        raise ValueError("a block needs at least one dimension")
    blocks.check_kind(block.dtype)
    return block


def hash_of(dtype: Any) -> int:
    """A number that is equal on all ranks for equal types."""
    return zlib.crc32(str(dtype).encode())


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> DistArray:
    """An array of what every rank has, by the DLPack protocol. An array of this namespace is returned as it is.

    Blocks share the memory of ``x`` unless ``copy`` is true, or it must not be written to.

    Raises
    ------
    BufferError
        ``copy`` is false, and it cannot be had without.
    """
    refuse_device(device)
    if isinstance(x, DistArray):
        return x.copy() if copy else x
    whole = np.from_dlpack(x, device=device, copy=copy)
    return asarray(whole, copy=copy is not False and not whole.flags.writeable)
