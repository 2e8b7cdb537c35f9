"""Determinants."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Replicated
from mpicluster.linalg.checks import check_square, common_type, operands, real_type
from mpicluster.linalg.elimination import eliminate
from mpicluster.linalg.panels import Panels, divided_axis, is_small, transposed, working_copy
from mpicluster.linalg.stacks import of_whole, stacked

__all__ = ["SlogdetResult", "det", "slogdet"]

Values = NDArray[Any]
#: So many numbers from 1/2 to 1 can be multiplied without underflow.
_RUN = 512


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: DistArray
    logabsdet: DistArray


def det(x: Any, /) -> DistArray:
    """The determinant of a square matrix (n, n), or of each of a stack (..., n, n): of the shape of the stack.

    That of a matrix is replicated; those of a stack are divided as it is.

    The product of the pivots of an LU factorisation with partial pivoting, multiplied so that nothing overflows half-way. One Ibcast for
    each panel of at most 128 rows: half of ``x`` passes every rank. At most size - 1 messages each way before. Memory: a copy of ``x`` / p
    and two panels; two and a half times ``x`` / p while rows are moved. Matrices of up to 256 rows are copied to every rank instead. Stacks
    come to blocks of one of their axes.

    Raises
    ------
    LinAlgError
        it is not square.
    """
    (x,) = operands(x)
    check_square(x)
    kind = common_type(x)

    def of_block(block: Values) -> tuple[Values]:
        with np.errstate(all="ignore"):
            return (np.asarray(np.linalg.det(block.astype(kind, copy=False))),)

    if x.ndim > 2:
        return stacked(x, of_block)[0]
    if isinstance(x.layout, Replicated) or is_small(x):
        return of_whole(x, of_block, Replicated())[0]
    diagonal, odd = _pivots(x, kind)
    with np.errstate(over="ignore"):
        value = np.asarray(_product(diagonal, odd), kind)
    return DistArray(x.mesh, Replicated(), (), blocks.like(x.local, value))


def slogdet(x: Any, /) -> SlogdetResult:
    """The sign and the natural logarithm of the modulus of the determinant, which can be neither too large nor too small.

    ``sign`` is a number of modulus 1, or 0 for a singular matrix, whose ``logabsdet`` is -inf. Shapes, layout, cost and errors are those of
    `det`.
    """
    (x,) = operands(x)
    check_square(x)
    kind = common_type(x)

    def of_block(block: Values) -> tuple[Values, Values]:
        with np.errstate(all="ignore"):
            sign, logarithm = np.linalg.slogdet(block.astype(kind, copy=False))
        return np.asarray(sign), np.asarray(logarithm)

    if x.ndim > 2:
        return SlogdetResult(*stacked(x, of_block))
    if isinstance(x.layout, Replicated) or is_small(x):
        return SlogdetResult(*of_whole(x, of_block, Replicated()))
    diagonal, odd = _pivots(x, kind)
    sign, logarithm = _sign_and_logarithm(diagonal, odd)
    values = np.asarray(sign, kind), np.asarray(logarithm, real_type(kind))
    return SlogdetResult(*(DistArray(x.mesh, Replicated(), (), blocks.like(x.local, v)) for v in values))


def _pivots(x: DistArray, kind: np.dtype[Any]) -> tuple[Values, bool]:
    """The diagonal of U, the same on all ranks, and whether rows were swapped an odd number of times. ``det x = det x^T``."""
    panels = Panels.of(x.mesh, x.shape[0])
    block = working_copy(transposed(x) if divided_axis(x) == 1 else x, panels, kind)
    done = eliminate(x.mesh, panels, block.T)
    return done.diagonal.astype(np.promote_types(kind, np.float64)), done.odd


def _product(values: Values, odd: bool) -> Any:
    """The product, or minus that; too large or too small only if it is in the end."""
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(values.real), np.abs(values.imag))
        exponents = np.where(np.isfinite(size), np.frexp(size)[1], 0)
        scaled = _scaled(values, -exponents)
        product, exponent = scaled.dtype.type(-1 if odd else 1), int(exponents.sum())
        for start in range(0, len(scaled), _RUN):
            product = product * np.prod(scaled[start : start + _RUN])
            modulus = max(abs(product.real), abs(product.imag))
            shift = int(np.frexp(modulus)[1]) if np.isfinite(modulus) else 0
            product, exponent = _scaled(product, -shift), exponent + shift
        return _scaled(product, int(np.clip(exponent, -10000, 10000)))


def _scaled(values: Any, exponents: Any) -> Any:
    """``values * 2**exponents``."""
    if np.iscomplexobj(values):
        result = np.empty(np.shape(values), np.complex128)
        result.real, result.imag = np.ldexp(values.real, exponents), np.ldexp(values.imag, exponents)
        return result[()]
    return np.ldexp(values, exponents)


def _sign_and_logarithm(values: Values, odd: bool) -> tuple[Any, Any]:
    with np.errstate(all="ignore"):
        if (values == 0).any():
            return 0, -np.inf
        sign = np.prod(np.sign(values)) * (-1 if odd else 1)
        return (sign / abs(sign) if np.iscomplexobj(values) else sign), np.log(np.abs(values)).sum()
