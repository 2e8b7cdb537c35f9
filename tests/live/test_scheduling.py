"""How tasks are asked for, as far as client and engines decide it: labels, retries, priorities that change no value, who may run what."""

from __future__ import annotations

import pytest

import mpicluster
from mpicluster import Dependency, FlagError, interactive

TIMEOUT = 30


def test_a_label_is_kept_with_its_task(rc):
    view = rc.load_balanced_view(label="base")
    assert view.apply_async(abs, -1).label == "base"
    result = view.map_async(abs, [-1, -2], label="map")
    assert result.get(timeout=TIMEOUT) == [1, 2]
    assert result.label == [r.label for r in result.metadata] == ["map", "map"]
    with view.temp_flags(label="call"):
        single = view.apply_async(abs, -1)
    assert single.get(timeout=TIMEOUT) == 1
    assert (single.label, single.metadata.label) == ("call", "call")
    assert rc[:].apply_async(abs, -1).metadata[0].label is None


def test_what_a_task_waits_for_is_in_its_metadata(rc):
    view = rc.load_balanced_view()
    first = view.apply_async(abs, -1)
    assert first.get(timeout=TIMEOUT) == 1
    with view.temp_flags(after=first, follow=[first], priority=5, timeout=60, time_limit=60):
        second = view.apply_async(abs, -2)
    assert second.get(timeout=TIMEOUT) == 2
    assert (second.after, second.follow) == (first.msg_ids, first.msg_ids)
    assert first.metadata.after is None
    assert view.after is None


@pytest.mark.parametrize("given", ["result", "id", "list", "dependency", "mixed"])
def test_a_task_after_one_that_has_ended_runs_at_once(rc, given):
    view = rc.load_balanced_view()
    first, other = view.map_async(abs, [-1, -2]), rc[:].apply_async(abs, -3)
    assert first.get(timeout=TIMEOUT) == [1, 2]
    other.get(timeout=TIMEOUT)
    after = {
        "result": first,
        "id": first.msg_ids[0],
        "list": first.msg_ids,
        "dependency": Dependency([first, other], all=False),
        "mixed": [first, other.msg_ids[0], Dependency(other)],
    }[given]
    with view.temp_flags(after=after):
        assert view.apply_async(abs, -5).get(timeout=TIMEOUT) == 5
        assert view.map_async(abs, range(-3, 0)).get(timeout=TIMEOUT) == [3, 2, 1]


def test_wrong_flags_are_told_before_anything_is_sent(rc):
    view = rc.load_balanced_view()
    for flags, kind in (
        ({"after": "nothing"}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"priority": "x"}, TypeError),
        ({"x": 1}, FlagError),
    ):
        with pytest.raises(kind), view.temp_flags(**flags):
            pytest.fail("they were taken")
    assert not view.outstanding
    assert view.apply_sync(abs, -1) == 1


def test_a_met_dependency_is_no_obstacle(rc):
    view = rc.load_balanced_view()
    here = mpicluster.depend(interactive(lambda: rank >= 0))(abs)  # noqa: F821
    assert view.apply_sync(here, -2) == 2
    assert view.map_sync(here, range(-9, 0)) == list(range(9, 0, -1))
    assert rc[:].map_sync(here, range(-9, 0)) == list(range(9, 0, -1))
