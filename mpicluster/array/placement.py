"""Where a new array lies, and on which device: what functions that make arrays have in common."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpicluster.array.layout import Layout, Shape, default_layout

if TYPE_CHECKING:
    from mpicluster.array.mesh import Mesh

__all__ = ["as_shape", "place", "refuse_device"]


def as_shape(shape: int | Sequence[int]) -> Shape:
    """A shape as a tuple; a number is that of a vector."""
    result = tuple(map(operator.index, shape)) if isinstance(shape, Sequence | np.ndarray) else (operator.index(shape),)
    if min(result, default=0) < 0:
        raise ValueError("negative dimensions are not allowed")
    return result


def refuse_device(device: Any) -> None:
    """See that no other device than NumPy's is asked for."""
    if device not in (None, "cpu"):
        raise ValueError(f"new arrays are made of NumPy blocks, on the device 'cpu', not {device!r}; use from_local for others")


def place(mesh: Mesh, shape: Shape, layout: Layout | None) -> tuple[Layout, Shape]:
    """The settled layout of a new array, and the shape of this rank's block."""
    settled = (layout if layout is not None else default_layout(shape, mesh.size)).settled(shape, mesh.size)
    return settled, settled.local_shape(shape, mesh.size, mesh.rank)
