"""What this namespace says of itself, as the standard asks; a client's says the same. Knows no MPI."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array.placement import refuse_device

__all__ = ["__array_namespace_info__"]

_KINDS = {
    "bool": "bool",
    "signed integer": "int8 int16 int32 int64",
    "unsigned integer": "uint8 uint16 uint32 uint64",
    "integral": "int8 int16 int32 int64 uint8 uint16 uint32 uint64",
    "real floating": "float32 float64",
    "complex floating": "complex64 complex128",
    "numeric": "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128",
}


class Info:
    """What ``xp.__array_namespace_info__()`` gives: of arrays that are made here, whose blocks are NumPy's."""

    def capabilities(self) -> dict[str, Any]:
        """Which optional features there are."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where new blocks lie."""
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        """Where new blocks can lie."""
        return ("cpu",)

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """Types that are used where none is given."""
        refuse_device(device)
        return {
            "real floating": np.dtype("float64"),
            "complex floating": np.dtype("complex128"),
            "integral": np.dtype("int64"),
            "indexing": np.dtype("int64"),
        }

    def dtypes(self, *, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, Any]:
        """Types by their name; only those of a kind, or of several, if one is given.

        Raises
        ------
        ValueError
            there is no such kind.
        """
        refuse_device(device)
        kinds = ("bool", "numeric") if kind is None else kind if isinstance(kind, tuple) else (kind,)
        for name in kinds:
            if name not in _KINDS:
                raise ValueError(f"{name!r} is no kind of types; there are {', '.join(_KINDS)}")
        return {name: np.dtype(name) for kind in kinds for name in _KINDS[kind].split()}


def __array_namespace_info__() -> Info:  # noqa: N807 - its name in the standard
    """Capabilities, devices and types of this namespace."""
    return Info()
