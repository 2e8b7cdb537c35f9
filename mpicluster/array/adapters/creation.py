"""Making, copying and writing arrays, and their types, as NumPy calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mpicluster.array as xp
from mpicluster.array.adapters.shapes import check_order
from mpicluster.array.darray import DistArray
from mpicluster.array.elementwise import assign
from mpicluster.array.operands import as_dist

__all__ = ["ADAPTERS"]


def _like(name: str) -> Callable[..., Any]:
    return lambda a, dtype=None: getattr(xp, name)(a, dtype=dtype)


def _copy(a: Any, order: str = "K") -> Any:
    check_order(order)
    return a.copy()


def _copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    if not isinstance(dst, DistArray):
        np.copyto(dst, np.asarray(src), casting, where=np.asarray(where))
        return
    source = as_dist(src, dst.mesh)
    if not np.can_cast(source.dtype, dst.dtype, casting):
        raise TypeError(f"Cannot cast array data from {source.dtype!r} to {dst.dtype!r} according to the rule {casting!r}")
    values = xp.astype(xp.broadcast_to(source, dst.shape), dst.dtype, copy=False)
    assign(dst, values if where is True else xp.where(where, values, dst))


def _save(file: Any, arr: Any) -> None:
    name = str(file)
    xp.save(name if name.endswith(".npy") else f"{name}.npy", arr)


ADAPTERS: dict[str, Callable[..., Any]] = {
    **{name: _like(name) for name in ("empty_like", "zeros_like", "ones_like")},
    "astype": lambda x, dtype, /, *, copy=True: xp.astype(x, dtype, copy=copy),
    "can_cast": lambda from_, to, casting="safe": np.can_cast(from_.dtype, to, casting),
    "copy": _copy,
    "copyto": _copyto,
    "full_like": lambda a, fill_value, dtype=None: xp.full_like(a, fill_value, dtype=dtype),
    "iscomplexobj": lambda x: x.dtype.kind == "c",
    "isrealobj": lambda x: x.dtype.kind != "c",
    "meshgrid": lambda *xi, indexing="xy": xp.meshgrid(*xi, indexing=indexing),
    "result_type": lambda *arrays_and_dtypes: xp.result_type(*arrays_and_dtypes),
    "save": _save,
    "tril": lambda m, k=0: xp.tril(m, k=k),
    "triu": lambda m, k=0: xp.triu(m, k=k),
}
