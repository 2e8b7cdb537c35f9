"""The arithmetic of panels, without MPI."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpicluster import linalg
from mpicluster.linalg.panels import Panels


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 5))
def test_panels_are_what_the_layout_says(length, nb, size):
    for rank in range(size):
        panels = Panels(length, nb, size, rank)
        indices = panels.indices()
        assert len(indices) == panels.local == panels.layout.local_shape((length,), size, rank)[0]
        mine = [k for k in range(panels.count) if panels.owner(k) == rank]
        if size > 1:
            assert list(panels.within(slice(0, panels.local))) == mine
        for k in range(panels.count):
            rows = panels.rows(k)
            if k in mine:
                np.testing.assert_array_equal(indices[panels.mine(k)], range(rows.start, rows.stop))
            assert (indices[panels.before(k)] < rows.start).all()
            assert (indices[panels.after(k)] >= rows.stop).all()
            held = panels.mine(k).stop - panels.mine(k).start if k in mine else 0
            assert panels.before(k).stop + held == panels.after(k).start


def test_every_rank_gets_work():
    class Mesh:
        rank = 0

        def __init__(self, size):
            self.size = size

    assert Panels.of(Mesh(1), 5000).count == 1
    assert Panels.of(Mesh(4), 5000).nb == 128
    for size in (2, 3, 4, 16):
        assert Panels.of(Mesh(size), 300).nb < 128
        assert Panels.of(Mesh(size), 64 * size).count >= 4 * size
    assert Panels.of(Mesh(3), 0).count == 0


def test_no_function_is_hidden_by_a_module_of_its_name():
    assert not set(linalg._NAMES) & set(linalg.__all__)
