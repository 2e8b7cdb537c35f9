"""Which engine gets the next part, and which parts are taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.config import PREFETCH_MAX, SCHEMES
from mpicluster.hub.balance import Balancer
from mpicluster.hub.records import ClientRecord, EngineRecord, Job, Part, State
from mpicluster.wire import messages as m

ANN, BOB = ClientRecord("ann", b"a-r"), ClientRecord("bob", b"b-r")


def engine_of(number):
    return EngineRecord(m.EngineInfo(number, number, "host", 100 + number, 1))


def parts_of(client, count=1, allowed=(), sizes=()):
    job = Job(client, m.Submit(1, "apply", None, list(allowed), b"f", [b"d"] * count, b"", list(sizes), "", 0), 0)
    return [Part(job, i, None) for i in range(count)]


class Table:
    """A balancer and its engines, which take what they are given."""

    def __init__(self, count, mean=None, scheme="leastload"):
        self.engines = {i: engine_of(i) for i in range(count)}
        self.balancer = Balancer(self.engines, scheme)
        for engine in self.engines.values():
            engine.mean = mean
            self.balancer.update(engine)

    def take(self, engine, part):
        part.to("assign")
        engine.seq += 1
        part.seq, part.engine = engine.seq, engine.info.id
        engine.hold(part)
        self.balancer.update(engine)

    def fill(self):
        """Assign all that can be; pairs of engine and part, in their order."""
        given = []
        for engine, part in self.balancer.assignments():
            self.take(engine, part)
            given.append((engine.info.id, part))
        return given

    def finish(self, number):
        engine = self.engines[number]
        engine.release(next(iter(engine.parts))).to("end")
        self.balancer.update(engine)

    def loads(self):
        return [len(e.parts) for e in self.engines.values()]


def test_idle_engines_come_first():
    table = Table(4)
    table.balancer.add(parts_of(ANN, 4))
    table.fill()
    assert table.loads() == [1, 1, 1, 1]


def test_an_engine_of_unknown_speed_has_one_part_ahead():
    table = Table(2)
    table.balancer.add(parts_of(ANN, 9))
    table.fill()
    assert table.loads() == [2, 2]
    assert table.balancer.waiting == 5


@pytest.mark.parametrize(("mean", "depth"), [(10.0, 2), (0.02, 2), (0.01, 3), (0.001, 21), (0.0, 1 + PREFETCH_MAX)])
def test_the_faster_the_tasks_the_more_are_ahead(mean, depth):
    table = Table(1, mean)
    assert table.balancer.depth(table.engines[0]) == depth
    table.balancer.add(parts_of(ANN, depth + 5))
    table.fill()
    assert table.loads() == [depth]


def test_parts_keep_their_order():
    table = Table(1)
    parts = parts_of(ANN, 6)
    table.balancer.add(parts)
    order = [part for _, part in table.fill()]
    while any(table.loads()):
        table.finish(0)
        order += [part for _, part in table.fill()]
    assert order == parts


def test_what_has_waited_already_goes_first():
    table = Table(1)
    later, returned = parts_of(ANN, 2), parts_of(ANN)
    table.balancer.add(later)
    table.balancer.add(returned, first=True)
    assert table.fill()[0][1] is returned[0]


def test_clients_take_turns():
    table = Table(1, mean=0.005)
    table.balancer.add(parts_of(ANN, 100))
    table.balancer.add(parts_of(BOB, 2))
    assert [part.job.client.id for _, part in table.fill()][:4] == ["ann", "bob", "ann", "bob"]


def test_only_an_allowed_engine_gets_a_part():
    table = Table(3)
    table.balancer.add(parts_of(ANN, 10, allowed=[1]))
    assert {number for number, _ in table.fill()} == {1}
    assert table.loads() == [0, 2, 0]


def test_a_part_that_may_not_run_anywhere_free_does_not_stop_others():
    table = Table(2)
    table.balancer.add(parts_of(ANN, 5, allowed=[0]))
    table.balancer.add(parts_of(ANN, 2, allowed=[1]))
    table.fill()
    assert table.loads() == [2, 2]


def test_a_part_that_has_ended_in_its_queue_is_passed_over():
    table = Table(1)
    parts = parts_of(ANN, 3)
    table.balancer.add(parts)
    parts[0].to("end")
    assert table.balancer.waiting == 2
    assert [part for _, part in table.fill()] == parts[1:]
    assert table.balancer.waiting == 0


def test_many_ended_parts_do_not_stay_in_the_queues():
    table = Table(0)
    parts = parts_of(ANN, 1000)
    table.balancer.add(parts)
    for part in parts[:-1]:
        part.to("end")
        table.balancer.dropped()
    assert table.balancer.waiting == 1
    assert sum(map(len, table.balancer._queues.values())) < 200


def test_a_part_avoids_the_engine_where_it_failed():
    table = Table(2)
    failed, other = parts_of(ANN), parts_of(ANN)
    failed[0].avoid = 0
    table.balancer.add(failed)
    table.balancer.add(other)
    assert dict(table.fill()) == {0: other[0], 1: failed[0]}


def test_a_part_goes_back_to_where_it_failed_when_there_is_no_other():
    table = Table(2)
    parts = parts_of(ANN, allowed=[0])
    parts[0].avoid = 0
    table.balancer.add(parts)
    assert table.fill() == [(0, parts[0])]


def test_parts_of_engines_that_are_gone_are_dropped():
    table = Table(2)
    impossible, possible = parts_of(ANN, 2, allowed=[1]), parts_of(ANN, 1)
    table.balancer.add(impossible)
    table.balancer.add(possible)
    del table.engines[1]
    table.balancer.remove(1)
    assert table.balancer.drop_impossible() == impossible
    assert [part for _, part in table.fill()] == possible


def crowd(table, parts):
    """Give all of these to engine 0."""
    for part in parts:
        table.take(table.engines[0], part)


def test_half_of_what_piled_up_is_taken_back_for_an_idle_engine():
    table = Table(2)
    parts = parts_of(ANN, 7)
    crowd(table, parts)
    assert table.balancer.to_withdraw(1.0) == [(table.engines[0], parts[4:])]


def test_the_running_part_is_never_taken_back():
    table = Table(2)
    crowd(table, parts_of(ANN, 1))
    assert table.balancer.to_withdraw(1.0) == []


def test_an_engine_is_asked_once_at_a_time():
    table = Table(2)
    crowd(table, parts_of(ANN, 4))
    table.engines[0].withdrawing.add(4)
    assert table.balancer.to_withdraw(1.0) == []
    assert table.balancer.wake_at(0.0) is None


@pytest.mark.parametrize("options", [{"sizes": [10]}, {"allowed": [0]}], ids=["large", "not allowed elsewhere"])
def test_a_part_that_would_not_gain_stays(options):
    table = Table(2)
    crowd(table, [*parts_of(ANN), *parts_of(ANN, 1, **options)])
    assert table.balancer.to_withdraw(1.0) == []


def test_a_part_that_failed_on_the_idle_engine_stays():
    table = Table(2)
    parts = parts_of(ANN, 2)
    parts[1].avoid = 1
    crowd(table, parts)
    assert table.balancer.to_withdraw(1.0) == []


def test_a_direct_part_stays_where_it_was_sent():
    table = Table(2)
    job = Job(ANN, m.Submit(1, "apply", [0], [], b"f", [b"d"], b"", [], "", 0), 0)
    crowd(table, [*parts_of(ANN), Part(job, 0, 0)])
    assert table.balancer.to_withdraw(1.0) == []


@given(st.floats(0, 1e9, allow_nan=False))
def test_who_wakes_when_told_finds_work_to_take_back(begun_at):
    """A rounding error between the two questions would leave a task behind a long one for ever."""
    table = Table(2)
    crowd(table, parts_of(ANN, 2))
    table.engines[0].begun_at = begun_at
    wake = table.balancer.wake_at(begun_at)
    assert wake is not None
    assert table.balancer.to_withdraw(begun_at) == []
    assert table.balancer.to_withdraw(wake)


@given(st.data())
def test_nothing_is_lost_and_nothing_is_given_twice(data):
    table = Table(data.draw(st.integers(1, 4)))
    everything, given_out = [], []
    for _ in range(data.draw(st.integers(1, 30))):
        if data.draw(st.booleans()):
            allowed = data.draw(st.lists(st.sampled_from(sorted(table.engines)), unique=True))
            new = parts_of(data.draw(st.sampled_from([ANN, BOB])), data.draw(st.integers(1, 5)), allowed)
            table.balancer.add(new)
            everything += new
        else:
            number = data.draw(st.sampled_from(sorted(table.engines)))
            if table.engines[number].parts:
                table.finish(number)
        given_out += [part for _, part in table.fill()]
    for _ in range(len(everything)):
        for number, engine in table.engines.items():
            if engine.parts:
                table.finish(number)
        given_out += [part for _, part in table.fill()]
    assert len(given_out) == len(set(given_out)) == len(everything)
    assert all(part.state is State.ENDED for part in everything)


# -- schemes -------------------------------------------------------------------------------------------------------------


def served(scheme, tasks, engines=4):
    """The engines that one task after another is given to, each done before the next one comes."""
    table = Table(engines, scheme=scheme)
    order = []
    for _ in range(tasks):
        table.balancer.add(parts_of(ANN))
        ((number, _),) = table.fill()
        order.append(number)
        table.finish(number)
    return order


def test_round_robin_serves_engines_in_turn():
    assert served("roundrobin", 10) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("scheme", ["random", "weighted"])
def test_random_schemes_serve_all(scheme):
    assert set(served(scheme, 200)) == {0, 1, 2, 3}


def test_the_weighted_scheme_prefers_those_with_less():
    wins = 0
    for _ in range(300):
        table = Table(2, scheme="weighted", mean=0.001)
        for part in parts_of(ANN, 9):
            table.take(table.engines[0], part)
        table.balancer.add(parts_of(BOB))
        wins += table.fill()[0][0] == 1
    assert wins > 200, "of two, that with nothing to do is likely to be first"


@pytest.mark.parametrize("scheme", SCHEMES)
@given(st.integers(1, 5), st.integers(0, 60))
def test_each_scheme_gives_out_all_that_there_is_room_for(scheme, engines, count):
    table = Table(engines, mean=1.0, scheme=scheme)
    parts = parts_of(ANN, count) if count else []
    table.balancer.add(parts)
    assert len(table.fill()) == min(count, 2 * engines)
    assert max(table.loads()) <= 2


def test_a_scheme_that_does_not_exist():
    with pytest.raises(ValueError, match="there are leastload"):
        Balancer({}, "best")


def test_an_engine_that_is_stuck_gets_nothing():
    table = Table(2)
    table.engines[0].stuck = (1, "it waits")
    table.balancer.update(table.engines[0])
    table.balancer.add(parts_of(ANN, 3))
    assert {number for number, _ in table.fill()} == {1}
    table.balancer.add(parts_of(ANN, 2, allowed=[0]))
    assert len(table.balancer.drop_impossible()) == 2
