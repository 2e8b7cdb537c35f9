"""Reductions: each rank reduces its block, and the ranks fold what they have, to the same bits everywhere.

Where the divided axis is reduced away, the result is replicated (divided, if larger than `limits.REPLICATED_UP_TO`): one
fold of the size of the result (see `Mesh.fold`). Otherwise it is divided as the operand was, without a message.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated, Shape, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist, mesh_of, normal_axes, normal_axis

__all__ = [
    "all",
    "any",
    "count_nonzero",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "folded",
    "max",
    "mean",
    "min",
    "prod",
    "reduced",
    "std",
    "sum",
    "var",
    "with_block_layout",
    "without_axes",
]

Axis = int | Sequence[int] | None


def reduced(
    x: DistArray, axis: Axis, keepdims: bool, reduce: Callable[[Any, tuple[int, ...]], Any], op: Callable[[Any, Any], Any], *, empty: bool
) -> DistArray:
    """``reduce(block, axes)`` of each block, which keeps the dimensions, folded with ``op`` over the divided axis.

    ``empty``: whether a block without elements has a result.
    """
    axes = normal_axes(axis, x.ndim)
    x = with_block_layout(x)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    layout: Layout = x.layout
    if isinstance(layout, Block) and layout.axis in axes:
        parts = layout.parts(x.shape, x.mesh.size)
        present = None if empty else [n > 0 for n in parts]
        there = empty or parts[x.mesh.rank] > 0 or not builtins.any(parts)
        part = blocks.host(reduce(x.local, axes)) if there else None
        part = _placeholder(x, shape, part, reduce, axes)
        block, layout = folded(x.mesh, part, op, present if present is not None and builtins.any(present) else None)
        result = DistArray(x.mesh, layout, shape, blocks.like(x.local, block))
    else:
        result = DistArray(x.mesh, layout, shape, reduce(x.local, axes))
    return result if keepdims else without_axes(result, axes)


def _placeholder(x: DistArray, shape: Shape, part: Any, reduce: Any, axes: tuple[int, ...]) -> Any:
    """What a rank gives that has nothing to say: of the type that the others give."""
    if part is not None:
        return part
    kind = blocks.host(reduce(np.zeros((1,) * x.ndim, x.dtype), axes)).dtype
    return np.zeros(shape, kind)


def folded(mesh: Mesh, part: np.ndarray[Any, Any], op: Any, present: Any = None) -> tuple[np.ndarray[Any, Any], Layout]:
    """What the ranks have, folded: replicated, or divided if it is large."""
    if part.nbytes <= REPLICATED_UP_TO or present is not None or mesh.size == 1:
        return mesh.fold(part, op, present), Replicated()
    layout = default_layout(part.shape, mesh.size)
    assert isinstance(layout, Block)
    rows = np.ascontiguousarray(np.moveaxis(part, layout.axis, 0))
    block = mesh.fold_scatter(rows, op, layout.parts(part.shape, mesh.size))
    return np.moveaxis(block, 0, layout.axis), layout


def with_block_layout(x: DistArray) -> DistArray:
    """The array in blocks of one axis, or replicated."""
    return x if isinstance(x.layout, Block | Replicated) else x.redistribute(default_layout(x.shape, x.mesh.size))


def without_axes(x: DistArray, axes: tuple[int, ...]) -> DistArray:
    """The array without axes of length 1. No message, unless the divided axis is one of them."""
    if isinstance(x.layout, Block) and x.layout.axis in axes:
        x = x.replicate()
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    layout = x.layout
    if isinstance(layout, Block):
        layout = Block(layout.axis - len([a for a in axes if a < layout.axis]), layout.sizes)
    block = blocks.namespace(x.local).squeeze(x.local, axis=axes) if axes else x.local
    return DistArray(x.mesh, layout, shape, block)


# -- reductions ------------------------------------------------------------------------------------------------------------------------


def _summing(x: DistArray, dtype: Any) -> Any:
    """The type in which elements are summed: what is given, or the widest of the kind for integers, else their own."""
    if dtype is not None:
        return dtype
    kind = np.dtype(x.dtype).kind
    return np.uint64 if kind == "u" else np.int64 if kind in "ib" else x.dtype


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """The sum over axes, all by default; integers are summed as int64 or uint64. 0 for no elements. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))
    namespace, kind = blocks.namespace(x.local), _summing(x, dtype)
    return reduced(x, axis, keepdims, lambda b, axes: namespace.sum(b, axis=axes, dtype=kind, keepdims=True), np.add, empty=True)


