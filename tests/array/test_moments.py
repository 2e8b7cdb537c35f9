"""Mean and variance of a block, by pieces of it: NumPy's, whatever the shape, the axes and the order in memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mpicluster.array import moments


@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_pieces_of_any_size_give_numpys_variance(at_once, monkeypatch):
    monkeypatch.setattr(moments, "_AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    for shape, worth in itertools.product([(50,), (7, 6), (3, 40), (4, 5, 6), (2, 0, 3), (0,), (1, 1)], [1, 1000]):
        monkeypatch.setattr(moments, "_WORTH_COMBINING", worth)
        values = rng.standard_normal(shape) + 3
        for data in (values, np.asfortranarray(values), values + 1j * values[::-1], (values * 10).astype(np.int8)):
            kind = data.dtype if data.dtype.kind in "fc" else np.dtype(float)
            for axes in (a for k in range(data.ndim + 1) for a in itertools.combinations(range(data.ndim), k)):
                n = int(np.prod([shape[a] for a in axes]))
                found = moments.moments(data, axes, kind)
                if n and data.size:
                    assert (found["count"] == n).all()
                    np.testing.assert_allclose(found["mean"], data.mean(axes, keepdims=True), rtol=1e-13, atol=1e-13)
                    np.testing.assert_allclose(found["squares"] / n, data.var(axes, keepdims=True), rtol=1e-13, atol=1e-13)
                else:
                    assert found.shape == np.sum(data, axes, keepdims=True).shape
                    assert (found["count"] == 0).all()


def test_precision_does_not_suffer_from_many_elements():
    data = np.tile(np.array([1e4, 1e4 + 1], np.float32), 1 << 19)
    found = moments.moments(data, (0,), data.dtype)
    assert found["mean"][0] == np.float32(1e4 + 0.5)
    assert abs(found["squares"][0] / data.size - 0.25) < 1e-6
