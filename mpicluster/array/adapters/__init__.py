"""NumPy's functions by those of the array API standard.

An adapter takes what NumPy's function of its name takes, but for ``out``. What is missing in its signature, it does not take. The cost is
that of the functions it calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from mpicluster.array.adapters import creation, elementwise, linalg, searching, shapes, statistics

__all__ = ["adapters"]


@functools.cache
def adapters() -> dict[Any, Callable[..., Any]]:
    """The adapter of each function of NumPy's, as far as this NumPy has them."""
    found = {}
    for module in (creation, elementwise, linalg, searching, shapes, statistics):
        for name, adapter in module.ADAPTERS.items():
            home, _, last = name.rpartition(".")
            function = getattr(getattr(np, home) if home else np, last, None)
            if function is not None:
                found[function] = adapter
    return found
