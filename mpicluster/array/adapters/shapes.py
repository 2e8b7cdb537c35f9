"""Shapes of arrays and their parts, as NumPy calls it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import mpicluster.array as xp
from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist, mesh_of, normal_axis

__all__ = ["ADAPTERS", "check_order", "flat"]

Axis = int | Sequence[int] | None


def _array(x: Any) -> DistArray:
    return as_dist(x, mesh_of(x))


def flat(x: Any) -> DistArray:
    """The array with one dimension."""
    x = _array(x)
    return x if x.ndim == 1 else xp.reshape(x, (x.size,))


def check_order(order: str) -> None:
    """See that no other order of elements is asked for than there is.

    Raises
    ------
    TypeError
        it is.
    """
    if order not in ("C", "K", "A"):
        raise TypeError(f"elements of distributed arrays are in order 'C', not {order!r}")


def _reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    check_order(order)
    return xp.reshape(a, shape, copy=copy)


def _ravel(a: Any, order: str = "C") -> Any:
    check_order(order)
    return flat(a)


def _transpose(a: Any, axes: Sequence[int] | None = None) -> Any:
    x = _array(a)
    return xp.permute_dims(x, tuple(range(x.ndim))[::-1] if axes is None else tuple(axes))


def _swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    x = _array(a)
    axes = list(range(x.ndim))
    i, j = normal_axis(axis1, x.ndim), normal_axis(axis2, x.ndim)
    axes[i], axes[j] = j, i
    return xp.permute_dims(x, tuple(axes))


def _squeeze(a: Any, axis: Axis = None) -> Any:
    x = _array(a)
    return xp.squeeze(x, axis=tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else axis)


def _with_dimensions(n: int, *arrays: Any) -> list[DistArray]:
    """Those that have less get axes of length 1 in front."""
    return [x if x.ndim >= n else xp.reshape(x, (1,) * (n - x.ndim) + x.shape) for x in map(_array, arrays)]


def _atleast(n: int) -> Callable[..., Any]:
    def adapter(*arys: Any) -> Any:
        results = _with_dimensions(n, *arys)
        return results[0] if len(results) == 1 else tuple(results)

    return adapter


def _concatenate(arrays: Sequence[Any], /, axis: int | None = 0, *, dtype: Any = None) -> Any:
    result = xp.concat(list(arrays), axis=axis)
    return result if dtype is None else xp.astype(result, dtype, copy=False)


def _hstack(tup: Sequence[Any]) -> Any:
    arrays = _with_dimensions(1, *tup)
    return xp.concat(arrays, axis=0 if arrays[0].ndim == 1 else 1)


def _column_stack(tup: Sequence[Any]) -> Any:
    return xp.concat([x if x.ndim >= 2 else xp.reshape(x, (x.size, 1)) for x in map(_array, tup)], axis=1)


def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return xp.concat([flat(arr), flat(values)], axis=0) if axis is None else xp.concat([arr, values], axis=axis)


def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    x = _array(ary)
    along = normal_axis(axis, x.ndim)
    if np.ndim(indices_or_sections):
        bounds = [0, *map(int, indices_or_sections), x.shape[along]]
    else:
        parts = int(indices_or_sections)
        if parts < 1:
            raise ValueError("number sections must be larger than 0.")
        length, longer = divmod(x.shape[along], parts)
        bounds = [i * length + min(i, longer) for i in range(parts + 1)]
    before = (slice(None),) * along
    return [x[(*before, slice(lo, hi))] for lo, hi in itertools.pairwise(bounds)]


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if not np.ndim(indices_or_sections) and ary.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return _array_split(ary, indices_or_sections, axis)


ADAPTERS: dict[str, Callable[..., Any]] = {
    "append": _append,
    "array_split": _array_split,
    "atleast_1d": _atleast(1),
    "atleast_2d": _atleast(2),
    "broadcast_arrays": lambda *args: xp.broadcast_arrays(*args),
    "broadcast_to": lambda array, shape: xp.broadcast_to(array, (shape,) if isinstance(shape, int) else tuple(shape)),
    "column_stack": _column_stack,
    "concatenate": _concatenate,
    "expand_dims": lambda a, axis: xp.expand_dims(a, axis=axis),
    "flip": lambda m, axis=None: xp.flip(m, axis=axis),
    "fliplr": lambda m: xp.flip(m, axis=1),
    "flipud": lambda m: xp.flip(m, axis=0),
    "hsplit": lambda ary, indices_or_sections: _split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0),
    "hstack": _hstack,
    "matrix_transpose": lambda x, /: xp.matrix_transpose(x),
    "moveaxis": lambda a, source, destination: xp.moveaxis(a, source, destination),
    "ndim": lambda a: len(a.shape),
    "ravel": _ravel,
    "repeat": lambda a, repeats, axis=None: xp.repeat(a, repeats, axis=axis),
    "reshape": _reshape,
    "roll": lambda a, shift, axis=None: xp.roll(a, shift, axis=axis),
    "shape": lambda a: tuple(a.shape),
    "size": lambda a, axis=None: math.prod(a.shape) if axis is None else a.shape[axis],
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda arrays, axis=0: xp.stack(list(arrays), axis=axis),
    "swapaxes": _swapaxes,
    "tile": lambda A, reps: xp.tile(A, reps),  # noqa: N803 - NumPy's name
    "transpose": _transpose,
    "unstack": lambda x, /, *, axis=0: xp.unstack(x, axis=axis),
    "vsplit": lambda ary, indices_or_sections: _split(ary, indices_or_sections, 0),
    "vstack": lambda tup: xp.concat(_with_dimensions(2, *tup), axis=0),
}
