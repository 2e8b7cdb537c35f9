"""Memory for large payloads, and for what arrays need for a while, used again while it is warm.

The first touch of fresh memory can cost ten times what the copy into it does (measured on a virtual machine: 80 MB in 100 ms
against 10 ms), and the system's allocator gives blocks above 32 MiB back at once. So some are kept here: a block is free again
when nothing refers to it any more, be it an array of the user's or a message that is being sent.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["allocate", "array", "copy"]

#: Smaller blocks are left to the system's allocator, which keeps those itself.
_KEPT_FROM = 4 * 1024 * 1024
#: Bytes kept, in use or not, at most.
_KEPT = 256 * 1024 * 1024
#: A block is used for what fills at least this part of it.
_FILLED = 0.75

_lock = threading.Lock()
#: the oldest first
_blocks: list[NDArray[np.uint8]] = []


def _references(blocks: list[Any]) -> int:
    return sys.getrefcount(blocks[0])


#: How many references there are, as Python counts them, to what is only in the list.
_FREE = _references([object()])


def allocate(nbytes: int) -> NDArray[np.uint8]:
    """So many bytes, with anything in them. Thread-safe.

    Raises
    ------
    MemoryError
        there are not so many.
    """
    if not _KEPT_FROM <= nbytes <= _KEPT:
        return np.empty(nbytes, np.uint8)
    with _lock:
        for i in range(len(_blocks)):
            if nbytes <= _blocks[i].size <= nbytes / _FILLED and sys.getrefcount(_blocks[i]) == _FREE:
                _blocks.append(_blocks.pop(i))
                return _blocks[-1][:nbytes]
        fresh = np.empty(nbytes, np.uint8)
        _blocks.append(fresh)
        while sum(b.size for b in _blocks) > _KEPT:
            del _blocks[0]
        return fresh[:]


def array(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array in C order with anything in it, for a short time: its memory stays here when it is gone.

    Raises
    ------
    MemoryError
        there is too little.
    """
    kind = np.dtype(dtype)
    values: NDArray[Any] = allocate(math.prod(shape) * kind.itemsize).view(kind)
    return values.reshape(shape)


def copy(data: bytes | bytearray | memoryview) -> bytes | memoryview:
    """The same bytes, apart from those given."""
    nbytes = memoryview(data).nbytes
    if nbytes < _KEPT_FROM:
        return bytes(data)
    block = allocate(nbytes)
    block[:] = np.frombuffer(data, np.uint8)
    return block.data
