"""Sorting, searching and choosing, as NumPy calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpicluster.array as xp
from mpicluster.array.adapters.shapes import flat
from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist, mesh_of, normal_axis

__all__ = ["ADAPTERS"]


def _sorting(name: str) -> Callable[..., Any]:
    def adapter(a: Any, axis: int | None = -1, kind: str | None = None, *, stable: bool | None = None) -> Any:
        x, along = (flat(a), -1) if axis is None else (a, axis)
        return getattr(xp, name)(x, axis=along, stable=bool(stable) or kind in ("stable", "mergesort"))

    return adapter


def _unique(
    ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False, *, equal_nan: bool = True
) -> Any:
    """As the standard has it, but NaN are one value, unless that is not wanted."""
    x = as_dist(ar, mesh_of(ar))
    if not (return_index or return_inverse or return_counts):
        values = xp.unique_values(x)
        same = _nans(values) if equal_nan else 0
        return values[: values.size - same + 1] if same > 1 else values
    values, index, inverse, counts = xp.unique_all(x)
    same = _nans(values) if equal_nan else 0
    if same > 1:  # they are the last, each once
        kept = values.size - same + 1
        values, index, inverse = values[:kept], index[:kept], xp.minimum(inverse, kept - 1)
        counts = xp.concat([counts[: kept - 1], xp.full(1, same, dtype=counts.dtype, comm=counts.mesh)])
    results = ((True, values), (return_index, index), (return_inverse, inverse), (return_counts, counts))
    return tuple(result for wanted, result in results if wanted)


def _nans(values: DistArray) -> int:
    return int(xp.count_nonzero(xp.isnan(values))) if values.dtype.kind in "fc" else 0


def _take(a: Any, indices: Any, axis: int | None = None) -> Any:
    x = flat(a) if axis is None else as_dist(a, mesh_of(a, indices))
    index, along = as_dist(indices, x.mesh), normal_axis(axis or 0, x.ndim)
    if index.ndim == 1:
        return xp.take(x, index, axis=along)
    return xp.reshape(xp.take(x, flat(index), axis=along), x.shape[:along] + index.shape + x.shape[along + 1 :])


def _take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    return xp.take_along_axis(flat(arr) if axis is None else arr, indices, axis=0 if axis is None else axis)


ADAPTERS: dict[str, Callable[..., Any]] = {
    "argsort": _sorting("argsort"),
    "argwhere": lambda a: xp.stack(xp.nonzero(a), axis=1),
    "flatnonzero": lambda a: xp.nonzero(flat(a))[0],
    "isin": lambda element, test_elements, assume_unique=False, invert=False: xp.isin(element, test_elements, invert=invert),  # noqa: ARG005
    "nonzero": lambda a: xp.nonzero(a),
    "searchsorted": lambda a, v, side="left", sorter=None: xp.searchsorted(a, v, side=side, sorter=sorter),
    "sort": _sorting("sort"),
    "take": _take,
    "take_along_axis": _take_along_axis,
    "unique": _unique,
    "unique_all": lambda x: xp.unique_all(x),
    "unique_counts": lambda x: xp.unique_counts(x),
    "unique_inverse": lambda x: xp.unique_inverse(x),
    "unique_values": lambda x: xp.unique_values(x),
}
