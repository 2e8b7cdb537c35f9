"""Norms of vectors and matrices, and condition numbers. Sums are taken of each block, then folded: the same bits on every rank.

Squares and powers are summed without scaling, as NumPy does: norms whose squares overflow are infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array import statistics
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Replicated
from mpicluster.array.manipulation import expand_dims, moveaxis
from mpicluster.array.operands import apply, normal_axes, normal_axis, replicated
from mpicluster.linalg.checks import LinAlgError, check_matrix, check_square, operands, real_type
from mpicluster.linalg.stacks import stacked

__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]

Axis = int | Sequence[int] | None
Host = NDArray[Any]


def _inexact(x: DistArray) -> DistArray:
    """The array, of integers or booleans as float64."""
    if np.dtype(x.dtype).kind in "fc":
        return x
    return DistArray(x.mesh, x.layout, x.shape, blocks.like(x.local, blocks.host(x.local).astype(np.float64)))


def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> DistArray:  # noqa: A002 - of the standard
    """The norm of vectors along an axis; over several axes, or all (by default), of all their elements as one vector.

    ``ord``
        p, for the p-th root of the sum of ``|x|**p``; ``inf`` or ``-inf``, the largest or smallest ``|x|``; 0, how many are not zero.

    Of the real type as precise as ``x``. Replicated, if the divided axis is reduced away (one fold of the size of the result; over all axes
    of any layout); else divided as ``x`` is, without a message. Memory: for order 2 over all axes none, else a copy of the block.

    Error: at most about ``(n / 2 + log2(n)) eps`` relatively for order 2 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
    edition, section 3.1), and by far less as a rule: partial sums are of one block, or less.

    Raises
    ------
    ValueError
        the order is -inf and there are no elements, or it is no number.
    """
    (x,) = operands(x)
    if isinstance(ord, str) or ord is None:
        raise ValueError(f"Invalid norm order {ord!r} for vectors")
    x = _inexact(x)
    axes = normal_axes(axis, x.ndim)
    if ord == -math.inf and any(x.shape[i] == 0 for i in axes) and x.size == 0:
        raise ValueError("zero-size array to reduction operation minimum which has no identity")
    reduce, op, finish = _steps(ord)
    if len(axes) == x.ndim and not isinstance(x.layout, Replicated):  # whatever the layout
        part = np.asarray(_of_all(blocks.host(x.local)) if ord == 2 else reduce(blocks.host(x.local), axes).reshape(()))
        total = finish(x.mesh.fold(part, op))
        return replicated(x.mesh, total.reshape((1,) * x.ndim if keepdims else ()), real_type(np.dtype(x.dtype)))
    result = statistics.reduced(x, axes, keepdims, lambda block, over: blocks.like(block, reduce(blocks.host(block), over)), op, empty=True)
    final = blocks.like(result.local, finish(blocks.host(result.local)))
    return DistArray(result.mesh, result.layout, result.shape, final)


Steps = tuple[Callable[[Host, tuple[int, ...]], Host], Callable[[Any, Any], Any], Callable[[Host], Host]]


def _steps(ord: float) -> Steps:  # noqa: A002
    """How blocks are reduced, what folds that, and what is done at last."""

    def same(total: Host) -> Host:
        return total

    if ord == math.inf:
        return lambda b, over: np.abs(b).max(axis=over, keepdims=True, initial=0), np.maximum, same
    if ord == -math.inf:
        return lambda b, over: np.abs(b).min(axis=over, keepdims=True, initial=math.inf), np.minimum, same
    if ord == 0:
        return lambda b, over: (b != 0).astype(real_type(b.dtype)).sum(axis=over, keepdims=True), np.add, same
    if ord == 1:
        return lambda b, over: np.abs(b).sum(axis=over, keepdims=True), np.add, same
    if ord == 2:
        return lambda b, over: _squares(b).sum(axis=over, keepdims=True), np.add, np.sqrt
    return (
        lambda b, over: (np.abs(b) ** b.real.dtype.type(ord)).sum(axis=over, keepdims=True),
        np.add,
        lambda total: total ** total.dtype.type(1 / ord),
    )


def _squares(x: Host) -> Host:
    return x.real * x.real + x.imag * x.imag if x.dtype.kind == "c" else x * x


def _of_all(block: Host) -> Any:
    """The sum of squares of all elements, by BLAS."""
    flat = block.ravel(order="K")
    if flat.dtype.kind != "c":
        return np.dot(flat, flat)
    parts = flat.view(real_type(flat.dtype))
    return np.dot(parts, parts)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> DistArray:  # noqa: A002 - of the standard
    """The norm of each matrix, of the last two axes.

    ``ord``
        ``"fro"`` (or None): Frobenius; 1, -1: the largest, smallest sum of ``|x|`` in a column; ``inf``, ``-inf``: in a row; 2, -2: the
        largest, smallest singular value; ``"nuc"``: the sum of singular values.

    Of the real type as precise as ``x``. Replicated, if the matrices are divided; else divided as the stack is. Frobenius: one fold of the
    size of the result; sums: one more of a matrix' longer side, at most; others: see `svdvals`.

    Raises
    ------
    ValueError
        there is no such order, or nothing to take the smallest of.
    LinAlgError
        it has less than two dimensions.
    """
    (x,) = operands(x)
    check_matrix(x)
    x = _inexact(x)
    if ord is None or ord in ("fro", "f"):
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in (2, -2, "nuc"):
        result = _of_singular_values(x, ord)
    elif ord in (1, -1, math.inf, -math.inf):
        sums = vector_norm(x, axis=-2 if abs(ord) == 1 else -1, ord=1)
        if ord < 0 and sums.shape[-1] == 0:
            raise ValueError("zero-size array to reduction operation minimum which has no identity")
        result = _largest(sums) if ord > 0 else statistics.min(sums, axis=-1)
    else:
        raise ValueError("Invalid norm order for matrices.")
    return expand_dims(expand_dims(result, -1), -1) if keepdims else result


def _largest(x: DistArray) -> DistArray:
    """The largest along the last axis, of numbers that are not negative; 0 of none."""
    return vector_norm(x, axis=-1, ord=math.inf)


def _of_singular_values(x: DistArray, ord: Any) -> DistArray:  # noqa: A002
    from mpicluster.linalg.singular import svdvals  # which other norms do not need

    values = svdvals(x)
    if ord == 2:
        return _largest(values)
    return statistics.sum(values, axis=-1) if ord == "nuc" else statistics.min(values, axis=-1)


def norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> DistArray:  # noqa: A002 - NumPy's name
    """The norm of vectors along one axis, or of matrices along two, as ``numpy.linalg.norm``; see `vector_norm` and `matrix_norm`.

    Without an axis: of an array of one dimension, or of two; without an order as well, the 2-norm of all elements as one vector.

    Raises
    ------
    ValueError
        there is no such order, or the axes are neither one nor two.
    """
    (x,) = operands(x)
    if axis is None:
        if ord is None or x.ndim == 1:
            return vector_norm(x, keepdims=keepdims, ord=2 if ord is None else ord)
        axes: tuple[int, ...] = tuple(range(x.ndim))
    else:
        axes = tuple(normal_axis(int(a), x.ndim) for a in ((axis,) if isinstance(axis, int | np.integer) else axis))
    if len(axes) == 1:
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    if axes[0] == axes[1]:
        raise ValueError("Duplicate axes given.")
    result = matrix_norm(moveaxis(x, axes, (-2, -1)), ord=ord)
    for a in sorted(axes) if keepdims else ():
        result = expand_dims(result, a)
    return result


def cond(x: Any, p: Any = None) -> DistArray:
    """The condition number of each matrix, as ``numpy.linalg.cond``: its norm times that of its inverse; infinite if it is singular.

    ``p``
        an order of `matrix_norm`; None, 2 or -2: from singular values.

    Layout as of `matrix_norm`; messages as of that and `svdvals`, or `inv`. Stacks come to blocks of one of their axes.

    Raises
    ------
    LinAlgError
        it is empty, or (for other orders than 2) not square; on all ranks.
    """
    (x,) = operands(x)
    if x.size == 0:
        raise LinAlgError("cond is not defined on empty arrays")
    check_matrix(x)
    x = _inexact(x)
    if x.ndim > 2:
        return stacked(x, lambda block: (_of_block(block, p, x),))[0]
    if p not in (None, 2, -2):
        check_square(x)
        return _of_inverse(x, p)
    from mpicluster.linalg.singular import svdvals

    values = svdvals(x)
    largest, smallest = _largest(values), statistics.min(values, axis=-1)
    return _ratio(smallest, largest) if p == -2 else _ratio(largest, smallest)


def _of_block(block: Host, p: Any, x: DistArray) -> Host:
    """Of a stack on one rank, which may be empty there."""
    if not block.size:
        return np.empty(block.shape[:-2], real_type(np.dtype(x.dtype)))
    return np.asarray(np.linalg.cond(block, p))


def _ratio(x1: DistArray, x2: DistArray) -> DistArray:
    def divided(a: Any, b: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(a) / np.asarray(b)

    result: DistArray = apply(divided, x1, x2)
    return result


def _of_inverse(x: DistArray, p: Any) -> DistArray:
    from mpicluster.linalg.solving import inv

    own = matrix_norm(x, ord=p)
    try:
        inverse = matrix_norm(inv(x), ord=p)
    except LinAlgError:  # on all ranks
        value = np.nan if np.isnan(blocks.host(own.replicate().local)) else np.inf
        return replicated(x.mesh, value, real_type(np.dtype(x.dtype)))
    result: DistArray = apply(lambda a, b: a * b, own, inverse)
    return result
