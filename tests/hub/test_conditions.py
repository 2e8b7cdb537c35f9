"""What waits for other tasks: it goes on as soon as it may, or ends as soon as it cannot."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import submit
from test_scheduler import Bench

from mpicluster.errors import ProtocolError
from mpicluster.hub.outcomes import Ended, Outcomes
from mpicluster.hub.records import State
from mpicluster.wire import messages as m


def needs(*tasks, all_=True, success=True, failure=False, others=()):
    return m.Needs([t if isinstance(t, tuple) else (t, -1) for t in tasks], list(others), all_, success, failure)


def after(*tasks, **how):
    return m.Terms(after=needs(*tasks, **how))


def follow(*tasks, **how):
    return m.Terms(follow=needs(*tasks, **how))


def states(bench, task):
    (client,) = bench.scheduler.clients.values()
    return [p.state for p in client.parts.get(task, ())]


def answer(bench, task):
    return [(r.outcome, r.data.decode()) for r in bench.results if r.task == task]


# -- after ---------------------------------------------------------------------------------------------------------------


def test_a_task_runs_after_another():
    bench = Bench(2)
    bench.say(submit(1))
    bench.say(submit(2, terms=after(1)))
    assert states(bench, 2) == [State.WAITING]
    bench.work(0)
    bench.work(1)
    assert states(bench, 2) == [State.ASSIGNED]


def test_a_task_that_ended_before_is_not_waited_for():
    bench = Bench(1)
    bench.say(submit(1))
    bench.work(0)
    bench.say(submit(2, terms=after(1)))
    assert states(bench, 2) == [State.ASSIGNED]


@pytest.mark.parametrize("before", [False, True], ids=["fails later", "has failed"])
def test_a_dependency_that_failed_ends_what_waits_at_once(before):
    bench = Bench(1)
    bench.say(submit(1))
    if before:
        bench.work(0, m.FAILED)
    bench.say(submit(2, terms=after(1)))
    bench.say(submit(3, terms=after(2)))
    if not before:
        bench.work(0, m.FAILED)
    assert answer(bench, 2) == answer(bench, 3) == [(m.REFUSED, "a task it depends on ended badly")]


def test_what_is_to_run_after_a_failure():
    bench = Bench(1)
    bench.say(submit(1))
    bench.say(submit(2, terms=after(1, success=False, failure=True)))
    bench.say(submit(3))
    bench.say(submit(4, terms=after(3, success=False, failure=True)))
    bench.work(0, m.FAILED)
    bench.work(0)
    assert answer(bench, 4) == [(m.REFUSED, "a task it depends on ended well")]
    assert states(bench, 2) == [State.ASSIGNED]


def test_any_of_several():
    """One that ends well is enough; when all have failed there is none."""
    bench = Bench(1)
    bench.say(submit(1, data=[b"a", b"b"]))
    bench.say(submit(3, terms=after(1, 2, all_=False)))
    bench.say(submit(4, data=[b"a", b"b"]))
    bench.say(submit(6, terms=after(4, 5, all_=False)))
    bench.work(0, m.FAILED)
    assert states(bench, 3) == [State.WAITING]
    bench.work(0)
    assert states(bench, 3) == [State.ASSIGNED]
    for outcome in (m.FAILED, m.FAILED, m.FAILED):
        bench.work(0, outcome)
    assert answer(bench, 6) == [(m.REFUSED, "none of the tasks it depends on ended as it should")]


def test_all_tasks_of_a_map_wait():
    bench = Bench(1)
    bench.say(submit(1))
    bench.say(submit(2, data=[b"a", b"b", b"c"], terms=after(1)))
    assert bench.scheduler.balancer.waiting == 0
    bench.work(0)
    assert [states(bench, t) for t in (2, 3, 4)] == [[State.ASSIGNED]] * 3


def test_a_task_of_several_engines_has_ended_when_all_have():
    bench = Bench(2)
    bench.say(submit(1, [0, 1]))
    bench.say(submit(2, terms=after(1)))
    bench.say(submit(3, terms=after((1, 0))))
    bench.work(0)
    assert states(bench, 2) == [State.WAITING]
    assert states(bench, 3) == [State.ASSIGNED], "its part on engine 0 is all that it waits for"
    bench.work(1)
    assert states(bench, 2) == [State.ASSIGNED]


def test_a_part_that_failed_and_one_that_did_not():
    bench = Bench(2)
    bench.say(submit(1, [0, 1]))
    bench.work(0)
    bench.work(1, m.FAILED)
    for task, terms in enumerate((after((1, 0)), after((1, 1)), after(1)), 2):
        bench.say(submit(task, terms=terms))
    assert states(bench, 2) == [State.ASSIGNED]
    assert [o for o, _ in answer(bench, 3) + answer(bench, 4)] == [m.REFUSED, m.REFUSED]


@pytest.mark.parametrize("name", [(7, -1), (2, -1), (1, 0), (-1, -1), (2**62, -1)])
def test_unknown_tasks(name):
    """Tasks that were never submitted; the task itself; an engine where it is not."""
    bench = Bench(1)
    bench.say(submit(1))
    bench.say(submit(2, terms=after(name)))
    ((outcome, why),) = answer(bench, 2)
    assert outcome == m.REFUSED
    assert why.startswith("unknown task")


def test_tasks_of_another_client():
    bench = Bench(1)
    other = b"other-r"
    bench.scheduler.from_client(other, m.Hello("o", 1), 0.0)
    bench.scheduler.from_client(other, submit(1), 0.0)
    bench.turn()
    bench.say(submit(1, terms=after(others=[("o", 1, -1)])))
    assert states(bench, 1) == [State.WAITING] if len(bench.scheduler.clients) == 1 else True
    bench.work(0)
    bench.scheduler.from_client(other, m.Goodbye(), 0.0)
    bench.say(submit(2, terms=after(others=[("o", 1, -1)])))
    bench.say(submit(3, terms=after(others=[("nobody", 1, -1)])))
    bench.work(0)
    bench.work(0)
    assert [o for o, _ in answer(bench, 1) + answer(bench, 2) + answer(bench, 3)] == [m.OK, m.OK, m.REFUSED]


def test_a_task_that_waits_is_cancelled_and_what_waits_for_it_fails():
    bench = Bench(1)
    bench.say(submit(1))
    bench.say(submit(2, terms=after(1)))
    bench.say(submit(3, terms=after(2)))
    bench.say(m.Cancel(1, [2]))
    assert bench.verdicts == {1: True}
    assert [o for o, _ in answer(bench, 2) + answer(bench, 3)] == [m.ABORTED, m.REFUSED]
    bench.work(0)
    assert states(bench, 2) == []


def test_a_hundred_thousand_dependencies():
    """Each end costs what it frees."""
    bench = Bench(1)
    n = 100_000
    bench.scheduler.from_client(b"client-r", submit(1, data=[b""] * n), 0.0)
    bench.scheduler.from_client(b"client-r", submit(n + 1, terms=after(*range(1, n + 1))), 0.0)
    for task in range(n + 2, 2 * n):
        bench.scheduler.from_client(b"client-r", submit(task, terms=after(task - 1)), 0.0)
    bench.scheduler.from_client(b"client-r", m.Cancel(1, list(range(1, n + 1))), 0.0)
    results = [s.message for s in bench.scheduler.decide(0.0) if isinstance(s.message, m.Result)]
    assert [r.outcome for r in results].count(m.REFUSED) == n - 1
    assert len(bench.scheduler.conditions._dependencies) == 0


# -- follow --------------------------------------------------------------------------------------------------------------


def test_a_task_follows_another():
    bench = Bench(3)
    bench.say(submit(1, allowed=[2]))
    bench.say(submit(2, terms=follow(1)))
    bench.work(2)
    assert [a.data for a in bench.queues[2]] == [b"d"]


def test_a_task_cannot_follow_two_that_ran_on_different_engines():
    bench = Bench(2)
    bench.say(submit(1, allowed=[0]))
    bench.say(submit(2, allowed=[1]))
    bench.say(submit(3, terms=follow(1, 2)))
    bench.say(submit(4, terms=follow(1, 2, all_=False)))
    bench.work(0)
    bench.work(1)
    bench.say(submit(5, terms=follow(1, 2)))
    assert [o for o, _ in answer(bench, 3) + answer(bench, 5)] == [m.REFUSED, m.REFUSED]
    assert states(bench, 4) == [State.ASSIGNED]


def test_a_task_cannot_follow_to_where_it_may_not_run():
    bench = Bench(2)
    bench.say(submit(1, allowed=[0]))
    bench.say(submit(2, allowed=[1], terms=follow(1)))
    bench.work(0)
    assert [o for o, _ in answer(bench, 2)] == [m.REFUSED]


def test_a_task_cannot_follow_to_an_engine_that_died():
    bench = Bench(2)
    bench.say(submit(1, allowed=[0]))
    bench.work(0)
    bench.lose(0)
    bench.say(submit(2, terms=follow(1)))
    assert [o for o, _ in answer(bench, 2)] == [m.REFUSED]


# -- times ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits_for_others", [False, True])
def test_what_has_not_begun_in_time_fails(waits_for_others):
    bench = Bench(1)
    bench.say(submit(1, data=[b""] * 3))
    bench.say(submit(4, terms=m.Terms(timeout=5.0, after=needs(1) if waits_for_others else None)))
    assert bench.scheduler.wake_at() == 5.0
    bench.now = 4.9
    bench.turn()
    assert answer(bench, 4) == []
    bench.now = 5.0
    bench.turn()
    ((outcome, why),) = answer(bench, 4)
    assert outcome == m.LATE
    assert ("depends on" in why) == waits_for_others


def test_what_an_engine_has_queued_is_asked_back_when_its_time_is_over():
    bench = Bench(1)
    bench.say(submit(1))
    bench.say(submit(2, terms=m.Terms(timeout=5.0)))
    assert states(bench, 2) == [State.ASSIGNED]
    bench.now = 6.0
    bench.turn()
    assert [o for o, _ in answer(bench, 2)] == [m.LATE]
    assert [a.seq for a in bench.queues[0]] == [1]


def test_what_has_begun_in_time_goes_on():
    bench = Bench(1)
    bench.say(submit(1, terms=m.Terms(timeout=5.0)))
    bench.now = 6.0
    bench.turn()
    assert answer(bench, 1) == []
    bench.work(0)
    assert [o for o, _ in answer(bench, 1)] == [m.OK]


def test_a_time_limit_goes_to_the_engine():
    bench = Bench(1)
    bench.say(submit(1, terms=m.Terms(time_limit=3.0)))
    assert bench.queues[0][0].time_limit == 3.0


# -- priority ------------------------------------------------------------------------------------------------------------


def test_the_more_urgent_is_first():
    bench = Bench(1)
    bench.say(submit(1, data=[b"a", b"b"]))
    for task, priority in ((3, 0), (4, -1), (5, 2), (6, 1)):
        bench.say(submit(task, data=[b"p%d" % priority], terms=m.Terms(priority=priority)))
    order = []
    while bench.queues[0]:
        order.append(bench.queues[0][0].data)
        bench.work(0)
    assert order == [b"a", b"b", b"p2", b"p1", b"p0", b"p-1"]


# -- engines that lack something -----------------------------------------------------------------------------------------


def test_a_task_goes_to_an_engine_that_has_what_it_needs():
    bench = Bench(3)
    bench.say(submit(1))
    tried = []
    for _ in range(3):
        (engine,) = [i for i in range(3) if bench.queues[i]]
        tried.append(engine)
        bench.work(engine, m.UNMET)
    assert sorted(tried) == [0, 1, 2]
    assert [o for o, _ in answer(bench, 1)] == [m.UNMET], "no engine is left"


def test_a_task_does_not_wait_for_an_engine_that_is_stuck():
    bench = Bench(2)
    bench.say(submit(1, targets=[0]))
    bench.hear(0, m.Stuck(bench.queues[0][0].seq, m.LATE, "it sleeps"))
    bench.say(submit(2))
    bench.work(1, m.UNMET)
    assert [o for o, _ in answer(bench, 2)] == [m.UNMET]


# -- nonsense ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms",
    [
        m.Terms(timeout=-1.0),
        m.Terms(time_limit=float("nan")),
        m.Terms(priority=2**40),
        m.Terms(after=m.Needs([], [])),
        m.Terms(after=needs(1, success=False)),
    ],
)
def test_terms_that_make_no_sense(terms):
    bench = Bench(1)
    with pytest.raises(ProtocolError):
        bench.say(submit(1, terms=terms))
    with pytest.raises(ProtocolError):
        bench.say(submit(1, [0], terms=after(1)))
    assert states(bench, 1) == []


# -- outcomes ------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_outcomes_are_remembered_exactly(seed):
    """Against a plain dict."""
    rng = random.Random(seed)
    outcomes, known = Outcomes(), {}
    for _ in range(rng.randint(1, 20)):
        client, task = rng.randint(1, 2), rng.choice([1, 2, 4095, 4096, 2**40])
        if (client, task) in known:
            continue
        engines = rng.sample(range(5), rng.randint(1, 5))
        parts = known[client, task] = {}
        for i, engine in enumerate(engines):
            parts[engine] = rng.random() < 0.6
            last = i == len(engines) - 1
            if len(engines) > 1:
                outcomes.ended(client, task, engine, well=parts[engine], last=last)
            else:
                outcomes.ended_one(client, task, engine, well=parts[engine])
            for e in range(5):
                if len(engines) > 1 or last:
                    assert outcomes.get(client, task, e) == (Ended(parts[e], frozenset([e])) if e in parts else None)
            whole = outcomes.get(client, task, -1)
            assert whole == (Ended(all(parts.values()), frozenset(parts)) if last else None)
    assert outcomes.get(9, 1, -1) is None
