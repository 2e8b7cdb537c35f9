"""What is divided comes together again."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.serial.partition import block_sizes, join, scattering, split

DIST = st.sampled_from(["b", "r"])
PARTS = st.integers(1, 9)


@given(st.integers(0, 10**6), PARTS)
def test_block_sizes_differ_by_one_at_most(length, n):
    sizes = block_sizes(length, n)
    assert sum(sizes) == length
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@given(st.one_of(st.lists(st.integers()), st.lists(st.integers()).map(tuple), st.text(), st.binary()), PARTS, DIST)
def test_join_is_the_inverse_of_split(sequence, n, dist):
    parts = split(sequence, n, dist)
    assert len(parts) == n
    assert join(parts, dist) == sequence


@pytest.mark.parametrize("make", [dict, collections.Counter, lambda x: collections.defaultdict(list, x), collections.OrderedDict])
def test_mappings_are_divided_by_keys(make):
    """And are not changed, though some take slices as keys."""
    mapping = make({"a": 1, "b": 2, "c": 3})
    assert split(mapping, 2) == [["a", "b"], ["c"]]
    assert len(mapping) == 3


@given(st.integers(0, 40), PARTS, DIST, st.sampled_from(["i1", ">i4", "f2", "c8", "?", "M8[D]", "S3", "i4,f8"]))
def test_arrays_keep_their_dtype(length, n, dist, dtype):
    array = np.zeros(length, dtype)
    if dtype != "i4,f8":
        array[:] = np.arange(length).astype(dtype)
    whole = join(split(array, n, dist), dist)
    assert whole.dtype == array.dtype
    assert whole.tobytes() == array.tobytes()


@given(st.integers(0, 20), st.integers(0, 4), PARTS, DIST)
def test_a_plan_accounts_for_every_byte(rows, columns, n, dist):
    array = np.arange(rows * columns, dtype="i4").reshape(rows, columns)
    plan, raw = scattering("a", array, n, dist, flatten=False)
    assert sum(plan.counts) * plan.unit == raw.nbytes == array.nbytes
    assert sum(plan.lengths) == rows


def test_an_unknown_distribution_is_refused():
    for call in (lambda: split([1], 2, "x"), lambda: join([[1]], "x"), lambda: scattering("a", [1], 2, "x", flatten=False)):
        with pytest.raises(ValueError, match="dist must be"):
            call()


@pytest.mark.parametrize("value", [3, None, np.array(1.0)], ids=repr)
def test_what_has_no_items_is_refused(value):
    with pytest.raises(TypeError):
        scattering("a", value, 2, "b", flatten=False)
