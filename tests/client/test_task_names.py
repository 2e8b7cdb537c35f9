"""Ids of tasks as runs of numbers: the same as a list of them, and small."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.client.names import Names
from mpicluster.ids import task_id

_ENGINES = st.one_of(st.none(), st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 4), _ENGINES), max_size=12), st.data())
def test_it_is_the_list_of_its_ids(calls, data):
    names, plain = Names(), []
    for client, first, count, engines in calls:
        names.add(client, first, count, engines)
        plain += [task_id(client, first + i, e) for i in range(count) for e in (engines or [-1])]
    assert list(names) == plain
    assert len(names) == len(plain)
    assert names == plain
    assert names == tuple(plain)
    assert [names[i] for i in range(-len(plain), len(plain))] == plain + plain
    cut = data.draw(st.slices(len(plain)))
    assert names[cut] == plain[cut]
    assert all(name in names for name in plain)
    with pytest.raises(IndexError, match="no task"):
        _ = names[len(plain)]


def test_a_million_tasks_are_one_run():
    names = Names()
    for i in range(1_000_000):
        names.add("c", 1 + i, 1)
    assert len(names) == 1_000_000
    assert names[-1] == "c_1000000"
    assert len(names._runs) == 1
    assert sys.getsizeof(names._ends) < 1000
    assert "1000000 ids" in repr(names)


def test_it_can_be_emptied():
    names = Names()
    names.add("c", 1, 3, [0, 2])
    assert repr(names).startswith("['c_1_0', 'c_1_2'")
    names.clear()
    assert names == []
    assert names != ["c_1_0"]
    assert names != "other"
