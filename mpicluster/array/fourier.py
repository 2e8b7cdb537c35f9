"""Fourier transforms along the divided axis, where no other axis is long enough to be divided instead. Collective over the mesh.

The axis is cut in two: for n = n1 * n2, transforms of n1 and of n2 elements, and three exchanges of the array between them (the "six-step"
method of D. H. Bailey, "FFTs in external or hierarchical memory", J. Supercomputing 4, 1990). Where n has no two factors that are both at
least the number of ranks, it becomes a convolution with a chirp, of a length that is a power of two (L. I. Bluestein, "A linear filtering
approach to the computation of discrete Fourier transform", IEEE Trans. Audio Electroacoustics 18, 1970).
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import scipy.fft

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Layout, Shape, block_sizes
from mpicluster.array.mesh import Mesh
from mpicluster.array.redistribute import redistribute

__all__ = ["along_divided", "complex_type"]

Host = np.ndarray[Any, Any]
#: An axis whose transform has so many bytes or fewer is gathered, and transformed by each rank: one message instead of many.
GATHERED_UP_TO = 1 << 20
#: Factors of so many elements are made at a time: they stay in the cache.
_AT_A_TIME = 1 << 14
_PI = np.longdouble("3.14159265358979323846264338327950288")


def complex_type(kind: Any) -> np.dtype[Any]:
    """The type of a transform: as exact as the operand, and at least single precision; double for integers."""
    kind = np.dtype(kind)
    return np.result_type(kind if kind.kind in "fc" else np.float64, np.complex64)


def along_divided(x: DistArray, kind: str, axis: int, n: int, norm: str) -> DistArray:
    """The transform of ``n`` elements of ``axis``, along which x lies in blocks; the result does, too.

    ``kind`` is ``"fft"``, ``"ifft"``, ``"rfft"`` or ``"irfft"``. Three exchanges of the complex array (of a real one the first time), of at
    most size - 1 messages each way; up to two more among neighbours where the factors of n are no multiples of the number of ranks. With
    Bluestein's method, thrice that for 2 n to 4 n elements. For a result of up to 1 MiB (`GATHERED_UP_TO`), or of fewer than 4 size**2
    elements, one Allgatherv instead. Memory: 4 complex blocks of the result; with Bluestein's method 16.
    """
    mesh = x.mesh
    rows = np.moveaxis(blocks.host(x.local), axis, 0)
    rest = rows.shape[1:]
    rows = rows.reshape(rows.shape[0], math.prod(rest)) if math.prod(rest) != 1 else np.ascontiguousarray(rows).reshape(-1)
    assert isinstance(x.layout, Block)
    length = x.shape[axis]
    rows = redistribute(mesh, rows, (length, *rows.shape[1:]), Block(0, x.layout.sizes), Block(0))
    if kind == "irfft":
        half = _resized(mesh, rows, length, n // 2 + 1)
        result = _transform(mesh, _resized(mesh, _doubled(mesh, half, n), n // 2 + 1, n), n, True, norm).real
    else:
        result = _transform(mesh, _resized(mesh, rows, length, n), n, kind == "ifft", norm)
        if kind == "rfft":
            result, n = _resized(mesh, result, n, n // 2 + 1), n // 2 + 1
    block = np.moveaxis(np.ascontiguousarray(result).reshape(result.shape[0], *rest), 0, axis)
    return DistArray(mesh, Block(axis), tuple(n if i == axis else m for i, m in enumerate(x.shape)), blocks.like(x.local, block))


def _span(mesh: Mesh, n: int) -> tuple[int, int]:
    bounds = Block(0).bounds((n,), mesh.size)
    return bounds[mesh.rank], bounds[mesh.rank + 1]


def _moved(mesh: Mesh, rows: Host, shape: Shape, source: Layout, target: Layout) -> Host:
    result: Host = redistribute(mesh, rows, shape, source.settled(shape, mesh.size), target.settled(shape, mesh.size))
    return result


def _resized(mesh: Mesh, rows: Host, n: int, wanted: int) -> Host:
    """The first ``wanted`` of n rows, or these and zeros; even blocks become even blocks. Each row travels at most once."""
    if n == wanted:
        return rows
    common = min(n, wanted)

    def within(length: int) -> Block:
        bounds = Block(0).bounds((length,), mesh.size)
        return Block(0, tuple(min(hi, common) - min(lo, common) for lo, hi in itertools.pairwise(bounds)))

    before, after = within(n), within(wanted)
    moved = _moved(mesh, rows[: before.parts((common,), mesh.size)[mesh.rank]], (common, *rows.shape[1:]), before, after)
    lo, hi = _span(mesh, wanted)
    if len(moved) == hi - lo:
        return moved
    result = np.zeros((hi - lo, *rows.shape[1:]), rows.dtype)
    result[: len(moved)] = moved
    return result


def _doubled(mesh: Mesh, half: Host, n: int) -> Host:
    """The first half of a spectrum whose other half mirrors it, such that the real part of its transform is that of the whole."""
    result: Host = half.astype(complex_type(half.dtype), copy=False) * half.real.dtype.type(2)
    lo, hi = _span(mesh, n // 2 + 1)
    for single in (0, n // 2) if n % 2 == 0 else (0,):
        if lo <= single < hi:
            result[single - lo] = half[single - lo]
    return result


@functools.lru_cache(maxsize=256)
def _factors(n: int, size: int) -> tuple[int, int] | None:
    """Two factors of n, both at least ``size``: if possible multiples of it, and as near to each other as can be."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    pairs = [(d, n // d) for d in small if d >= size]
    return min(pairs, key=lambda p: ((p[0] % size != 0) + (p[1] % size != 0), -p[0]), default=None)


