"""What tests of arrays share: layouts of every kind, and the comparison with NumPy's result. No message is sent."""

from __future__ import annotations

import numpy as np

import mpicluster.array as xp


def layouts(shape, size):
    """Replicated; blocks of each axis, even, all on the last rank, and dealt out; and on a grid."""
    found = [xp.Replicated()]
    for axis, n in enumerate(shape):
        found += [xp.Block(axis), xp.BlockCyclic(axis, 2)]
        if size > 1:
            found.append(xp.Block(axis, (0,) * (size - 1) + (n,)))
    if len(shape) == 2:
        found.append(xp.BlockCyclic2D((1, size), (2, 1)))
    return found


def part(x, values):
    """What this rank holds of an array with these values."""
    runs = x.layout.runs(x.shape, x.mesh.size, x.mesh.rank)
    if all(len(r) == 1 for r in runs):
        return values[tuple(slice(*r[0]) for r in runs)]
    held = [[i for lo, hi in r for i in range(lo, hi)] for r in runs]
    return values[np.ix_(*(np.array(h, np.int64) for h in held))]


def same(x, values):
    """Each rank's block is that part of the values, to the last bit but for signs of zeros and NaN."""
    values = np.asarray(values)
    assert x.shape == values.shape
    assert x.dtype == values.dtype, (x.dtype, values.dtype)
    assert x.local.shape == x.layout.local_shape(x.shape, x.mesh.size, x.mesh.rank)
    assert np.array_equal(x.local, part(x, values), equal_nan=values.dtype.kind in "fc"), (x.local, part(x, values))


def close(x, values, rtol=1e-13):
    """As `same`, up to rounding."""
    values = np.asarray(values)
    assert x.shape == values.shape
    assert x.dtype == values.dtype, (x.dtype, values.dtype)
    tolerance = 1e-5 if values.dtype in (np.float32, np.complex64) else rtol
    assert np.allclose(x.local, part(x, values), rtol=tolerance, atol=tolerance, equal_nan=True), (x.local, part(x, values))
