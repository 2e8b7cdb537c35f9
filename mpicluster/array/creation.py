"""New arrays. Each rank makes its own block: no message, unless said.

All take ``layout``, how the array is divided (by default blocks of axis 0), and ``comm``, the ranks that hold it (by default all of the
current world).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, Layout, Replicated, Shape, count, default_layout
from mpicluster.array.mesh import Mesh, as_mesh
from mpicluster.array.operands import as_dist, mesh_of

__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "from_local",
    "full",
    "full_like",
    "linspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]


def _shape(shape: int | Sequence[int]) -> Shape:
    result = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
    if min(result, default=0) < 0:
        raise ValueError("negative dimensions are not allowed")
    return result


def _device(device: Any) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"new arrays are made of NumPy blocks, on the device 'cpu', not {device!r}; use from_local for others")


def place(mesh: Mesh, shape: Shape, layout: Layout | None) -> tuple[Layout, Shape]:
    """The settled layout of a new array, and the shape of this rank's block."""
    settled = (layout if layout is not None else default_layout(shape, mesh.size)).settled(shape, mesh.size)
    return settled, settled.local_shape(shape, mesh.size, mesh.rank)


def empty(
    shape: int | Sequence[int], *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array with anything in it; float64 unless a type is given."""
    _device(device)
    mesh, shape = as_mesh(comm), _shape(shape)
    settled, local = place(mesh, shape, layout)
    return DistArray(mesh, settled, shape, np.empty(local, dtype))


def zeros(
    shape: int | Sequence[int], *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array of zeros; float64 unless a type is given."""
    _device(device)
    mesh, shape = as_mesh(comm), _shape(shape)
    settled, local = place(mesh, shape, layout)
    return DistArray(mesh, settled, shape, np.zeros(local, dtype))


def full(
    shape: int | Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array of one value, of its type unless one is given."""
    _device(device)
    mesh, shape = as_mesh(comm), _shape(shape)
    settled, local = place(mesh, shape, layout)
    if isinstance(fill_value, DistArray):
        fill_value = fill_value.replicate().local
    return DistArray(mesh, settled, shape, np.full(local, fill_value, dtype))


def ones(shape: int | Sequence[int], *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None) -> DistArray:
    """An array of ones; float64 unless a type is given."""
    return full(shape, 1, dtype=np.float64 if dtype is None else dtype, device=device, layout=layout, comm=comm)


def _like(x: Any, name: str, dtype: Any, device: Any, *values: Any) -> DistArray:
    x = as_dist(x, mesh_of(x))
    make = getattr(blocks.namespace(x.local), name)
    return DistArray(x.mesh, x.layout, x.shape, make(x.local, *values, dtype=dtype, device=device))


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> DistArray:
    """An array of the shape and layout of ``x``, and its type unless one is given, with anything in it."""
    return _like(x, "empty_like", dtype, device)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> DistArray:
    """An array of zeros of the shape and layout of ``x``, and its type unless one is given."""
    return _like(x, "zeros_like", dtype, device)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> DistArray:
    """An array of ones of the shape and layout of ``x``, and its type unless one is given."""
    return _like(x, "ones_like", dtype, device)


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> DistArray:
    """An array of one value, of the shape and layout of ``x``, and its type unless one is given."""
    return _like(x, "full_like", dtype, device, fill_value)


def _made_of_indices(mesh: Mesh, length: int, layout: Layout | None, make: Any) -> DistArray:
    """A vector of which ``make(lo, hi)`` gives the elements from one index to another."""
    settled, _ = place(mesh, (length,), layout)
    (runs,) = settled.runs((length,), mesh.size, mesh.rank)
    parts = [make(lo, hi) for lo, hi in runs] or [make(0, 0)]
    return DistArray(mesh, settled, (length,), parts[0] if len(parts) == 1 else np.concatenate(parts))


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """Evenly spaced numbers from ``start`` to below ``stop``, or from 0 to below the only number given."""
    _device(device)
    if stop is None:
        start, stop = 0, start
    if dtype is not None:
        kind = np.dtype(dtype)
    else:
        floating = any(isinstance(v, float) for v in (start, stop, step))
        kind = np.dtype(np.float64) if floating else np.dtype(np.int64)
    if step == 0:
        raise ValueError("the step must not be zero")
    length = max(0, math.ceil((stop - start) / step)) if isinstance(start + stop + step, float) else len(range(start, stop, step))

    def make(lo: int, hi: int) -> Any:
        index = np.arange(lo, hi)
        return (index * step + start).astype(kind, copy=False)

    return _made_of_indices(as_mesh(comm), length, layout, make)


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
    layout: Layout | None = None,
    comm: Any = None,
) -> DistArray:
    """``num`` evenly spaced numbers from ``start`` to ``stop``, which is the last of them unless ``endpoint`` is false."""
    _device(device)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    natural = np.result_type(np.float64, type(start), type(stop))
    kind = natural if dtype is None else np.dtype(dtype)
    intervals = num - 1 if endpoint else num
    step = (stop - start) / intervals if intervals > 0 else math.nan

    def make(lo: int, hi: int) -> Any:
        index = np.arange(lo, hi, dtype=natural)
        if intervals <= 0:
            values = index * (stop - start) + start
        elif step == 0:  # the step underflows
            values = index / intervals * (stop - start) + start
        else:
            values = index * step + start
        if endpoint and num > 1 and lo < num <= hi:
            values[-1] = stop
        if np.issubdtype(kind, np.integer):
            values = np.floor(values)
        return values.astype(kind, copy=False)

    return _made_of_indices(as_mesh(comm), num, layout, make)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
    layout: Layout | None = None,
    comm: Any = None,
) -> DistArray:
    """Ones on the ``k``-th diagonal, zeros elsewhere."""
    shape = (n_rows, n_rows if n_cols is None else n_cols)
    result = zeros(shape, dtype=dtype, device=device, layout=layout, comm=comm)
    rows, columns = _indices(result)
    result.local[rows[:, np.newaxis] + k == columns] = 1
    return result


def _indices(x: DistArray) -> list[np.ndarray[Any, Any]]:
    """The indices, along each axis, of what this rank holds."""
    runs = x.layout.runs(x.shape, x.mesh.size, x.mesh.rank)
    return [np.concatenate([np.arange(lo, hi) for lo, hi in r]) if r else np.arange(0) for r in runs]


def _triangle(x: Any, k: int, *, lower: bool) -> DistArray:
    x = as_dist(x, mesh_of(x))
    if x.ndim < 2:
        raise ValueError(f"a triangle needs an array of two dimensions or more, not of shape {x.shape}")
    *_, rows, columns = _indices(x)
    below = columns[np.newaxis, :] - rows[:, np.newaxis] <= k if lower else columns[np.newaxis, :] - rows[:, np.newaxis] >= k
    namespace = blocks.namespace(x.local)
    mask = namespace.asarray(below)
    return DistArray(x.mesh, x.layout, x.shape, namespace.where(mask, x.local, namespace.zeros_like(x.local)))


def tril(x: Any, /, *, k: int = 0) -> DistArray:
    """What is on or below the ``k``-th diagonal of the last two axes; zeros above. No message."""
    return _triangle(x, k, lower=True)


def triu(x: Any, /, *, k: int = 0) -> DistArray:
    """What is on or above the ``k``-th diagonal of the last two axes; zeros below. No message."""
    return _triangle(x, k, lower=False)


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array of what every rank has: each keeps its block of it. Numbers and 0-d arrays are replicated.

    ``obj``
        a nested sequence, a NumPy array (the same on every rank), or an array, which is returned as it is if it need not change;
    ``copy``
        true: always copy; false: never, and raise ValueError if that cannot be.
    """
    _device(device)
    if isinstance(obj, DistArray):
        changed = layout is not None and layout.settled(obj.shape, obj.mesh.size) != obj.layout
        if copy is False and (changed or (dtype is not None and obj.dtype != dtype)):
            raise ValueError("the array cannot be had in this type and layout without a copy")
        result = obj.redistribute(layout) if layout is not None else obj
        namespace = blocks.namespace(obj.local)
        if dtype is not None and result.dtype != dtype:
            return DistArray(result.mesh, result.layout, result.shape, namespace.astype(result.local, dtype))
        return result.copy() if copy and not changed else result
    if copy is False and not isinstance(obj, np.ndarray):
        raise ValueError("what is no array cannot be had as one without a copy")
    mesh, whole = as_mesh(comm), np.asarray(_plain(obj), dtype)
    if copy is False and dtype is not None and np.asarray(obj).dtype != dtype:
        raise ValueError("the array cannot be had in this type without a copy")
    settled = (layout if layout is not None else default_layout(whole.shape, mesh.size)).settled(whole.shape, mesh.size)
    runs = settled.runs(whole.shape, mesh.size, mesh.rank)
    if all(len(r) == 1 for r in runs):
        block = whole[tuple(slice(*r[0]) for r in runs)] if runs else whole
    else:
        block = whole[np.ix_(*([i for lo, hi in r for i in range(lo, hi)] for r in runs))].reshape([count(r) for r in runs])
    return DistArray(mesh, settled, whole.shape, block if copy is False else np.array(block, copy=True, order="C"))


def _plain(obj: Any) -> Any:
    """Nested sequences without arrays in them."""
    if isinstance(obj, DistArray):
        return np.asarray(obj)
    if isinstance(obj, list | tuple):
        return [_plain(x) for x in obj]
    return obj


def from_local(block: Any, *, axis: int = 0, comm: Any = None) -> DistArray:
    """An array whose blocks the ranks have already: they lie one after another along ``axis``, each as long as it is.

    Blocks may be of any library that has an array API namespace; they are not copied. One Allgather of their shapes.

    Raises
    ------
    ValueError
        blocks differ in type, or in shape but for ``axis``; on all ranks.
    """
    mesh = as_mesh(comm)
    block = np.asarray(block) if not hasattr(block, "shape") or np.isscalar(block) else block
    problem = None if block.ndim else ValueError("a block needs at least one dimension")
    mesh.settle(problem)
    said = mesh.gather_ints(block.ndim, hash_of(block.dtype))
    if len({tuple(row) for row in said.tolist()}) != 1:
        raise ValueError(f"blocks differ in type or number of dimensions; rank {mesh.rank} has {block.dtype} of shape {tuple(block.shape)}")
    shapes = mesh.gather_ints(*block.shape)
    along = axis % block.ndim if -block.ndim <= axis < block.ndim else -1
    if along < 0:
        raise np.exceptions.AxisError(axis, block.ndim)
    others = {tuple(n for i, n in enumerate(row) if i != along) for row in shapes.tolist()}
    if len(others) != 1:
        raise ValueError(f"blocks differ in shape beside axis {along}: {', '.join(str(tuple(row)) for row in shapes.tolist())}")
    sizes = tuple(int(n) for n in shapes[:, along])
    shape = tuple(sum(sizes) if i == along else int(n) for i, n in enumerate(block.shape))
    return wrap(mesh, Block(along, sizes), shape, block)


def hash_of(dtype: Any) -> int:
    """A number that is equal on all ranks for equal types."""
    return zlib.crc32(str(dtype).encode())


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> DistArray:
    """An array of what every rank has, by the DLPack protocol. An array of this namespace is returned as it is."""
    if isinstance(x, DistArray):
        return x.copy() if copy else x
    return asarray(np.from_dlpack(x, device=device, copy=copy), copy=copy)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[DistArray, ...]:
    """Coordinates of a grid from the coordinates of its axes, which become replicated. At most one Allgatherv for each."""
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    mesh = mesh_of(*arrays)
    vectors = [as_dist(a, mesh) for a in arrays]
    if len({v.dtype for v in vectors}) > 1:
        raise ValueError("the arrays must be of one type")
    if not vectors:
        return ()
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[0], order[1] = 1, 0
    shape = tuple(vectors[i].size for i in order)
    settled, local = place(mesh, shape, None)
    results = []
    for i, vector in enumerate(vectors):
        axis = order.index(i)
        whole = vector.replicate().local
        (runs,) = [settled.runs(shape, mesh.size, mesh.rank)[axis]]
        mine = whole.reshape(-1)[slice(*runs[0])] if runs else whole.reshape(-1)[:0]
        view = mine.reshape(tuple(-1 if j == axis else 1 for j in range(len(shape)))) if mine.size else mine
        block = np.ascontiguousarray(np.broadcast_to(view, local)) if mine.size else np.empty(local, vector.dtype)
        results.append(DistArray(mesh, settled, shape, block))
    return tuple(results)


def replicate(obj: Any, *, dtype: Any = None, comm: Any = None) -> DistArray:
    """An array of what every rank has, all of it kept on each."""
    return asarray(obj, dtype=dtype, layout=Replicated(), comm=comm)
