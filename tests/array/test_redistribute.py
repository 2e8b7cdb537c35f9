"""Arrays keep their values in every layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

LAYOUTS = [xp.Replicated(), xp.Block(0), xp.Block(1), xp.BlockCyclic(0, 2), xp.BlockCyclic(1, 3)]


@pytest.mark.parametrize("shape", [(7, 5), (1, 4), (0, 3), (130, 9)], ids=str)
def test_from_any_layout_to_any_other(comm, shape):
    grids = [(r, comm.size // r) for r in range(1, comm.size + 1) if comm.size % r == 0]
    layouts = [*LAYOUTS, *(xp.BlockCyclic2D(g, (2, 3)) for g in grids)]
    values = np.random.default_rng(1).standard_normal(shape)
    for source, target in itertools.product(layouts, layouts):
        x = xp.asarray(values, layout=source).redistribute(target)
        assert x.layout == target
        assert x.local.shape == target.local_shape(shape, comm.size, comm.rank)
        np.testing.assert_array_equal(np.asarray(x), values)


def test_replicating_is_one_allgather(comm):
    x = xp.zeros((8, 3))
    x.mesh.traffic.clear()
    x.replicate()
    assert x.mesh.traffic.messages == ({} if comm.size == 1 else {"allgather": 1})
