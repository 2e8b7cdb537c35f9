"""The distinct elements are NumPy's, however they are spread over the ranks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from against_numpy import layouts, same
from test_sorting import matrices, samples

import mpicluster.array as xp

pytestmark = pytest.mark.spmd


def test_distinct_elements(comm):
    for values in itertools.chain(samples(), matrices(), [np.asarray(3), np.asarray(np.nan)]):
        distinct, index, inverse, counts = np.unique(values, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
        inverse = inverse.reshape(values.shape)
        for layout in layouts(values.shape, comm.size):
            x = xp.asarray(values, layout=layout)
            found = xp.unique_all(x)
            assert found._fields == ("values", "indices", "inverse_indices", "counts")
            same(found.values, distinct)
            same(found.indices, index)
            same(found.inverse_indices, inverse)
            same(found.counts, counts)
            same(xp.unique_values(x), distinct)
            found = xp.unique_counts(x)
            assert found._fields == ("values", "counts")
            same(found.values, distinct)
            same(found.counts, counts)
            found = xp.unique_inverse(x)
            assert found._fields == ("values", "inverse_indices")
            same(found.values, distinct)
            places = np.asarray(found.inverse_indices)  # which NaN is which, nobody knows
            assert np.array_equal(distinct[places], values, equal_nan=values.dtype.kind in "fc")
            assert len(np.unique(places)) == len(distinct)
            expected = xp.Replicated() if isinstance(layout, xp.Replicated) else xp.Block(0)
            assert found.values.layout == expected
            if isinstance(layout, xp.Block | xp.Replicated):
                assert found.inverse_indices.layout == x.layout


def test_each_nan_is_distinct(comm):
    found = xp.unique_all(xp.asarray([np.nan, 1.0, np.nan, np.nan, 1.0]))
    same(found.counts, [2, 1, 1, 1])
    same(found.indices, [1, 0, 2, 3])
    same(found.inverse_indices, [1, 0, 2, 3, 0])


def test_only_what_is_distinct_on_a_rank_travels(comm):
    values = np.random.default_rng(1).integers(0, 5, 100_000)
    x = xp.asarray(values)
    x.mesh.traffic.clear()
    found = xp.unique_all(x)
    assert sum(x.mesh.traffic.nbytes.values()) < 4000
    same(found.counts, np.bincount(values))
    same(found.inverse_indices, values)
