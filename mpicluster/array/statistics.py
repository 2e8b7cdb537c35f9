"""Reductions, and what goes along an axis: sums of all elements before, differences of neighbours.

In a reduction each rank reduces its block, and the ranks fold what they have, to the same bits everywhere. Where the divided axis is
reduced away, the result is replicated (divided, if larger than `limits.REPLICATED_UP_TO`): one fold of the size of the result (see
`Mesh.fold`). Otherwise it is divided as the operand was, without a message. Blocks are read as they lie, whatever their order in memory.
"""

from __future__ import annotations

import builtins
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.agreement import Failure
from mpicluster.array.darray import DistArray, wrap
from mpicluster.array.layout import Block, BlockCyclic, Layout, Replicated, Shape, block_sizes, default_layout, starts
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.mesh import Mesh
from mpicluster.array.moments import combined, moments
from mpicluster.array.operands import as_dist, mesh_of, normal_axes, normal_axis
from mpicluster.array.redistribute import redistribute
from mpicluster.array.regions import Listed

__all__ = [
    "all",
    "along_whole_lines",
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
Host = np.ndarray[Any, Any]
#: All elements of a block are summed as rows of so many, by BLAS, if there are so many rows.
_ROW, _ROWS = 2048, 32


def reduced(
    x: DistArray, axis: Axis, keepdims: bool, reduce: Callable[[Any, tuple[int, ...]], Any], op: Callable[[Any, Any], Any], *, empty: bool
) -> DistArray:
    """``reduce(block, axes)`` of each block, which keeps the dimensions, folded with ``op`` over the divided axis.

    ``empty``
        whether a block without elements has a result; if not, there must be elements.
    """
    axes = normal_axes(axis, x.ndim)
    divided = _divided(x.layout)
    if 0 < len(divided.intersection(axes)) < len(divided):
        x = with_block_layout(x)
        divided = _divided(x.layout)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    mesh, layout = x.mesh, x.layout
    if not divided.intersection(axes):
        result = with_block_layout(DistArray(mesh, layout, shape, reduce(x.local, axes)))
        return result if keepdims else without_axes(result, axes)
    present = None
    if not empty:
        held = [layout.local_shape(x.shape, mesh.size, r) for r in range(mesh.size)]
        present = [builtins.all(local[a] for a in divided) for local in held]
    part: Host | None = None
    failure = Failure()
    if present is None or present[mesh.rank]:
        with failure:
            part = np.asarray(blocks.host(reduce(x.local, axes)))
    if part is None:
        one = blocks.like(x.local, np.ones((1,) * x.ndim, blocks.host(x.local).dtype))
        part = np.empty(shape, blocks.host(reduce(one, axes)).dtype)
    block, layout = folded(mesh, part, op, present, failure.error)
    result = DistArray(mesh, layout, shape, blocks.like(x.local, block))
    return result if keepdims else without_axes(result, axes)


def _divided(layout: Layout) -> set[int]:
    """The axes that are divided."""
    return set() if isinstance(layout, Replicated) else {layout.axis} if isinstance(layout, Block | BlockCyclic) else {0, 1}


def folded(
    mesh: Mesh, part: Host, op: Callable[[Any, Any], Any], present: Sequence[bool] | None = None, error: Exception | None = None
) -> tuple[Host, Layout]:
    """What the ranks have, folded: replicated, or divided if it is large. ``present`` and ``error``: see `Mesh.fold`."""
    if part.nbytes <= REPLICATED_UP_TO or mesh.size == 1:
        return mesh.fold(part, op, present, error), Replicated()
    layout = default_layout(part.shape, mesh.size)
    assert isinstance(layout, Block)
    rows = np.moveaxis(part, layout.axis, 0)
    block = mesh.fold_scatter(rows, op, layout.parts(part.shape, mesh.size), present, error)
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


def _plain(
    x: Any, axis: Axis, keepdims: bool, name: str, op: Callable[[Any, Any], Any], *, empty: bool = True, **options: Any
) -> DistArray:
    """By the function of this name of the blocks' namespace."""
    x = as_dist(x, mesh_of(x))
    function = getattr(blocks.namespace(x.local), name)
    return reduced(x, axis, keepdims, lambda block, axes: function(block, axis=axes, keepdims=True, **options), op, empty=empty)


def _summed(x: Any, axis: Axis, keepdims: bool, dtype: Any) -> DistArray:
    """By BLAS where it can, else by the blocks' namespace."""
    x = as_dist(x, mesh_of(x))
    function = blocks.namespace(x.local).sum

    def reduce(block: Any, axes: tuple[int, ...]) -> Any:
        total = _total(block) if len(axes) == block.ndim and dtype in (None, block.dtype) else None
        return function(block, axis=axes, keepdims=True, dtype=dtype) if total is None else total

    return reduced(x, axis, keepdims, reduce, np.add, empty=True)


def _total(block: Any) -> Host | None:
    """The sum of all elements by a matrix-vector product, which reads memory as fast as it can be read, while NumPy's sum must compute.

    None where that is not to be had, and where the sum is not finite: NumPy knows of what to warn.
    """
    contiguous = type(block) is np.ndarray and block.dtype == np.float64 and (block.flags.c_contiguous or block.flags.f_contiguous)
    if not contiguous or block.size < _ROW * _ROWS:
        return None
    flat, whole = block.ravel(order="K"), block.size // _ROW * _ROW
    with np.errstate(all="ignore"):
        total = np.add.reduce(flat[:whole].reshape(-1, _ROW) @ np.ones(_ROW)) + np.add.reduce(flat[whole:])
    return np.full((1,) * block.ndim, total) if math.isfinite(total) else None


def sum(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """The sum over axes, all by default; integers are summed as int64 or uint64. 0 for no elements. One fold of the size of the result.

    Error, relative to the sum of ``|x|``: at most about ``(2048 + log2(n)) eps`` for n elements of type float64 that are all summed, and by
    far less as a rule: partial sums are of a row of 2048; for others that of NumPy's pairwise sums (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd edition, section 4.2).
    """
    return _summed(x, axis, keepdims, dtype)


def prod(x: Any, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> DistArray:
    """The product over axes, all by default; of integers as int64 or uint64. 1 for no elements. One fold of the size of the result."""
    return _plain(x, axis, keepdims, "prod", np.multiply, dtype=dtype)


def _check_not_empty(x: Any, axis: Axis, name: str) -> DistArray:
    x = as_dist(x, mesh_of(x))
    if 0 in (x.shape[a] for a in normal_axes(axis, x.ndim)):
        raise ValueError(f"zero-size array to reduction operation {name} which has no identity")
    return x


def max(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """The largest element over axes, all by default; NaN if there is one. One fold of the size of the result.

    Raises
    ------
    ValueError
        there are no elements.
    """
    return _plain(_check_not_empty(x, axis, "maximum"), axis, keepdims, "max", np.maximum, empty=False)


def min(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """The smallest element over axes, all by default; NaN if there is one. One fold of the size of the result.

    Raises
    ------
    ValueError
        there are no elements.
    """
    return _plain(_check_not_empty(x, axis, "minimum"), axis, keepdims, "min", np.minimum, empty=False)


def all(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """Whether all elements over axes are true; true for none. One fold of the size of the result."""
    return _plain(x, axis, keepdims, "all", np.logical_and)


def any(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A001 - its name in the standard
    """Whether one of the elements over axes is true; false for none. One fold of the size of the result."""
    return _plain(x, axis, keepdims, "any", np.logical_or)


def count_nonzero(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:
    """How many elements over axes are not zero; int64. One fold of the size of the result."""
    x = as_dist(x, mesh_of(x))

    def count(block: Any, axes: tuple[int, ...]) -> Any:
        data = blocks.host(block)
        number = np.count_nonzero(data, axis=axes, keepdims=True) if axes else data != 0
        return blocks.like(block, np.asarray(number, np.int64))

    return reduced(x, axis, keepdims, count, np.add, empty=True)


def _elements(x: DistArray, axis: Axis) -> int:
    """How many elements each element of a reduction is made of."""
    return math.prod(x.shape[a] for a in normal_axes(axis, x.ndim))


def mean(x: Any, /, *, axis: Axis = None, keepdims: bool = False) -> DistArray:
    """The mean over axes, all by default; NaN for no elements. Of integers as float64. One fold of the size of the result.

    One pass: elements are summed, integers as float64, and the sum divided by their number.
    """
    x = as_dist(x, mesh_of(x))
    namespace, n = blocks.namespace(x.local), _elements(x, axis)
    exact = not namespace.isdtype(x.dtype, ("real floating", "complex floating"))
    total = _summed(x, axis, keepdims, namespace.float64 if exact else None)
    with np.errstate(invalid="ignore", divide="ignore"):
        return DistArray(total.mesh, total.layout, total.shape, total.local / n)


def var(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> DistArray:
    """The variance over axes, all by default: the sum of squared distances from the mean, divided by the number less ``correction``.

    NaN for no elements; of integers as float64, of complex elements real. One fold of three times the size of the result, and one pass over
    each block, with a copy of no more than a small part of it (see `moments`).
    """
    x = as_dist(x, mesh_of(x))
    n, hosted = _elements(x, axis), DistArray(x.mesh, x.layout, x.shape, blocks.host(x.local))
    kind = hosted.dtype if hosted.dtype.kind in "fc" else np.dtype(np.float64)
    found = reduced(hosted, axis, keepdims, lambda block, axes: moments(block, axes, kind), combined, empty=not n)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.asarray(found.local["squares"] / builtins.max(n - correction, 0))
    return DistArray(x.mesh, found.layout, found.shape, blocks.like(x.local, spread))


def std(x: Any, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> DistArray:
    """The square root of `var`."""
    result = var(x, axis=axis, correction=correction, keepdims=keepdims)
    return DistArray(result.mesh, result.layout, result.shape, blocks.namespace(result.local).sqrt(result.local))


# -- along an axis ---------------------------------------------------------------------------------------------------------------------


def along_whole_lines(x: DistArray, axis: int, function: Callable[[Host, int], Host]) -> DistArray:
    """``function(lines, 0)`` of a matrix whose columns are lines of a divided axis, whole on one rank each; in even blocks of that axis.

    Two exchanges of the whole array, of at most size - 1 messages each way. Memory: 3 blocks.
    """
    mesh, layout = x.mesh, x.layout
    assert isinstance(layout, Block)
    rows = np.moveaxis(blocks.host(x.local), axis, 0)
    rest = rows.shape[1:]
    shape = (x.shape[axis], math.prod(rest))
    with mesh.preparing(x.nbytes):
        flat = rows.reshape(len(rows), shape[1])
    lines = DistArray(mesh, Block(0, layout.sizes), shape, flat).redistribute(Block(1))
    with mesh.preparing(x.nbytes):
        result = function(lines.local, 0)
    del lines, flat
    whole = (len(result), shape[1])
    block = redistribute(mesh, result, whole, Block(1), Block(0))
    return wrap(
        mesh,
        Block(axis),
        tuple(whole[0] if i == axis else n for i, n in enumerate(x.shape)),
        blocks.like(x.local, np.moveaxis(block.reshape(len(block), *rest), 0, axis)),
    )


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> DistArray:
    """The sums of all elements up to each, along an axis; with ``include_initial``, 0 before them. Types as in `sum`.

    In even blocks of the axis that was divided. Along another: no message. Along the divided one: each rank sums up its block, and adds the
    sum of all blocks before, by one Allgather of a slice of each; where these slices together are larger than `limits.REPLICATED_UP_TO`,
    the array is brought to blocks of the other axes and back instead. With ``include_initial``, one slice goes to each next rank.

    Raises
    ------
    ValueError
        no axis is given, and there is not just one.
    numpy.exceptions.AxisError
        there is no such axis.
    """
    return _cumulative(x, axis, dtype, include_initial, "cumulative_sum", np.add, operator.iadd)


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> DistArray:
    """The products of all elements up to each, along an axis; with ``include_initial``, 1 before them. Types as in `prod`.

    As `cumulative_sum`. A block whose own product overflows is multiplied by what comes before it only after that.
    """
    return _cumulative(x, axis, dtype, include_initial, "cumulative_prod", np.multiply, operator.imul)


def _cumulative(x: Any, axis: int | None, dtype: Any, include_initial: bool, name: str, op: Any, op_to: Any) -> DistArray:
    """``op_to`` does in place what ``op`` does."""
    x = with_block_layout(as_dist(x, mesh_of(x)))
    if axis is None and x.ndim != 1:
        raise ValueError(f"{name} of an array of shape {x.shape} needs an axis")
    along = normal_axis(0 if axis is None else axis, x.ndim)
    mesh, layout, function = x.mesh, x.layout, getattr(blocks.namespace(x.local), name)
    shape = tuple(n + (include_initial and i == along) for i, n in enumerate(x.shape))
    if not isinstance(layout, Block) or layout.axis != along:
        block = function(x.local, axis=along, dtype=dtype, include_initial=include_initial)
        result = DistArray(mesh, layout, shape, block)
        return result.redistribute(Block(layout.axis)) if isinstance(layout, Block) else result
    lines = math.prod(n for i, n in enumerate(x.shape) if i != along)
    if mesh.size > 1 and lines * x.itemsize * mesh.size > REPLICATED_UP_TO and lines >= mesh.size:
        host = getattr(blocks.numpy_namespace, name)
        return along_whole_lines(x, along, lambda d, axis: host(d, axis=axis, dtype=dtype, include_initial=include_initial))
    with mesh.preparing(x.nbytes):
        block = function(x.local, axis=along, dtype=dtype, include_initial=include_initial and mesh.rank == 0)
    parts = layout.parts(x.shape, mesh.size)
    sums = np.moveaxis(blocks.host(block), along, 0)
    last = sums[-1:] if len(sums) else np.empty((1, *sums.shape[1:]), sums.dtype)
    before = mesh.before(last, op, [n > 0 for n in parts])
    if before is not None:
        block = op_to(block, blocks.like(x.local, np.moveaxis(before, 0, along)))
    sizes = tuple(n + (include_initial and r == 0) for r, n in enumerate(parts))
    return wrap(mesh, Block(along, sizes), shape, block).redistribute(Block(along))


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> DistArray:
    """The differences of neighbours along an axis, ``n`` times over; of booleans, whether they differ. In even blocks.

    ``prepend`` and ``append`` are joined to the array first (see `concat`), those without dimensions as one slice of that value. Along the
    divided axis: one exchange, in which each rank gets the ``n`` slices after its own. Memory: 3 blocks.

    Raises
    ------
    ValueError
        the array has no dimensions; ``n`` is negative; what is joined does not fit.
    """
    mesh = mesh_of(x, prepend, append)
    x = as_dist(x, mesh)
    if not x.ndim:
        raise ValueError("diff requires input that is at least one dimensional")
    along = normal_axis(axis, x.ndim)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if n == 0:
        return x
    x = with_block_layout(_joined(x, prepend, append, along))
    layout: Layout = x.layout
    shape = tuple(builtins.max(m - n, 0) if i == along else m for i, m in enumerate(x.shape))
    block = x.local
    moves = mesh.size > 1 and isinstance(layout, Block) and layout.axis == along
    if moves:
        layout = Block(along)
        block = redistribute(mesh, block, x.shape, x.layout, _overlapping(x.shape, shape[along], along, n, mesh.size))
    with mesh.preparing(x.nbytes if moves else 0):
        result = DistArray(mesh, layout, shape, blocks.like(x.local, np.diff(blocks.host(block), n, axis=along)))
    return result.redistribute(Block(layout.axis)) if isinstance(layout, Block) else result


def _joined(x: DistArray, prepend: Any, append: Any, axis: int) -> DistArray:
    from mpicluster.array.manipulation import broadcast_to, concat

    if prepend is None and append is None:
        return x
    one = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    parts = [as_dist(part, x.mesh) for part in (prepend, x, append) if part is not None]
    return concat([part if part.ndim else broadcast_to(part, one) for part in parts], axis=axis)


def _overlapping(shape: Shape, length: int, axis: int, n: int, size: int) -> Layout:
    """What each rank needs for its even block of ``length`` differences: as many elements, and ``n`` after them."""
    bounds = starts(block_sizes(length, size))
    held = []
    for lo, hi in itertools.pairwise(bounds):
        needed = ((lo, hi + n),) if hi > lo else ()
        held.append(tuple(needed if i == axis else ((0, m),) if m else () for i, m in enumerate(shape)))
    return Listed(tuple(held))
