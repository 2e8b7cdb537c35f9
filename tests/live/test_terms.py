"""What the scheduler makes of terms: order, place, time, importance, and what comes of what cannot be."""

from __future__ import annotations

import os
import time

import pytest

import mpicluster
from mpicluster import (
    Client,
    Dependency,
    DependencyTimeout,
    ImpossibleDependency,
    InvalidDependency,
    TaskTimeout,
    UnmetDependency,
    depend,
    interactive,
    require,
)

TIMEOUT = 30


def wait_for_file(path, value=None):
    deadline = time.monotonic() + 120
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return value


def note(path, word):
    """Append a word to a file that all engines share."""
    with open(path, "a") as f:
        f.write(f"{word} ")
    return word


def engine():
    return mpicluster.comm.rank


@pytest.fixture
def gate(tmp_path):
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes"
    path.touch()
    return path


# -- after and follow --------------------------------------------------------------------------------------------------


def test_a_task_begins_after_another(rc, gate, notes):
    view = rc.load_balanced_view()
    first = view.apply_async(wait_for_file, str(gate))
    with view.temp_flags(after=first):
        second = view.map_async(note, [str(notes)] * 3, ["a", "b", "c"])
    assert second.wait(timeout=0.05) is False
    assert notes.read_text() == ""
    gate.touch()
    assert second.get(timeout=TIMEOUT) == ["a", "b", "c"]
    assert all(begun >= first.completed for begun in second.started)


def test_a_chain_of_tasks_is_done_in_order(rc, notes):
    view = rc.load_balanced_view()
    results = []
    for i in range(50):
        with view.temp_flags(after=results[-1:] or None):
            results.append(view.apply_async(note, str(notes), i))
    assert rc.wait(results, timeout=TIMEOUT)
    assert notes.read_text().split() == [str(i) for i in range(50)]


def test_any_of_some_tasks_is_enough(rc4, gate):
    view = rc4.load_balanced_view()
    held, quick = view.apply_async(wait_for_file, str(gate)), view.apply_async(abs, -1)
    with view.temp_flags(after=Dependency([held, quick], all=False)):
        early = view.apply_async(abs, -2)
    with view.temp_flags(after=[held, quick]):
        late = view.apply_async(abs, -3)
    assert early.get(timeout=TIMEOUT) == 2
    assert not late.done()
    gate.touch()
    assert late.get(timeout=TIMEOUT) == 3


def test_a_task_runs_where_another_has_run(rc4):
    view = rc4.load_balanced_view()
    places = [rc4[i].apply_async(engine) for i in range(4)]
    for i, place in enumerate(places):
        with view.temp_flags(follow=place):
            assert view.map_async(lambda _: mpicluster.comm.rank, range(5)).get(timeout=TIMEOUT) == [i] * 5


def test_a_task_cannot_be_near_to_two_engines_at_once(rc4):
    view = rc4.load_balanced_view()
    places = [rc4[i].apply_async(abs, -1) for i in (0, 1)]
    with view.temp_flags(follow=places), pytest.raises(ImpossibleDependency):
        view.apply_async(abs, -1).get(timeout=TIMEOUT)
    with view.temp_flags(follow=Dependency(places, all=False)):
        assert view.apply_async(engine).get(timeout=TIMEOUT) in (0, 1)


def test_what_waits_for_a_failure(rc):
    view = rc.load_balanced_view()
    bad = view.apply_async(divmod, 1, 0)
    with view.temp_flags(after=bad):
        impossible = view.apply_async(abs, -1)
    with view.temp_flags(after=impossible):
        chained = view.apply_async(abs, -1)
    with view.temp_flags(after=Dependency(bad, success=False, failure=True)):
        cleanup = view.apply_async(abs, -2)
    with view.temp_flags(after=Dependency(bad, failure=True)):
        anyway = view.apply_async(abs, -3)
    for result in (impossible, chained):
        with pytest.raises(ImpossibleDependency):
            result.get(timeout=TIMEOUT)
        assert result.status == "error"
    assert (cleanup.get(timeout=TIMEOUT), anyway.get(timeout=TIMEOUT)) == (2, 3)
    good = view.apply_async(abs, -1)
    with view.temp_flags(after=Dependency(good, success=False, failure=True)), pytest.raises(ImpossibleDependency):
        view.apply_async(abs, -1).get(timeout=TIMEOUT)


def test_what_waits_for_a_task_that_was_taken_back(rc4, gate):
    held = rc4[:].apply_async(wait_for_file, str(gate))
    view = rc4.load_balanced_view()
    queued = view.apply_async(abs, -1)
    with view.temp_flags(after=queued):
        waiting = view.apply_async(abs, -2)
    assert queued.cancel() is True
    with pytest.raises(ImpossibleDependency):
        waiting.get(timeout=TIMEOUT)
    with view.temp_flags(after=held):
        taken = view.apply_async(abs, -3)
    assert taken.cancel() is True
    gate.touch()
    held.get(timeout=TIMEOUT)


