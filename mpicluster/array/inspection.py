"""What this namespace says of itself, as the standard asks."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array import datatypes

__all__ = ["__array_namespace_info__"]


class Info:
    """What ``xp.__array_namespace_info__()`` gives."""

    def capabilities(self) -> dict[str, Any]:
        """Which optional features there are."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where new blocks lie."""
        return "cpu"

    def devices(self) -> list[str]:
        """Where new blocks can lie."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """Types that are used where none is given."""
        return {
            "real floating": datatypes.float64,
            "complex floating": datatypes.complex128,
            "integral": datatypes.int64,
            "indexing": datatypes.int64,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """Types by their name, of a kind or a tuple of kinds if one is given."""
        names = [n for n in datatypes.__all__ if isinstance(getattr(datatypes, n), np.dtype)]
        return {n: t for n in names if kind is None or datatypes.isdtype(t := getattr(datatypes, n), kind)} if kind else {
            n: getattr(datatypes, n) for n in names
        }  # fmt: skip


def __array_namespace_info__() -> Info:  # noqa: N807 - its name in the standard
    """Capabilities, devices and types of this namespace."""
    return Info()
