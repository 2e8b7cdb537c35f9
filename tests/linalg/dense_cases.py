"""Matrices and layouts that tests of dense linear algebra share."""

from __future__ import annotations

import contextlib

import numpy as np

import mpicluster.array as xp
from mpicluster.linalg import panels

KINDS = "fdFD"


@contextlib.contextmanager
def small_up_to(n):
    """Only matrices of up to n rows are copied to every rank."""
    before = panels.SMALL
    panels.SMALL = n
    try:
        yield
    finally:
        panels.SMALL = before


def layouts(shape, size):
    """One of each kind, with blocks that do not come out even."""
    uneven = tuple(max(0, shape[0] - 3) if r == size - 1 else min(3, shape[0]) * (r == 0) for r in range(size))
    result = [xp.Replicated(), xp.Block(0), xp.Block(1), xp.BlockCyclic(0, 3), xp.BlockCyclic(1, 16), xp.BlockCyclic2D((1, size), (5, 7))]
    return [*result, xp.Block(0, uneven)] if sum(uneven) == shape[0] else result


def random(shape, kind="d", seed=0):
    """Normal numbers, complex if the type is."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if kind in "FD" else values).astype(kind)


def positive(n, kind="d", seed=0):
    """Hermitian and positive definite, with a condition number of about 100."""
    values = random((n, n), kind, seed)
    return ((values @ values.conj().T) / max(1, n) + 0.05 * np.eye(n)).astype(kind)


def graded(n, seed=0):
    """Rows and columns of very different size, falling and rising."""
    scale = 10.0 ** np.linspace(0, -8, n)
    return scale[:, None] * random((n, n), seed=seed) * scale[::-1]


def nearly_singular(n, seed=0):
    """A condition number of 1e12."""
    q1, _ = np.linalg.qr(random((n, n), seed=seed))
    q2, _ = np.linalg.qr(random((n, n), seed=seed + 1))
    return q1 * 10.0 ** np.linspace(0, -12, n) @ q2


def zero_leading_block(n, seed=0):
    """The first half of the diagonal, and all round it, is zero."""
    values = random((n, n), seed=seed)
    values[: n // 2, : n // 2] = 0
    return values


def tiny_diagonal_blocks(n, width, seed=0):
    """A factorisation that looks for pivots in diagonal blocks alone loses all digits: those are 1e-17 of what is beside them."""
    values = random((n, n), seed=seed)
    for i in range(0, n, width):
        values[i : i + width, i : i + width] *= 1e-17
    return values


def rounding(kind, n):
    """Higham's gamma_n = n u / (1 - n u), with u replaced by 2 u, and for complex numbers by 6 u (Accuracy and Stability, section 3.6)."""
    u = np.finfo(kind).eps / 2 * (6 if kind in "FD" else 2)
    return n * u / (1 - n * u)