def prod(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> DistArray:
    """The product over axes, all by default; of integers as int64 or uint64. 1 for no elements. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))
    namespace, kind = blocks.namespace(x.local), _summing(x, dtype)
    return reduced(x, axis, keepdims, lambda b, axes: namespace.prod(b, axis=axes, dtype=kind, keepdims=True), np.multiply, empty=True)


def _check_not_empty(x: DistArray, axis: Axis, name: str) -> None:
    if builtins.any(x.shape[a] == 0 for a in normal_axes(axis, x.ndim)) and x.size == 0:
        raise ValueError(f"zero-size array to reduction operation {name} which has no identity")


def max(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """The largest element over axes, all by default; NaN if there is one. One fold of the size of the result.

    Raises
    ------
    ValueError
        there are no elements.
    """
    x = as_dist(x, mesh_of(x))
    _check_not_empty(x, axis, "maximum")
    namespace = blocks.namespace(x.local)
    return reduced(x, axis, keepdims, lambda b, axes: namespace.max(b, axis=axes, keepdims=True), np.maximum, empty=False)


def min(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """The smallest element over axes, all by default; NaN if there is one. One fold of the size of the result.

    Raises
    ------
    ValueError
        there are no elements.
    """
    x = as_dist(x, mesh_of(x))
    _check_not_empty(x, axis, "minimum")
    namespace = blocks.namespace(x.local)
    return reduced(x, axis, keepdims, lambda b, axes: namespace.min(b, axis=axes, keepdims=True), np.minimum, empty=False)


def all(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """Whether all elements over axes are true; true for none. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))
    namespace = blocks.namespace(x.local)
    return reduced(x, axis, keepdims, lambda b, axes: namespace.all(b, axis=axes, keepdims=True), np.logical_and, empty=True)


def any(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """Whether one of the elements over axes is true; false for none. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))
    namespace = blocks.namespace(x.local)
    return reduced(x, axis, keepdims, lambda b, axes: namespace.any(b, axis=axes, keepdims=True), np.logical_or, empty=True)


def count_nonzero(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:
    """How many elements over axes are not zero. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))

    def count(block: Any, axes: tuple[int, ...]) -> Any:
        return blocks.like(block, np.asarray(np.count_nonzero(blocks.host(block), axis=axes, keepdims=True), np.int64))

    return reduced(x, axis, keepdims, count, np.add, empty=True)


def _elements(x: DistArray, axis: Axis) -> int:
    """How many elements each element of a reduction is made of."""
    return math.prod(x.shape[a] for a in normal_axes(axis, x.ndim))


