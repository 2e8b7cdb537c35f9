"""The array whose blocks lie on the ranks of a mesh. What can be done with it is in the modules of functions beside this one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.layout import Block, Layout, Replicated, Shape
from mpicluster.array.mesh import MPI, Mesh
from mpicluster.array.operators import Operators
from mpicluster.array.part import Part, bind
from mpicluster.array.redistribute import redistribute

__all__ = ["DistArray", "wrap"]

#: How many rows and columns of a block are shown.
_EDGE = 3
#: Longer blocks are shortened to that.
_SHOWN = 64


class DistArray(Operators):
    """An array divided over the ranks of a communicator.

    Made by the functions of `mpicluster.array` (``zeros``, ``asarray``, ``from_local`` ...), not by calling the class. Every function of
    arrays is collective: all ranks of the communicator call it, in the same order, with the same arguments but for the blocks.
    """

    __slots__ = ("__weakref__", "_block", "_layout", "_mesh", "_shape")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, mesh: Mesh, layout: Layout, shape: Shape, block: Any) -> None:
        """``block``: this rank's block; ``layout`` is settled for ``shape``."""
        self._mesh = mesh
        self._layout = layout
        self._shape = shape
        self._block: Any = np.asarray(block) if isinstance(block, np.generic) else block

    # -- what it is ----------------------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Shape of the whole array."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """Data type of the elements."""
        return self._block.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements of the whole array."""
        return math.prod(self._shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return int(blocks.host(self._block).dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array; a replicated array has so many on every rank."""
        return self.size * self.itemsize

    @property
    def device(self) -> Any:
        """Where blocks lie: a device of the library that they are of."""
        return getattr(self._block, "device", "cpu")

    @property
    def layout(self) -> Layout:
        """How it is divided."""
        return self._layout

    @property
    def local(self) -> Any:
        """This rank's block. What is written to it is written to the array."""
        return self._block

    @property
    def comm(self) -> MPI.Intracomm:
        """A communicator of the ranks that hold it."""
        return self._mesh.comm

    @property
    def mesh(self) -> Mesh:
        """The ranks that hold it."""
        return self._mesh

    def to_device(self, device: Any, /, *, stream: Any = None) -> DistArray:
        """The same on another device of the blocks' library."""
        if device == self.device:
            return self
        move = getattr(self._block, "to_device", None)
        if move is None:
            raise ValueError(f"blocks are on {self.device!r}, and their library knows no device {device!r}")
        return DistArray(self._mesh, self._layout, self._shape, move(device, stream=stream))

    # -- as other things -----------------------------------------------------------------------------------------------------------

    def redistribute(self, layout: Layout) -> DistArray:
        """The same values in another layout; this array itself if it has that layout.

        Each element travels at most once. Memory: the new blocks, and the messages that do not lie in one piece.

        Raises
        ------
        ValueError
            an array of this shape cannot be divided so.
        """
        target = layout.settled(self._shape, self._mesh.size)
        if target == self._layout:
            return self
        block = redistribute(self._mesh, self._block, self._shape, self._layout, target)
        return DistArray(self._mesh, target, self._shape, block)

    def replicate(self) -> DistArray:
        """The same values, all on every rank. One Allgatherv from blocks."""
        return self.redistribute(Replicated())

    def gather(self, root: int = 0) -> np.ndarray[Any, Any] | None:
        """All values at one rank, as an array of its own; None elsewhere. size - 1 messages from blocks; memory: one copy there."""
        if isinstance(self._layout, Replicated):
            return np.array(blocks.host(self._block), order="C") if self._mesh.rank == root else None
        x = self if isinstance(self._layout, Block) else self.redistribute(Block(0))
        self._mesh.check()
        assert isinstance(x._layout, Block)
        parts = x._layout.parts(self._shape, self._mesh.size)
        whole = self._mesh.gather(np.moveaxis(blocks.host(x._block), x._layout.axis, 0), parts, root)
        return None if whole is None else np.moveaxis(whole, 0, x._layout.axis)

    def copy(self) -> DistArray:
        """A copy, in the same layout."""
        return DistArray(self._mesh, self._layout, self._shape, blocks.namespace(self._block).asarray(self._block, copy=True))

    def __copy__(self) -> DistArray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> DistArray:
        return self.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """All values on every rank. One Allgatherv from blocks. A copy, unless the array is replicated. Memory: the values, once."""
        if copy is False and not isinstance(self._layout, Replicated):
            raise ValueError("an array that lies on several ranks cannot be had without a copy")
        whole = blocks.host(self.replicate()._block)
        return np.array(whole, dtype, copy=copy if np.may_share_memory(whole, blocks.host(self._block)) else None)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The namespace of functions for this array: `mpicluster.array`."""
        import mpicluster.array as namespace

        versions = namespace.VERSIONS
        if api_version is not None and api_version not in versions:
            raise ValueError(f"this is version {versions[-1]} of the array API; {api_version!r} is not among {', '.join(versions)}")
        return namespace

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None) -> Any:
        """Of this rank's block alone: ``torch.from_dlpack(x)`` shares its memory. `from_local` makes an array of such blocks."""
        return self._block.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> Any:
        """Of this rank's block."""
        return self._block.__dlpack_device__()

    def __reduce__(self) -> Any:
        """As this rank's part; the ranks of an equal mesh get the array back, and anybody else the part."""
        part = Part(self._mesh.members, self._mesh.rank, self._layout, self._shape, blocks.host(self._block))
        return part.restored, ()

    def _scalar(self) -> Any:
        if self._shape:
            raise TypeError("only 0-dimensional arrays can be converted to Python scalars")
        return blocks.host(self._block)

    def __bool__(self) -> bool:
        if self.size != 1:
            number = "more than one" if self.size else "no"
            raise ValueError(f"The truth value of an array with {number} element is ambiguous. Use any() or all() of mpicluster.array")
        return bool(self.item())

    def __int__(self) -> int:
        return int(self._scalar())

    def __float__(self) -> float:
        return float(self._scalar())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __index__(self) -> int:
        value = self._scalar()
        if value.dtype.kind not in "iu":
            raise TypeError("only integer 0-dimensional arrays can be converted to an index")
        return int(value)

    def item(self) -> Any:
        """The only element, as a Python scalar; of a 0-dimensional array without a message, else one Allgatherv."""
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return blocks.host(self.replicate()._block).item()

    def tolist(self) -> Any:
        """All values as nested lists. One Allgatherv from blocks."""
        return blocks.host(self.replicate()._block).tolist()

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of unsized object")
        return self._shape[0]

    def __iter__(self) -> Iterator[DistArray]:
        if not self._shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self._shape[0]))

    def __contains__(self, value: Any) -> bool:
        """Whether an element equals a value."""
        return bool(self._functions.any(self == value))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"an array has no attribute {name!r}; functions of arrays are in its namespace: mpicluster.array")

    def __repr__(self) -> str:
        """What it is, and a corner of this rank's block. No message is sent, so any rank may print it."""
        head = f"DistArray(shape={self._shape}, dtype={self.dtype}, {describe(self._layout)}"
        if isinstance(self._layout, Replicated) or self._mesh.size == 1:
            held = ""
        elif isinstance(self._layout, Block):
            bounds, axis = self._layout.bounds(self._shape, self._mesh.size), self._layout.axis
            where = ":, " * axis + f"{bounds[self._mesh.rank]}:{bounds[self._mesh.rank + 1]}"
            held = f"; rank {self._mesh.rank} of {self._mesh.size} has [{where}]"
        else:
            held = f"; rank {self._mesh.rank} of {self._mesh.size} has {' x '.join(map(str, self._block.shape))}"
        with np.printoptions(threshold=_SHOWN, edgeitems=_EDGE, linewidth=110):
            values = np.array2string(blocks.host(self._block), separator=", ")
        return f"{head}{held})\n{values}"

    def __str__(self) -> str:
        """The values alone, as NumPy shows them, where this rank has all of them; else as `repr`. No message is sent."""
        return str(blocks.host(self._block)) if tuple(self._block.shape) == self._shape else repr(self)

    def _become(self, other: DistArray) -> DistArray:
        """Take the place of another array, of equal shape: how operations in place end."""
        self._layout, self._block = other._layout, other._block
        return self


def describe(layout: Layout) -> str:
    """A layout in a few words."""
    if isinstance(layout, Block):
        return f"Block({layout.axis})" if layout.sizes is None else f"Block({layout.axis}, sizes={layout.sizes})"
    return repr(layout)


def wrap(mesh: Mesh, layout: Layout, shape: Shape, block: Any) -> DistArray:
    """An array of a block in a layout that need not be settled."""
    return DistArray(mesh, layout.settled(shape, mesh.size), shape, block)


def _restore(part: Part) -> Any:
    mesh = Mesh.find(part.members)
    if mesh is None or (mesh.rank != part.rank and not isinstance(part.layout, Replicated)):
        return part
    return DistArray(mesh, part.layout, part.shape, part.values)


bind(_restore)