def test_what_waits_for_no_task_at_all(rc):
    view = rc.load_balanced_view()
    for unknown in (f"{rc.id}_999999", "nobody_1"):
        with view.temp_flags(after=unknown), pytest.raises(InvalidDependency):
            view.apply_async(abs, -1).get(timeout=TIMEOUT)


def test_what_waits_for_a_part_of_a_call_or_another_clients_task(rc4, gate):
    with Client(rc4.contact) as other:
        held = other[:].apply_async(abs, -1)
        assert held.get(timeout=TIMEOUT) == [1] * 4
        view = rc4.load_balanced_view()
        with view.temp_flags(after=held.msg_ids, follow=held.msg_ids[2]):
            assert view.apply_async(engine).get(timeout=TIMEOUT) == 2


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_task_that_does_not_begin_in_time_fails(rc4, gate):
    held = rc4[:].apply_async(wait_for_file, str(gate))
    view = rc4.load_balanced_view()
    with view.temp_flags(timeout=0.1):
        late = view.apply_async(abs, -1)
    with view.temp_flags(timeout=0.1, after=held):
        waiting = view.apply_async(abs, -1)
    with view.temp_flags(timeout=600):
        patient = view.apply_async(abs, -1)
    for result in (late, waiting):
        with pytest.raises(DependencyTimeout) as caught:
            result.get(timeout=TIMEOUT)
        assert isinstance(caught.value, TaskTimeout)
    gate.touch()
    assert patient.get(timeout=TIMEOUT) == 1


def test_a_task_that_runs_too_long_is_ended(rc):
    """And the engine goes on, with its namespace."""
    rc[:].push({"kept": 5}, block=True)
    view = rc.load_balanced_view(time_limit=0.2)
    result = view.apply_async(wait_for_file, "/nowhere")
    with pytest.raises(TaskTimeout) as caught:
        result.get(timeout=TIMEOUT)
    assert not isinstance(caught.value, DependencyTimeout)
    assert view.apply_async(abs, -1).get(timeout=TIMEOUT) == 1
    assert rc[:]["kept"] == [5] * len(rc)


def test_a_limit_that_is_not_reached_does_nothing(rc):
    view = rc.load_balanced_view(time_limit=600, timeout=600)
    assert view.map_async(abs, range(-200, 0)).get(timeout=TIMEOUT) == list(range(200, 0, -1))


# -- importance --------------------------------------------------------------------------------------------------------


def test_what_is_more_important_goes_first(rc, gate, notes):
    """Of what may begin at the same moment; what an engine has been given ahead stays in its order."""
    view = rc.load_balanced_view(targets=[0])
    held = view.apply_async(wait_for_file, str(gate))
    results = []
    for priority in (0, 5, -5, 5, 10):
        with view.temp_flags(priority=priority, after=held):
            results.append(view.apply_async(note, str(notes), priority))
    rc.queue_status()  # answered after all that was said before: the hub has them
    gate.touch()
    held.get(timeout=TIMEOUT)
    assert rc.wait(results, timeout=TIMEOUT)
    assert notes.read_text().split() == ["10", "5", "5", "0", "-5"]


# -- functional dependencies -------------------------------------------------------------------------------------------


def test_a_task_goes_on_to_an_engine_that_has_what_it_needs(rc4):
    view = rc4.load_balanced_view()
    only_3 = depend(interactive(lambda: rank == 3))(engine)  # noqa: F821
    results = [view.apply_async(only_3) for _ in range(20)]
    assert [r.get(timeout=TIMEOUT) for r in results] == [3] * 20
    odd = depend(interactive(lambda: rank % 2 == 1))(lambda _: mpicluster.comm.rank)  # noqa: F821
    assert set(view.map_async(odd, range(50)).get(timeout=TIMEOUT)) <= {1, 3}
    assert set(view.map_async(odd, range(50), chunksize=7, return_exceptions=True).get(timeout=TIMEOUT)) <= {1, 3}


def test_a_task_that_no_engine_can_run_is_impossible(rc):
    view = rc.load_balanced_view(retries=0)
    for function in (depend(bool, False)(abs), require("no_such_module")(abs)):
        result = view.apply_async(function, -1)
        with pytest.raises(ImpossibleDependency) as caught:
            result.get(timeout=TIMEOUT)
        assert isinstance(caught.value, UnmetDependency)
    with pytest.raises(ImpossibleDependency):
        rc.load_balanced_view(targets=[0]).apply_async(depend(interactive(lambda: rank != 0))(abs), 1).get(timeout=TIMEOUT)  # noqa: F821
    assert view.apply_async(abs, -1).get(timeout=TIMEOUT) == 1


def test_an_unmet_dependency_costs_no_retry(rc4, notes):
    """It is on an engine that has what it needs that a task may fail, and be tried again."""

    def fails(path):
        note(path, "x")
        raise ZeroDivisionError

    on_two = depend(interactive(lambda: rank in (1, 2)))(fails)  # noqa: F821
    with pytest.raises(ZeroDivisionError):
        rc4.load_balanced_view(retries=1).apply_async(on_two, str(notes)).get(timeout=TIMEOUT)
    assert notes.read_text().split() == ["x", "x"]
