"""Products of divided arrays, by NumPy's rules of shapes and types.

Where an operand and the result meet in a divided axis, that axis stays divided. Blocks are multiplied by BLAS in place (float32, float64,
complex64, complex128), by NumPy for other types. What moves, and when, is in `multiplication`.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.creation import eye
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Replicated, Shape, default_layout
from mpicluster.array.limits import REPLICATED_UP_TO
from mpicluster.array.manipulation import matrix_transpose, moveaxis
from mpicluster.array.operands import apply, block_for, common_layout, normal_axis
from mpicluster.array.statistics import folded, with_block_layout, without_axes
from mpicluster.linalg.checks import check_square, operands
from mpicluster.linalg.multiplication import as_kind, of_one_type, product

__all__ = ["cross", "matmul", "matrix_power", "matrix_transpose", "outer", "vecdot"]

Matrix = NDArray[Any]


# -- matrices --------------------------------------------------------------------------------------------------------------------------


def matmul(x1: Any, x2: Any, /) -> DistArray:
    """The matrix product, with NumPy's rules: vectors have one dimension, stacks of matrices broadcast.

    Of matrices, the result is divided along

    * rows, if ``x1`` is, and columns, if ``x2`` is (in the blocks of the operand; if both: as the larger one);
    * else (blocks are of the axis that is summed over, or there are none) it is replicated, if it is small: its sides shorter than a
      rank's share of the axis that is summed over, or both operands replicated, and up to 64 MiB;
    * else in even blocks of rows; of columns, if it is wide and has hardly a row for each rank. So a vector is in even blocks.

    Messages, where x1 is m by k and x2 is k by n, of p ranks:

    ==========================  ======================================================================================================
    x1 by rows, x2 replicated   none; so x2 by columns, x1 replicated
    x1 by rows, x2 divided      one Allgatherv of x2, up to half the size of a rank's blocks of x1 and the result, or 4 MiB; else p - 1
                                messages each way of a block of x2, hidden behind the multiplication; two Allreduces of a byte
    x2 by columns, x1 divided   the same, of x1
    x1 by columns, x2 by rows   a small result: one fold of it; else p - 1 messages each way of a block of the result, hidden likewise.
                                Where the blocks differ, the smaller operand is redistributed first
    both replicated             none; from 64 million multiplications on, each rank does its rows, and an Allgatherv brings them together
    ==========================  ======================================================================================================

    Where it would move less than half as much, ``x1`` is brought to columns (or ``x2`` to rows) first. Memory beside operands and result:
    two blocks of what moves, or three of the result.

    A stack is multiplied without a message if both have the same blocks of an axis of the stack, or one is replicated. If its longest axis
    goes round, others come to blocks of that; otherwise its matrices are multiplied one by one, by all ranks.

    Error: that of BLAS with a sum of k terms; Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.5.

    Raises
    ------
    ValueError
        an operand has no dimensions, or the shapes do not fit.
    """
    x1, x2 = operands(x1, x2)
    _check_matmul(x1, x2)
    a, b = of_one_type(x1, x2)
    if a.ndim > 2 or b.ndim > 2:
        return as_kind(x1, _stacks(a, b))
    rows = DistArray(a.mesh, _moved(a.layout, 1), (1, *a.shape), a.local[np.newaxis]) if a.ndim == 1 else a
    columns = DistArray(b.mesh, b.layout, (*b.shape, 1), b.local[:, np.newaxis]) if b.ndim == 1 else b
    result = product(rows, columns)
    return as_kind(x1, without_axes(result, (0,) * (a.ndim == 1) + (1,) * (b.ndim == 1)))


def _moved(layout: Layout, by: int) -> Layout:
    return Block(layout.axis + by, layout.sizes) if isinstance(layout, Block) else layout


def _check_matmul(x1: DistArray, x2: DistArray) -> None:
    for i, x in enumerate((x1, x2)):
        if x.ndim == 0:
            raise ValueError(
                f"matmul: Input operand {i} does not have enough dimensions (has 0, gufunc core with signature (n?,k),(k,m?)->(n?,m?) "
                f"requires 1)"
            )
    inner, other = x1.shape[-1], x2.shape[0] if x2.ndim == 1 else x2.shape[-2]
    if inner != other:
        raise ValueError(
            f"matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature (n?,k),(k,m?)->(n?,m?) "
            f"(size {other} is different from {inner})"
        )
    np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])


def _stacks(a: DistArray, b: DistArray) -> DistArray:
    """The products of two stacks, of which one may be a matrix or a vector."""
    mesh, stack = a.mesh, np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*stack, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ()))
    whole = isinstance(a.layout, Replicated), isinstance(b.layout, Replicated)
    if all(whole) and math.prod(shape) * a.itemsize <= REPLICATED_UP_TO:
        return DistArray(mesh, Replicated(), shape, np.matmul(a.local, b.local))
    if whole[1] and isinstance(a.layout, Block) and a.layout.axis == a.ndim - 2:
        return DistArray(mesh, Block(len(stack), a.layout.sizes), shape, np.matmul(a.local, b.local))
    if whole[0] and isinstance(b.layout, Block) and b.layout.axis == b.ndim - 1 > 0:
        return DistArray(mesh, Block(len(shape) - 1, b.layout.sizes), shape, np.matmul(a.local, b.local))
    layout = _layout_of_stack(stack, a, b)
    if layout is None:
        return _one_by_one(a, b, stack, shape)
    left = _block_of_stack(a, layout, stack)
    right = _block_of_stack(b, layout, stack)
    return DistArray(mesh, layout, shape, np.matmul(left, right))


def _layout_of_stack(stack: Shape, *arrays: DistArray) -> Block | None:
    """Blocks of an axis of the stack: as an operand has them, or of the longest axis if that goes round."""
    for x in sorted(arrays, key=lambda x: -x.size):
        if isinstance(x.layout, Block) and x.layout.axis < x.ndim - 2:
            axis = x.layout.axis + len(stack) + 2 - x.ndim
            if stack[axis] == x.shape[x.layout.axis]:
                return Block(axis, x.layout.sizes)
    axis = max(range(len(stack)), key=lambda i: stack[i])
    return Block(axis) if stack[axis] >= arrays[0].mesh.size or 0 in stack else None


def _block_of_stack(x: DistArray, layout: Block, stack: Shape) -> Matrix:
    if x.ndim <= 2:
        return blocks.host(x.replicate().local)
    return blocks.host(block_for(x, layout, (*stack, *x.shape[-2:])))


def _one_by_one(a: DistArray, b: DistArray, stack: Shape, shape: Shape) -> DistArray:
    """A few matrices, each of them divided."""
    a, b = (_by_matrices(x) for x in (a, b))
    results = [matmul(_matrix(a, i, stack), _matrix(b, i, stack)) for i in itertools.product(*map(range, stack))]
    block = np.stack([blocks.host(r.local) for r in results])
    return DistArray(a.mesh, _moved(results[0].layout, len(stack)), shape, block.reshape(*stack, *block.shape[1:]))


def _by_matrices(x: DistArray) -> DistArray:
    """The stack such that its matrices are divided, not it; the longer of their axes."""
    if x.ndim < 3 or not isinstance(x.layout, Block) or x.layout.axis >= x.ndim - 2:
        return x
    return x.redistribute(Block(x.ndim - 2 if x.shape[-2] >= x.shape[-1] else x.ndim - 1))


def _matrix(x: DistArray, index: tuple[int, ...], stack: Shape) -> DistArray:
    """One matrix of a stack that was broadcast."""
    missing = len(stack) + 2 - x.ndim
    if x.ndim < 3:
        return x
    own = tuple(0 if n == 1 else i for i, n in zip(index[missing:], x.shape[:-2], strict=True))
    return DistArray(x.mesh, _moved(x.layout, 2 - x.ndim), x.shape[-2:], x.local[own])


# -- vectors ---------------------------------------------------------------------------------------------------------------------------


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> DistArray:
    """The sum over an axis of conj(x1) * x2; other axes broadcast.

    Divided as an elementwise product would be, without the axis; replicated, if that axis was divided: one fold of the size of the result.
    No other message if the operands have one layout, or one is replicated. No temporary array, but a copy of what is not in one piece.

    Raises
    ------
    ValueError
        the axis is not of one length in both, or one of them has no dimensions.
    """
    x1, x2 = operands(x1, x2)
    for i, x in enumerate((x1, x2)):
        if x.ndim == 0:
            raise ValueError(
                f"vecdot: Input operand {i} does not have enough dimensions (has 0, gufunc core with signature (n),(n)->() requires 1)"
            )
    a, b = (moveaxis(x, normal_axis(axis, x.ndim), x.ndim - 1) for x in (x1, x2))
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"vecdot: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature (n),(n)->() "
            f"(size {b.shape[-1]} is different from {a.shape[-1]})"
        )
    a, b = with_block_layout(a), with_block_layout(b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    layout = common_layout((a, b), shape, a.mesh)
    block = np.asarray(np.vecdot(blocks.host(block_for(a, layout, shape)), blocks.host(block_for(b, layout, shape))))
    result = shape[:-1]
    if isinstance(layout, Block) and layout.axis == len(result):
        block, layout = folded(a.mesh, block, np.add)
    return DistArray(a.mesh, layout, result, blocks.like(x1.local, block))


def outer(x1: Any, x2: Any, /) -> DistArray:
    """The products of each element of one vector with each of another, of shape (n1, n2).

    In blocks of rows, as ``x1`` is divided; of columns, as ``x2`` is, if only that is; of replicated vectors replicated, up to 64 MiB. No
    message, unless both are divided: one Allgatherv of ``x2``.

    Raises
    ------
    ValueError
        they do not have one dimension.
    """
    x1, x2 = operands(x1, x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"Input arrays must be one-dimensional, but they are x1.ndim={x1.ndim} and x2.ndim={x2.ndim}.")
    a, b = with_block_layout(x1), with_block_layout(x2)
    mesh, shape = a.mesh, (a.shape[0], b.shape[0])
    layout = a.layout if isinstance(a.layout, Block) else _moved(b.layout, 1)
    left, right = blocks.host(a.local), blocks.host(b.local)
    if isinstance(layout, Replicated) and math.prod(shape) * np.result_type(left, right).itemsize > REPLICATED_UP_TO:
        layout = default_layout(shape, mesh.size)
    if isinstance(layout, Block) and layout.axis == 0:
        left, right = blocks.host(block_for(a, Block(0, layout.sizes), a.shape)), blocks.host(b.replicate().local)
    elif isinstance(layout, Block):
        right = blocks.host(block_for(b, Block(0, layout.sizes), b.shape))
    return DistArray(mesh, layout, shape, blocks.like(x1.local, np.multiply.outer(left, right)))


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> DistArray:
    """The vector product of vectors of three dimensions, which lie along an axis; other axes broadcast.

    Divided as an elementwise product would be, not along ``axis``. No message, if the operands have one layout and the axis is not divided.

    Raises
    ------
    ValueError
        the axis is not of length 3 in both.
    """
    x1, x2 = operands(x1, x2)
    sides = [x.shape[normal_axis(axis, x.ndim)] for x in (x1, x2)]
    if sides != [3, 3]:
        raise ValueError(
            f"Both input arrays must be (arrays of) 3-dimensional vectors, but they are {sides[0]} and {sides[1]} dimensional instead."
        )
    (u0, u1, u2), (v0, v1, v2) = _components(x1, axis), _components(x2, axis)

    def components(a0: Any, a1: Any, a2: Any, b0: Any, b1: Any, b2: Any) -> tuple[Any, Any, Any]:
        return a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0

    parts = apply(components, u0, u1, u2, v0, v1, v2)
    first = parts[0]
    block = blocks.namespace(first.local).stack([p.local for p in parts], axis=-1)
    return moveaxis(DistArray(first.mesh, first.layout, (*first.shape, 3), block), -1, axis)


def _components(x: DistArray, axis: int) -> list[DistArray]:
    """An array without an axis, for each index of that."""
    x = with_block_layout(moveaxis(x, axis, -1))
    last = x.ndim - 1
    if isinstance(x.layout, Block) and x.layout.axis == last:
        x = x.replicate() if last == 0 else x.redistribute(Block(max(range(last), key=lambda i: x.shape[i])))
    return [DistArray(x.mesh, x.layout, x.shape[:-1], x.local[..., i]) for i in range(x.shape[-1])]


# -- matrices alone --------------------------------------------------------------------------------------------------------------------


def matrix_power(x: Any, n: int, /) -> DistArray:
    """A square matrix, or each of a stack, to an integer power: the inverse to the power of -n, if n is negative; ones, if it is 0.

    By squaring (Knuth, The Art of Computer Programming, volume 2, section 4.6.3): at most ``2 log2 |n|`` products, and one `inv`; see these
    for messages and layouts. Three times its memory.

    Raises
    ------
    LinAlgError
        it is not square, or singular and n negative; on all ranks.
    TypeError
        n is no integer.
    """
    (x,) = operands(x)
    check_square(x)
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError("exponent must be an integer") from None
    x = with_block_layout(x)
    if n == 0:
        return _ones(x)
    if n < 0:
        from mpicluster.linalg.solving import inv  # which is not needed otherwise

        x, n = inv(x), -n
    if n == 1:
        return x.copy()
    result: DistArray | None = None
    square = x
    while True:
        n, odd = divmod(n, 2)
        if odd:
            result = square if result is None else matmul(result, square)
        if not n:
            assert result is not None
            return result
        square = matmul(square, square)


def _ones(x: DistArray) -> DistArray:
    """The identity matrix, or a stack of it, in the layout of ``x``."""
    matrix_axis = x.layout.axis - (x.ndim - 2) if isinstance(x.layout, Block) else -1
    layout = Block(matrix_axis, x.layout.sizes) if isinstance(x.layout, Block) and matrix_axis >= 0 else Replicated()
    one = blocks.host(eye(x.shape[-1], dtype=x.dtype, layout=layout, comm=x.mesh).local)
    return DistArray(x.mesh, x.layout, x.shape, blocks.like(x.local, np.broadcast_to(one, x.local.shape).copy()))
