"""Reductions and sums, as NumPy calls them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpicluster.array as xp
from mpicluster.array.adapters.shapes import flat
from mpicluster.array.operands import as_dist, mesh_of

__all__ = ["ADAPTERS"]

Axis = int | Sequence[int] | None


def _reduction(name: str) -> Callable[..., Any]:
    return lambda a, axis=None, *, keepdims=False: getattr(xp, name)(a, axis=axis, keepdims=keepdims)


def _typed(name: str) -> Callable[..., Any]:
    return lambda a, axis=None, dtype=None, *, keepdims=False: getattr(xp, name)(a, axis=axis, dtype=dtype, keepdims=keepdims)


def _recast(a: Any, dtype: Any) -> Any:
    x = as_dist(a, mesh_of(a))
    return x if dtype is None else xp.astype(x, dtype, copy=False)


def _mean(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return xp.mean(_recast(a, dtype), axis=axis, keepdims=keepdims)


def _spread(name: str) -> Callable[..., Any]:
    def adapter(a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, correction: float = 0, keepdims: bool = False) -> Any:
        return getattr(xp, name)(_recast(a, dtype), axis=axis, correction=ddof or correction, keepdims=keepdims)

    return adapter


def _cumulative(name: str) -> Callable[..., Any]:
    def adapter(a: Any, axis: int | None = None, dtype: Any = None) -> Any:
        return getattr(xp, name)(flat(a) if axis is None else a, axis=0 if axis is None else axis, dtype=dtype)

    return adapter


def _ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return xp.max(a, axis=axis, keepdims=keepdims) - xp.min(a, axis=axis, keepdims=keepdims)


ADAPTERS: dict[str, Callable[..., Any]] = {
    **{name: _reduction(name) for name in ("max", "min", "all", "any", "count_nonzero", "argmax", "argmin")},
    **{name: _typed(name) for name in ("sum", "prod")},
    "amax": _reduction("max"),
    "amin": _reduction("min"),
    "cumprod": _cumulative("cumulative_prod"),
    "cumsum": _cumulative("cumulative_sum"),
    "cumulative_prod": lambda x, /, *, axis=None, dtype=None, include_initial=False: xp.cumulative_prod(
        x, axis=axis, dtype=dtype, include_initial=include_initial
    ),
    "cumulative_sum": lambda x, /, *, axis=None, dtype=None, include_initial=False: xp.cumulative_sum(
        x, axis=axis, dtype=dtype, include_initial=include_initial
    ),
    "diff": lambda a, n=1, axis=-1, prepend=None, append=None: xp.diff(a, n=n, axis=axis, prepend=prepend, append=append),
    "mean": _mean,
    "ptp": _ptp,
    "std": _spread("std"),
    "var": _spread("var"),
}
