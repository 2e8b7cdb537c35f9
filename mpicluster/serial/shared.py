"""Calls that bring all they need, and large arrays that many of them refer to, which engines keep meanwhile.

Elsewhere a function of a session finds its globals on the engine (`serial.functions`). Here it takes its own along, as joblib's users
expect.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import numpy as np
import threadpoolctl

__all__ = ["call", "drop", "keep", "pack"]

#: On an engine: the arrays that calls under way refer to.
_kept: dict[str, np.ndarray[Any, Any]] = {}


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, which asks of each plain array by what name the engines know it."""

    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer], name_of: Callable[[Any], str | None]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._name_of = name_of

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray or type(obj) is np.memmap:
            name = None if obj.dtype.hasobject else self._name_of(obj)
            if name is not None:
                return _find, (name,)
            if type(obj) is np.memmap:  # the file may not be there on the engine
                return np.asarray(obj).__reduce_ex__(5)
        return super().reducer_override(obj)


def pack(function: Callable[[], Any], name_of: Callable[[Any], str | None]) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A call with all that it refers to: the arguments of `call`. ``name_of(array)`` is the name under which engines keep it, or None."""
    buffers: list[pickle.PickleBuffer] = []
    with io.BytesIO() as f:
        _Pickler(f, buffers, name_of).dump(function)
        return f.getvalue(), buffers


# -- on an engine --------------------------------------------------------------------------------------------------------


def call(stream: bytes, buffers: Sequence[Any], threads: int | None) -> Any:
    """Do what was packed, with so many threads for BLAS and OpenMP; None leaves them as they are."""
    function = pickle.loads(stream, buffers=buffers)
    if threads is None:
        return function()
    with threadpoolctl.threadpool_limits(threads):
        return function()


def keep(name: str, array: np.ndarray[Any, Any]) -> None:
    """Have an array for calls to come. It is read-only, since they share it."""
    array.flags.writeable = False
    _kept[name] = array


def drop(names: Sequence[str]) -> None:
    """These arrays are not needed any more."""
    for name in names:
        _kept.pop(name, None)


def _find(name: str) -> np.ndarray[Any, Any]:
    try:
        return _kept[name]
    except KeyError:
        raise LookupError("an array that calls share did not reach this engine, because another died or there was no memory") from None