def _transform(mesh: Mesh, rows: Host, n: int, inverse: bool, norm: str) -> Host:
    """The transform along axis 0, in even blocks before and after."""
    kind = complex_type(rows.dtype)
    if mesh.size == 1:
        return _near(rows, 0, inverse, norm)
    if n * math.prod(rows.shape[1:]) * kind.itemsize <= GATHERED_UP_TO or n < 4 * mesh.size**2:
        lo, hi = _span(mesh, n)
        return _near(mesh.allgather(rows, block_sizes(n, mesh.size)), 0, inverse, norm)[lo:hi].copy()
    factors = _factors(n, mesh.size)
    return _six_steps(mesh, rows, *factors, inverse, norm) if factors is not None else _chirped(mesh, rows, n, inverse, norm)


def _near(values: Host, axis: int, inverse: bool, norm: str, *, overwrite: bool = False) -> Host:
    function = scipy.fft.ifft if inverse else scipy.fft.fft
    result: Host = function(values, axis=axis, norm=norm, overwrite_x=overwrite)
    return result


def _six_steps(mesh: Mesh, rows: Host, n1: int, n2: int, inverse: bool, norm: str) -> Host:
    """Element j2 + n2 * j1 of the operand gives to element k1 + n1 * k2 of the result."""
    n, rest, size = n1 * n2, rows.shape[1:], mesh.size
    lines = Block(0, tuple(m * n2 for m in block_sizes(n1, size)))
    matrix = _moved(mesh, rows, (n, *rest), Block(0), lines).reshape(-1, n2, *rest)
    matrix = _moved(mesh, matrix, (n1, n2, *rest), Block(0), Block(1))
    with mesh.preparing(n * math.prod(rest) * matrix.itemsize):
        matrix = _near(matrix, 0, inverse, norm)
        _twist(matrix, _span(mesh, n2)[0], n, inverse)
    matrix = _moved(mesh, matrix, (n1, n2, *rest), Block(1), Block(0))
    with mesh.preparing(n * math.prod(rest) * matrix.itemsize):
        matrix = _near(matrix, 1, inverse, norm, overwrite=True)
    matrix = _moved(mesh, np.swapaxes(matrix, 0, 1), (n2, n1, *rest), Block(1), Block(0))
    lines = Block(0, tuple(m * n1 for m in block_sizes(n2, size)))
    return _moved(mesh, matrix.reshape(-1, *rest), (n, *rest), lines, Block(0))