def mean(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:
    """The mean over axes, all by default; NaN for no elements. Of integers as float64. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))
    if np.dtype(x.dtype).kind not in "fc":
        x = _as_float(x)
    total, n = sum(x, axis=axis, keepdims=keepdims), _elements(x, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        block = total.local / np.asarray(n, np.dtype(x.dtype).type(0).real.dtype) if type(total.local) is np.ndarray else total.local / n
    return DistArray(total.mesh, total.layout, total.shape, block)


def _as_float(x: DistArray) -> DistArray:
    return DistArray(x.mesh, x.layout, x.shape, blocks.namespace(x.local).astype(x.local, np.float64))


def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> DistArray:
    """The variance over axes, all by default: the sum of squared distances from the mean, divided by the number less ``correction``.

    Each rank takes the mean and the sum of squares about it of its own, and these are combined (Chan, Golub, LeVeque, "Algorithms for
    computing the sample variance", The American Statistician 37(3), 1983, eq. 2.1): one fold of three times the size of the result.
    """
    x = as_dist(x, mesh_of(x))
    if np.dtype(x.dtype).kind not in "fc":
        x = _as_float(x)
    kind = np.dtype(x.dtype)
    real = kind.type(0).real.dtype
    axes = normal_axes(axis, x.ndim)

    def moments(block: Any, axes: tuple[int, ...]) -> Any:
        """Number, mean and sum of squares, along a new first axis."""
        data = blocks.host(block)
        n = math.prod(data.shape[a] for a in axes)
        centre = np.sum(data, axis=axes, keepdims=True, dtype=kind) / real.type(builtins.max(n, 1))
        away = data - centre
        squares = np.sum((away * away.conj()).real if kind.kind == "c" else away * away, axis=axes, keepdims=True, dtype=real)
        return np.stack([np.full(squares.shape, n, kind), centre, squares.astype(kind, copy=False)])

    triple = _folded_moments(with_block_layout(x), axes, moments)
    n = _elements(x, axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = blocks.host(triple.local)[2].real / real.type(builtins.max(n - correction, 0) if n else 0)
    shape = triple.shape[1:]
    layout = Block(triple.layout.axis - 1, triple.layout.sizes) if isinstance(triple.layout, Block) else triple.layout
    result = DistArray(x.mesh, layout, shape, np.asarray(spread, real))
    return result if keepdims else without_axes(result, axes)


def _combined(a: Any, b: Any) -> Any:
    """Number, mean and sum of squares of two sets together."""
    n = a[0] + b[0]
    share = np.divide(b[0], n, out=np.zeros_like(n), where=n != 0)
    away = b[1] - a[1]
    mean_ = a[1] + away * share
    squares = a[2] + b[2] + (away * away.conj()) * a[0] * share
    # where one of the two has no element, the other's are exactly kept
    return np.stack(
        [n, np.where(a[0] == 0, b[1], np.where(b[0] == 0, a[1], mean_)), np.where(a[0] == 0, b[2], np.where(b[0] == 0, a[2], squares))]
    )


def _folded_moments(x: DistArray, axes: tuple[int, ...], moments: Callable[[Any, tuple[int, ...]], Any]) -> DistArray:
    """The moments over axes, with a first axis more than x has."""
    part = moments(x.local, axes)
    shape = (3, *(1 if i in axes else n for i, n in enumerate(x.shape)))
    if isinstance(x.layout, Block) and x.layout.axis in axes:
        return DistArray(x.mesh, Replicated(), shape, x.mesh.fold(part, _combined, whole=True))
    layout = Block(x.layout.axis + 1, x.layout.sizes) if isinstance(x.layout, Block) else x.layout
    return DistArray(x.mesh, layout, shape, part)


def std(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> DistArray:
    """The square root of `var`."""
    result = var(x, axis=axis, correction=correction, keepdims=keepdims)
    return DistArray(result.mesh, result.layout, result.shape, np.sqrt(result.local))


# -- along an axis ---------------------------------------------------------------------------------------------------------------------


def _cumulative(x: Any, axis: int | None, dtype: Any, include_initial: bool, name: str, op: Any, start: int) -> DistArray:
    x = with_block_layout(as_dist(x, mesh_of(x)))
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"For arrays which have more than one dimension ``axis`` argument is required: {name} of shape {x.shape}")
        axis = 0
    along = normal_axis(axis, x.ndim)
    kind = np.dtype(_summing(x, dtype))
    accumulate = getattr(np, name)
    block = accumulate(blocks.host(x.local), axis=along, dtype=kind)
    if isinstance(x.layout, Block) and x.layout.axis == along:
        parts = x.layout.parts(x.shape, x.mesh.size)
        last = np.take(block, [-1], axis=along) if block.shape[along] else np.full(_one_at(block.shape, along), start, kind)
        before = x.mesh.before(last, op, [n > 0 for n in parts])
        if before is not None:
            op(block, before, out=block)
    result = DistArray(x.mesh, x.layout, x.shape, blocks.like(x.local, block))
    if isinstance(result.layout, Block) and result.layout.axis == along:
        result = result.redistribute(Block(along))
    if not include_initial:
        return result
    from mpicluster.array.manipulation import concat

    first = DistArray(x.mesh, Replicated(), _one_at(x.shape, along), np.full(_one_at(x.shape, along), start, kind))
    return concat([first, result], axis=along)


def _one_at(shape: Shape, axis: int) -> Shape:
    return tuple(1 if i == axis else n for i, n in enumerate(shape))


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> DistArray:
    """The sums of all elements up to each, along an axis; with ``include_initial``, 0 before them.

    Along the divided axis: one Allgather of the sums of the blocks. Types as in `sum`.
    """
    return _cumulative(x, axis, dtype, include_initial, "cumulative_sum", np.add, 0)


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> DistArray:
    """The products of all elements up to each, along an axis; with ``include_initial``, 1 before them.

    Along the divided axis: one Allgather of the products of the blocks. Types as in `prod`.
    """
    return _cumulative(x, axis, dtype, include_initial, "cumulative_prod", np.multiply, 1)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> DistArray:
    """The differences of neighbours along an axis, ``n`` times over. Along the divided axis, neighbours exchange a slice each time."""
    from mpicluster.array import elementwise
    from mpicluster.array.manipulation import concat

    x = as_dist(x, mesh_of(x, prepend, append))
    if not x.ndim:
        raise ValueError("diff requires input that is at least one dimensional")
    along = normal_axis(axis, x.ndim)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if n == 0:
        return x
    parts = [p for p in (prepend, x, append) if p is not None]
    x = concat(parts, axis=along) if len(parts) > 1 else x
    minus: Any = getattr(elementwise, "not_equal" if np.dtype(x.dtype).kind == "b" else "subtract")
    for _ in range(n):
        length = x.shape[along]
        later, earlier = (slice(None),) * along + (slice(1, None),), (slice(None),) * along + (slice(0, builtins.max(length - 1, 0)),)
        x = minus(x[later], x[earlier])
    return x
