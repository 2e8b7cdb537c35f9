"""What a task waits for: said in many ways, checked at once, told the hub in one."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest

import mpicluster
from mpicluster.client.dependency import Dependency, as_dependency, needs
from mpicluster.client.result import AsyncResult
from mpicluster.wire.messages import Needs

A, B, C = "c1_1", "c1_2_0", "c2_7"


def result(task=5, engines=None, slots=1):
    made = AsyncResult(SimpleNamespace(id="c1"), "f", slots, single=slots == 1)
    made._number(0, task, engines)
    return made


@pytest.mark.parametrize(
    ("options", "completed", "failed", "met", "unreachable"),
    [
        ({}, [A], [], False, False),
        ({}, [A, B, C], [], True, False),
        ({}, [A, B], [C], False, True),
        ({"all": False}, [A], [B], True, False),
        ({"all": False}, [], [A, B], False, False),
        ({"all": False}, [], [A, B, C], False, True),
        ({"failure": True}, [A, B], [C], True, False),
        ({"failure": True, "success": False}, [], [A, B, C], True, False),
        ({"failure": True, "success": False}, [A], [B], False, True),
        ({"failure": True, "success": False, "all": False}, [A], [B], True, False),
        ({"failure": True, "success": False, "all": False}, [A, B, C], [], False, True),
    ],
)
def test_when_a_dependency_is_met_and_when_it_cannot_be(options, completed, failed, met, unreachable):
    dependency = Dependency([A, B, C], **options)
    assert dependency.check(completed, failed) is met
    assert dependency.unreachable(set(completed), set(failed)) is unreachable


def test_no_tasks_are_always_met():
    assert Dependency().check([])
    assert Dependency().check(set(), None)
    assert not Dependency().unreachable([A], [B])


def test_a_dependency_is_a_set_with_an_opinion():
    dependency = Dependency([B, A, A], all=False)
    assert set(dependency) == {A, B}
    assert dependency == Dependency([A, B], all=False)
    assert dependency != Dependency([A, B])
    assert len({dependency, Dependency([A, B], all=False), Dependency([A, B])}) == 2
    assert repr(dependency) == f"Dependency(['{A}', '{B}'], all=False, success=True, failure=False)"
    assert Dependency(dependency.as_dict()) == dependency
    assert pickle.loads(pickle.dumps(dependency)) == copy.copy(dependency) == dependency
    assert mpicluster.Dependency is Dependency


def test_results_and_ids_may_be_mixed():
    several = result(9, [0, 3], 2)
    assert set(Dependency([A, result(5), several])) == {A, "c1_5", "c1_9_0", "c1_9_3"}
    assert set(Dependency(result(4, None, 3))) == {"c1_4", "c1_5", "c1_6"}
    assert set(Dependency(A)) == {A}


@pytest.mark.parametrize("wrong", ["nothing", "", "c1", "c1_x", "c1_1_2_3", ["c1_1", "no id"]])
def test_what_is_no_id_is_refused(wrong):
    for make in (Dependency, as_dependency):
        with pytest.raises(ValueError, match="is not the id of a task"):
            make(wrong)


@pytest.mark.parametrize("wrong", [5, [5], [None], b"c1_1", object()])
def test_what_is_no_task_is_refused(wrong):
    for make in (Dependency, as_dependency):
        with pytest.raises(TypeError):
            make(wrong)


def test_a_dependency_on_no_kind_of_end_is_refused():
    with pytest.raises(ValueError, match="neither well nor badly"):
        Dependency([A], success=False, failure=False)


def test_dependencies_are_put_together_only_if_that_means_something():
    assert as_dependency([Dependency([A]), Dependency([B]), C]) == Dependency([A, B, C])
    assert as_dependency([Dependency([A], failure=True), Dependency([B], failure=True)]) == Dependency([A, B], failure=True)
    assert as_dependency([Dependency([A, B], all=False)]) == Dependency([A, B], all=False)
    for parts in ([Dependency([A], all=False), Dependency([B], all=False)], [Dependency([A], failure=True), B]):
        with pytest.raises(ValueError, match="these are different"):
            as_dependency(parts)


def test_nothing_to_wait_for_is_nothing():
    for nothing in (None, [], Dependency(), result(1, None, 0), [result(1, None, 0)]):
        assert as_dependency(nothing) is None
    assert needs(None, "c1") is None
    assert needs(Dependency(), "c1") is None


def test_the_hub_is_told_whose_tasks_they_are():
    dependency = Dependency([A, B, C], all=False, failure=True)
    assert needs(dependency, "c1") == Needs([(1, -1), (2, 0)], [("c2", 7, -1)], False, True, True)
    assert needs(Dependency([A]), "other") == Needs([], [("c1", 1, -1)])
