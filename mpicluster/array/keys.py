"""Keys of arrays, as in ``x[key]``: what they mean for an array of one shape, or why NumPy refuses them. Sends nothing."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Shape
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist
from mpicluster.array.placement import place

__all__ = ["Indices", "Item", "Key", "Mask", "parse", "width"]


@dataclass(frozen=True, eq=False, slots=True)
class Indices:
    """Integers that choose of one axis."""

    values: DistArray
    #: the axis; None for a new one, of length 1
    axis: int | None
    #: how long it is
    length: int


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """Booleans that choose of as many axes as they have, at least one."""

    values: DistArray
    #: the first of these
    axis: int


#: What is chosen: one index of an axis, a range of them, integers or a mask; or None for a new axis.
Item = int | range | Indices | Mask | None


def width(item: Item) -> int:
    """Of how many axes of the array an item chooses."""
    if isinstance(item, Mask):
        return item.values.ndim
    return 0 if item is None or (isinstance(item, Indices) and item.axis is None) else 1


@dataclass(frozen=True, eq=False, slots=True)
class Key:
    """What a key chooses of all axes of an array."""

    items: tuple[Item, ...]
    #: which axis of the result is the first of those of the arrays of the key: they are in the place of these where these, and integers,
    #: stand together; else in front
    place: int

    @property
    def arrays(self) -> tuple[Indices | Mask, ...]:
        """Those of its items that are arrays."""
        return tuple(item for item in self.items if isinstance(item, Indices | Mask))


_REFUSED = "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays are valid indices"


def parse(key: Any, shape: Shape, mesh: Mesh) -> Key:
    """What a key chooses of an array of ``shape``.

    Raises
    ------
    IndexError
        NumPy refuses it. Whether the integers of an array are within bounds is not looked at.
    """
    parts = [_part(part, mesh) for part in (key if isinstance(key, tuple) else (key,))]
    used = sum(_axes_of(part) for part in parts)
    if used > len(shape):
        raise IndexError(f"too many indices for array: array is {len(shape)}-dimensional, but {used} were indexed")
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    place = _place(parts, len(shape) - used)
    at = ellipses[0] if ellipses else len(parts)
    parts[at : at + 1] = [slice(None)] * (len(shape) - used)
    items, axis = [], 0
    for part in parts:
        items.append(_item(part, axis, shape, mesh))
        axis += _axes_of(part)
    return Key(tuple(items), place)


def _place(parts: Sequence[Any], rest: int) -> int:
    """See `Key.place`. An ellipsis stands for ``rest`` axes, and between two arrays even if that is none."""
    arrays = [i for i, part in enumerate(parts) if isinstance(part, int | DistArray)]
    if not arrays or arrays != list(range(arrays[0], arrays[-1] + 1)):
        return 0
    return sum(rest if part is Ellipsis else 1 for part in parts[: arrays[0]])


def _part(part: Any, mesh: Mesh) -> Any:
    """None, Ellipsis, a slice, an int, or an array that is none of these."""
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    if isinstance(part, bool | np.bool_ | list | np.ndarray | DistArray):
        array = as_dist(np.asarray(part, np.int64) if isinstance(part, list) and not np.size(part) else part, mesh)
        block = blocks.host(array.local)
        if block.dtype.kind not in "iub":
            raise IndexError("arrays used as indices must be of integer (or boolean) type")
        return int(block) if not array.shape and block.dtype.kind != "b" else DistArray(mesh, array.layout, array.shape, block)
    try:
        return operator.index(part)
    except TypeError:
        raise IndexError(_REFUSED) from None


def _is_mask(part: Any) -> bool:
    return isinstance(part, DistArray) and part.dtype == np.bool_


def _axes_of(part: Any) -> int:
    """How many axes a part is for."""
    return part.ndim if _is_mask(part) else 0 if part is None or part is Ellipsis else 1


def _item(part: Any, axis: int, shape: Shape, mesh: Mesh) -> Item:
    if part is None:
        return None
    if isinstance(part, slice):
        try:
            return range(*part.indices(shape[axis]))
        except TypeError:
            raise IndexError("slice indices must be integers or None or have an __index__ method") from None
    if isinstance(part, int):
        n = shape[axis]
        if not -n <= part < n:
            raise IndexError(f"index {part} is out of bounds for axis {axis} with size {n}")
        return part % n
    if not _is_mask(part):
        return Indices(part, axis, shape[axis])
    if not part.shape:  # a new axis, of which all or nothing is chosen
        return Indices(as_dist(np.zeros(int(bool(part)), np.int64), mesh), None, 1)
    chosen = shape[axis : axis + part.ndim]
    for i, m in enumerate(part.shape):
        if m not in (chosen[i], 0):
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + i}; size of axis is {chosen[i]} "
                f"but size of corresponding boolean axis is {m}"
            )
    if part.shape != chosen:  # an axis of length 0 fits all, and chooses nothing
        layout, local = place(mesh, chosen, None)
        part = DistArray(mesh, layout, chosen, np.zeros(local, np.bool_))
    return Mask(part, axis)
