"""Functions of each element that are no ufuncs, as NumPy calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mpicluster.array as xp
from mpicluster.array import local as blocks
from mpicluster.array.operands import apply, as_dist, mesh_of

__all__ = ["ADAPTERS"]


def _hosted(function: Callable[..., Any], *operands: Any) -> Any:
    """A function of NumPy's of each block."""

    def on_blocks(*held: Any) -> Any:
        like = next(b for b in held if hasattr(b, "shape"))
        return blocks.like(like, np.asarray(function(*(blocks.host(b) if hasattr(b, "shape") else b for b in held))))

    return apply(on_blocks, *operands)


def _blockwise(name: str) -> Callable[..., Any]:
    function = getattr(np, name)
    return lambda x, *args, **kwargs: _hosted(lambda block: function(block, *args, **kwargs), x)


def _isclose(a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
    return _hosted(lambda one, other: np.isclose(one, other, rtol, atol, equal_nan), a, b)


def _array_equiv(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    mesh = mesh_of(a1, a2)
    a, b = as_dist(a1, mesh), as_dist(a2, mesh)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    equal = xp.equal(a, b)
    if equal_nan and a.dtype.kind in "fc" and b.dtype.kind in "fc":
        equal = xp.logical_or(equal, xp.logical_and(xp.isnan(a), xp.isnan(b)))
    return bool(xp.all(equal))


def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    return np.shape(a1) == np.shape(a2) and _array_equiv(a1, a2, equal_nan)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:  # noqa: A002 - NumPy's names
    """As the standard has it, but types promote."""
    low, high = a_min if min is None else min, a_max if max is None else max
    x = as_dist(a, mesh_of(a, low, high))
    kind = xp.result_type(x, *(getattr(b, "dtype", b) for b in (low, high) if b is not None))
    return xp.clip(xp.astype(x, kind, copy=False), low, high)


def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """The points are brought to all ranks."""
    points = np.asarray(xp), np.asarray(fp)
    return _hosted(lambda block: np.interp(block, *points, left, right, period), as_dist(x, mesh_of(x, xp, fp)))


ADAPTERS: dict[str, Callable[..., Any]] = {
    **{name: _blockwise(name) for name in "angle around round fix i0 iscomplex isreal isneginf isposinf nan_to_num sinc".split()},
    "allclose": lambda a, b, rtol=1e-05, atol=1e-08, equal_nan=False: bool(xp.all(_isclose(a, b, rtol, atol, equal_nan))),
    "array_equal": _array_equal,
    "array_equiv": lambda a1, a2: _array_equiv(a1, a2),
    "clip": _clip,
    "imag": lambda val: xp.imag(val),
    "interp": _interp,
    "isclose": _isclose,
    "real": lambda val: xp.real(val),
    "where": lambda condition, *values: xp.where(condition, *values) if values else xp.nonzero(condition),
}
