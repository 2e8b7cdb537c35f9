"""New arrays. Each rank makes its own block: no message, unless said.

All take ``layout``, how the array is divided (by default blocks of axis 0), and ``comm``, the ranks that hold it (by default all of the
current world).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.conversion import asarray, from_dlpack, from_local, replicate
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Layout, Shape
from mpicluster.array.mesh import as_mesh
from mpicluster.array.operands import as_dist, mesh_of
from mpicluster.array.placement import as_shape as as_shape
from mpicluster.array.placement import place as place
from mpicluster.array.placement import refuse_device as refuse_device
from mpicluster.array.ranges import arange, linspace
from mpicluster.array.ranges import made_of_indices as made_of_indices

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
    "replicate",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]


def _element(value: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """What an array is filled with, of its type: what does not fit is so an error on all ranks, also where nothing is filled."""
    shape = value.shape if isinstance(value, DistArray) else np.shape(value)
    if shape:
        raise TypeError(f"an array is filled with a number, not with an array of shape {shape}")
    return blocks.as_numbers(blocks.host(value.local) if isinstance(value, DistArray) else value, dtype)


def empty(
    shape: int | Sequence[int], *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array with anything in it; float64 unless a type is given."""
    return _new(np.empty, shape, dtype, device, layout, comm)


def zeros(
    shape: int | Sequence[int], *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array of zeros; float64 unless a type is given."""
    return _new(np.zeros, shape, dtype, device, layout, comm)


def ones(shape: int | Sequence[int], *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None) -> DistArray:
    """An array of ones; float64 unless a type is given."""
    return _new(np.ones, shape, dtype, device, layout, comm)


def full(
    shape: int | Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """An array of one value: bool, int64, float64 or complex128 by Python's type of it, unless a type is given."""
    element = _element(fill_value, dtype)
    return _new(lambda local, kind: np.full(local, element, kind), shape, element.dtype, device, layout, comm)


def _new(make: Any, shape: int | Sequence[int], dtype: Any, device: Any, layout: Layout | None, comm: Any) -> DistArray:
    refuse_device(device)
    kind = np.dtype(np.float64 if dtype is None else dtype)
    blocks.check_kind(kind)
    mesh, shape = as_mesh(comm), as_shape(shape)
    settled, local = place(mesh, shape, layout)
    return DistArray(mesh, settled, shape, make(local, kind))


def _like(x: Any, name: str, dtype: Any, device: Any, *values: Any) -> DistArray:
    x = as_dist(x, mesh_of(x))
    make = getattr(blocks.namespace(x.local), name)
    blocks.check_kind(np.dtype(dtype) if dtype is not None and type(x.local) is np.ndarray else dtype)
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
    x = as_dist(x, mesh_of(x, fill_value))
    plain = type(x.local) is np.ndarray
    element = _element(fill_value, (x.dtype if dtype is None else dtype) if plain else None)
    return _like(x, "full_like", dtype, device, element if plain else element.item())


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
    """Ones on the ``k``-th diagonal, zeros elsewhere; float64 unless a type is given."""
    shape = (n_rows, n_rows if n_cols is None else n_cols)
    result = zeros(shape, dtype=dtype, device=device, layout=layout, comm=comm)
    rows, columns = _indices(result)
    _, i, j = np.intersect1d(rows + _diagonal(k, shape), columns, assume_unique=True, return_indices=True)
    result.local[i, j] = 1
    return result


def _indices(x: DistArray) -> list[np.ndarray[Any, Any]]:
    """The indices, along each axis, of what this rank holds."""
    runs = x.layout.runs(x.shape, x.mesh.size, x.mesh.rank)
    return [np.concatenate([np.arange(lo, hi) for lo, hi in r]) if r else np.arange(0) for r in runs]


def _diagonal(k: int, shape: Shape) -> int:
    """The number of a diagonal; of those without an element, which may be any integers, the nearest."""
    return max(-shape[-2], min(operator.index(k), shape[-1]))


def _triangle(x: Any, k: int, *, lower: bool) -> DistArray:
    x = as_dist(x, mesh_of(x))
    if x.ndim < 2:
        raise ValueError(f"a triangle needs an array of two dimensions or more, not of shape {x.shape}")
    *_, rows, columns = _indices(x)
    compare = np.less_equal if lower else np.greater_equal
    kept = blocks.like(x.local, compare(columns[np.newaxis, :], rows[:, np.newaxis] + _diagonal(k, x.shape)))
    namespace = blocks.namespace(x.local)
    zero = namespace.zeros((), dtype=x.local.dtype, device=x.local.device)
    return DistArray(x.mesh, x.layout, x.shape, namespace.where(kept, x.local, zero))


def tril(x: Any, /, *, k: int = 0) -> DistArray:
    """What is on or below the ``k``-th diagonal of the last two axes; zeros above. No message."""
    return _triangle(x, k, lower=True)


def triu(x: Any, /, *, k: int = 0) -> DistArray:
    """What is on or above the ``k``-th diagonal of the last two axes; zeros below. No message."""
    return _triangle(x, k, lower=False)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[DistArray, ...]:
    """Coordinates of a grid from those of its axes: an array of the grid's shape for each, all in its default layout.

    ``indexing`` is ``"ij"``, or ``"xy"`` to have the first two axes the other way round. An Allgatherv of each operand that is divided.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    mesh = mesh_of(*arrays)
    vectors = [as_dist(a, mesh) for a in arrays]
    axes = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        axes[:2] = 1, 0
    lengths = {axis: vector.size for axis, vector in zip(axes, vectors, strict=True)}
    shape = tuple(lengths[axis] for axis in range(len(vectors)))
    settled, local = place(mesh, shape, None)
    runs = settled.runs(shape, mesh.size, mesh.rank)
    results = []
    for axis, vector in zip(axes, vectors, strict=True):
        whole = vector.replicate().local
        mine = blocks.host(whole).reshape(-1)[slice(*runs[axis][0]) if runs[axis] else slice(0, 0)]
        along = mine.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        results.append(DistArray(mesh, settled, shape, blocks.like(whole, np.array(np.broadcast_to(along, local), order="C"))))
    return tuple(results)