def _roots(numerators: Host, n: int, inverse: bool, kind: Any) -> Host:
    """exp(-2 pi i m / n) for integers m from 0 to below n; the conjugate for the inverse."""
    real = np.result_type(np.empty(0, kind).real.dtype, np.float64).type
    turns = np.where(numerators > n // 2, numerators - n, numerators).astype(real) / real(n)
    turns *= real(2 * _PI)
    result = np.empty(turns.shape, kind)
    result.real = np.cos(turns)
    result.imag = np.sin(turns) if inverse else -np.sin(turns)
    return result


def _twist(matrix: Host, first: int, n: int, inverse: bool) -> None:
    """Multiply element (k1, j2) by exp(-2 pi i k1 j2 / n), in place; ``first`` is the j2 of the first column."""
    n1, columns = matrix.shape[:2]
    at_a_time = max(1, _AT_A_TIME // max(1, columns))
    j2 = np.arange(first, first + columns)
    for lo in range(0, n1, at_a_time):
        k1 = np.arange(lo, min(lo + at_a_time, n1))
        roots = _roots(k1[:, np.newaxis] * j2, n, inverse, matrix.dtype)
        matrix[lo : lo + at_a_time] *= roots.reshape(*roots.shape, *(1,) * (matrix.ndim - 2))


def _chirp(lo: int, hi: int, n: int, inverse: bool, kind: Any) -> Host:
    """exp(-pi i j**2 / n) for j from ``lo`` to below ``hi``; exact to the last bits, since j**2 is reduced as an integer."""
    result = np.empty(max(0, hi - lo), kind)
    for start in range(lo, hi, _AT_A_TIME):
        steps = np.arange(min(_AT_A_TIME, hi - start))
        squares = (start * start % (2 * n) + (2 * start % (2 * n)) * steps + steps * steps) % (2 * n)
        result[start - lo : start - lo + len(steps)] = _roots(squares, 2 * n, inverse, kind)
    return result


def _chirped(mesh: Mesh, rows: Host, n: int, inverse: bool, norm: str) -> Host:
    """Bluestein's method: a convolution of at least 2 n - 1 elements."""
    kind, rest = complex_type(rows.dtype), rows.shape[1:]
    m = 1 << (2 * n - 2).bit_length()
    ones = (1,) * len(rest)
    lo, hi = _span(mesh, n)
    with mesh.preparing(n * math.prod(rest) * kind.itemsize):
        chirp = _chirp(lo, hi, n, inverse, kind).reshape(-1, *ones)
        rows = rows * chirp
    spectrum = _transform(mesh, _resized(mesh, rows, n, m), m, False, "backward")
    first, last = _span(mesh, m)
    with mesh.preparing(m * kind.itemsize):
        wave = np.zeros(last - first, kind)
        rising = _chirp(first, min(last, n), n, not inverse, kind)
        wave[: len(rising)] = rising
        falling = _chirp(m - last + 1, min(m - first + 1, n), n, not inverse, kind)[::-1]  # of j = m - i, for the last n - 1 indices i
        wave[last - first - len(falling) :] = falling
    spectrum *= _transform(mesh, wave, m, False, "backward").reshape(-1, *ones)
    result = _resized(mesh, _transform(mesh, spectrum, m, True, "backward"), m, n)
    scale = {"ortho": 1 / math.sqrt(n), "forward" if not inverse else "backward": 1 / n}.get(norm, 1.0)
    result *= chirp * chirp.real.dtype.type(scale)
    return result
