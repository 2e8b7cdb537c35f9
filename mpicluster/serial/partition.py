"""How a sequence is divided among engines, and put together again. Pure: no MPI, no sockets.

Two distributions, by their names in IPython Parallel: ``"b"``, contiguous blocks, of which the first ``len % n`` are
one longer; ``"r"``, round robin: part i is ``sequence[i::n]``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mpicluster.serial.payload import encode_inline

__all__ = ["Scattering", "block_sizes", "is_plain_array", "join", "scattering", "split"]

#: Above this total, parts that are not rows of an array are padded to this unit, so that counts and offsets fit an int.
_INT_MAX = 2**31 - 1
_PAD = 1 << 16


def block_sizes(length: int, n: int) -> list[int]:
    """Sizes of ``n`` contiguous parts of ``length`` items."""
    quotient, remainder = divmod(length, n)
    return [quotient + (i < remainder) for i in range(n)]


def _check(dist: str) -> None:
    if dist not in ("b", "r"):
        raise ValueError(f"dist must be 'b' (blocks) or 'r' (round robin), not {dist!r}")


def split(sequence: Any, n: int, dist: str = "b") -> list[Any]:
    """``n`` parts of anything that has a length and slices; anything else that iterates is made a list first."""
    _check(dist)
    if isinstance(sequence, Mapping):
        sequence = list(sequence)  # its keys; some mappings take slices, as keys
    rows = getattr(sequence, "iloc", sequence)  # a pandas object slices rows by position there
    try:
        len(sequence)
        rows[0:0]
    except (TypeError, KeyError):
        sequence = rows = list(sequence)
    if dist == "r":
        return [rows[i::n] for i in range(n)]
    ends = list(itertools.accumulate(block_sizes(len(sequence), n)))
    return [rows[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def join(parts: Sequence[Any], dist: str = "b") -> Any:
    """The inverse of `split`: arrays are concatenated along axis 0, strings and bytes joined, other sequences chained.

    Parts that are not sequences (numbers, say) come back as a list of them.
    """
    _check(dist)
    first = parts[0]
    if all(isinstance(p, np.ndarray) and p.ndim for p in parts):
        whole = _concatenate(parts)
        if dist == "b":
            return whole
        result = np.empty_like(whole)
        start = 0
        for i, part in enumerate(parts):
            result[i :: len(parts)] = whole[start : start + len(part)]
            start += len(part)
        return result
    if not all(isinstance(p, list | tuple | range | str | bytes | bytearray) for p in parts):
        return list(parts)
    if dist == "r":
        chained = [x for row in itertools.zip_longest(*parts, fillvalue=_NOTHING) for x in row if x is not _NOTHING]
    else:
        chained = list(itertools.chain.from_iterable(parts))
    if all(isinstance(p, str) for p in parts):
        return "".join(chained)
    if all(isinstance(p, bytes | bytearray) for p in parts):
        return type(first)(chained)
    return tuple(chained) if all(type(p) is tuple for p in parts) else chained


def _concatenate(parts: Sequence[Any]) -> Any:
    """Along axis 0; a dtype that all parts have is kept, byte order included."""
    if any(isinstance(p, np.ma.MaskedArray) for p in parts):
        masked: Any = np.ma.concatenate
        return masked(parts)
    first = parts[0]
    alike = all(p.dtype == first.dtype and p.shape[1:] == first.shape[1:] and type(p) is type(first) for p in parts)
    if not alike or type(first) not in (np.ndarray, np.recarray):
        return np.concatenate(parts)
    concatenate: Any = np.concatenate
    return concatenate(parts, out=np.empty((sum(map(len, parts)), *first.shape[1:]), first.dtype)).view(type(first))


_NOTHING = object()


class Scattering(NamedTuple):
    """What every engine must know of a scatter: what it gets, and how the bytes are divided."""

    #: name in the engines' namespaces
    key: str
    #: part i is ``counts[i]`` units of ``unit`` bytes
    unit: int
    counts: list[int]
    #: dtype and shape of one row, for an array; else None: each part is a pickle of ``lengths[i]`` bytes
    dtype: Any
    row: tuple[int, ...]
    lengths: list[int]
    flatten: bool


def is_plain_array(value: Any) -> bool:
    """Whether an array is nothing but its dtype, shape and bytes."""
    return type(value) is np.ndarray and value.ndim > 0 and not value.dtype.hasobject and value.dtype.itemsize > 0


def scattering(key: str, sequence: Any, n: int, dist: str, *, flatten: bool) -> tuple[Scattering, np.ndarray[Any, Any]]:
    """A plan to scatter ``sequence`` to ``n`` engines, and all its bytes in the order of the parts.

    An array is not copied when it is contiguous and ``dist`` is ``"b"``.

    Raises
    ------
    TypeError
        it has no length and cannot be iterated, like a number or a 0-d array.
    SerializationError
        an item does not pickle.
    """
    _check(dist)
    if type(sequence) is np.ndarray and sequence.ndim == 0:
        raise TypeError("a 0-d array cannot be scattered: it has no rows; push it")
    if is_plain_array(sequence):
        if dist == "r":
            sizes = [len(range(i, len(sequence), n)) for i in range(n)]
            sequence = _concatenate([sequence[i::n] for i in range(n)])
        else:
            sizes = block_sizes(len(sequence), n)
        raw = np.ascontiguousarray(sequence).reshape(-1).view(np.uint8)
        unit = sequence.dtype.itemsize
        for length in sequence.shape[1:]:
            unit *= length
        counts = sizes if unit else [0] * n
        return Scattering(key, max(1, unit), counts, sequence.dtype, sequence.shape[1:], sizes, flatten), raw
    pickles = [encode_inline(part, f"part {i} of {key!r}") for i, part in enumerate(split(sequence, n, dist))]
    lengths = [len(p) for p in pickles]
    unit = 1 if sum(lengths) <= _INT_MAX else _PAD
    counts = [-(-length // unit) for length in lengths]
    if unit > 1:
        pickles = [p.ljust(c * unit, b"\0") for p, c in zip(pickles, counts, strict=True)]
    return Scattering(key, unit, counts, None, (), lengths, flatten), np.frombuffer(b"".join(pickles), np.uint8)
