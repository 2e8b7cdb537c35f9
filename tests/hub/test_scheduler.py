"""The hub's decisions, without sockets: every task of a client that is there has exactly one answer for each target."""

from __future__ import annotations

import random

import pytest

from mpicluster.errors import ProtocolError
from mpicluster.hub.records import TRANSITIONS, Job, Part, State
from mpicluster.hub.scheduler import Scheduler
from mpicluster.wire import messages as m

CLIENT = b"client-r"


def submit(first=1, targets=None, data=(b"d",), collective="", retries=0, allowed=()):
    return m.Submit(first, "apply", targets, list(allowed), b"f", list(data), b"", [], collective, retries)


class Bench:
    """A scheduler with fake engines, which do what they are told when the test says so."""

    def __init__(self, n, survives=True):
        self.scheduler = Scheduler("cluster", n)
        self.queues = {i: [] for i in range(n)}
        self.results = []
        self.verdicts = {}
        self.farewell = None
        self.now = 0.0
        for i in range(n):
            for channel in ("main", "control"):
                info = m.EngineInfo(i, i, "host", 100 + i, 1)
                self.scheduler.register(m.Register(info, channel, "MPI", survives), f"{i}{channel[0]}".encode())
        self.scheduler.from_client(CLIENT, m.Hello("c", 1), 0.0)
        self.turn()

    def turn(self):
        """Carry out what the scheduler says."""
        for _ in range(100):
            sends = self.scheduler.decide(self.now)
            self.scheduler.check()
            if not sends:
                return
            for send in sends:
                self.carry(send)
        raise AssertionError("the scheduler never comes to rest")

    def carry(self, send):
        x = send.message
        if send.to == CLIENT:
            if isinstance(x, m.Result):
                self.results.append(x)
            elif isinstance(x, m.Verdict):
                self.verdicts[x.request] = x.cancelled
            elif isinstance(x, m.Farewell):
                self.farewell = x.reason
            return
        engine = int(send.to[:1])
        if engine not in self.scheduler.engines:
            return
        if isinstance(x, m.Assign):
            self.queues[engine].append(x)
        elif isinstance(x, m.Withdraw):
            back = [s for s in x.seqs if s in [a.seq for a in self.queues[engine][1:]]]
            self.queues[engine] = [a for a in self.queues[engine] if a.seq not in back]
            self.scheduler.from_engine(engine, m.Withdrawn(back, [s for s in x.seqs if s not in back]), self.now)
        elif isinstance(x, m.Abandon):
            self.queues[engine] = [a for a in self.queues[engine] if a.seq != x.seq]
        elif isinstance(x, m.Enter):
            self.done(engine, x.seq)
        elif isinstance(x, m.Heal):
            self.scheduler.from_engine(engine, m.Healed(x.epoch, x.engines), self.now)

    def done(self, engine, seq, outcome=m.OK):
        self.queues[engine] = [a for a in self.queues[engine] if a.seq != seq]
        self.scheduler.from_engine(engine, m.Done(seq, outcome, b"v", [], self.now, self.now, "", ""), self.now)

    def work(self, engine, outcome=m.OK):
        """The engine does the first thing in its queue."""
        if engine not in self.scheduler.engines or not self.queues[engine]:
            return
        task = self.queues[engine][0]
        part = self.scheduler.engines[engine].parts.get(task.seq)
        if task.collective and outcome == m.OK and part is not None and part.state is State.ASSIGNED:
            self.scheduler.from_engine(engine, m.Ready(task.seq, b""), self.now)
        elif not task.collective or (part is not None and part.state is State.ASSIGNED):
            self.done(engine, task.seq, outcome)
        self.turn()

    def say(self, message):
        self.scheduler.from_client(CLIENT, message, self.now)
        self.turn()

    def lose(self, engine):
        self.queues[engine] = []
        self.scheduler.engine_lost(engine, "died", self.now)
        self.turn()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", sorted({v for _, v in TRANSITIONS}))
def test_only_the_table_changes_a_state(state, verb):
    part = Part(Job(None, submit(), 0), 0, None)
    part.state = state
    if (state, verb) in TRANSITIONS:
        part.to(verb)
        assert part.state is TRANSITIONS[state, verb]
    else:
        with pytest.raises(ProtocolError):
            part.to(verb)
        assert part.state is state


def test_a_direct_task_runs_on_each_target_once():
    bench = Bench(3)
    bench.say(submit(targets=[2, 0]))
    for engine in (0, 1, 2):
        bench.work(engine)
    assert sorted(r.engine for r in bench.results) == [0, 2]


def test_work_is_spread_over_idle_engines_first():
    bench = Bench(4)
    bench.say(submit(data=[b"x"] * 4))
    assert [len(q) for q in bench.queues.values()] == [1, 1, 1, 1]


def test_a_dead_engines_tasks_go_to_the_others():
    bench = Bench(3)
    bench.say(submit(data=[b"x"] * 9))
    bench.lose(1)
    for _ in range(20):
        bench.work(0)
        bench.work(2)
    assert sorted(r.task for r in bench.results) == list(range(1, 10))
    assert {r.outcome for r in bench.results} == {m.OK}


def test_a_task_that_is_on_three_engines_as_they_die_is_given_up():
    bench = Bench(4)
    bench.say(submit())
    for _ in range(3):
        bench.lose(next(i for i, q in bench.queues.items() if q))
    assert [r.outcome for r in bench.results] == [m.LOST]


def test_all_targets_of_a_collective_enter_or_none():
    bench = Bench(3)
    bench.say(submit(targets=[0, 1, 2], collective="gather"))
    bench.work(0)
    bench.work(1)
    assert bench.results == []
    bench.work(2, m.FAILED)
    assert sorted((r.engine, r.outcome) for r in bench.results) == [(0, m.ABANDONED), (1, m.ABANDONED), (2, m.FAILED)]


def test_a_world_that_cannot_survive_ends_with_its_reason():
    bench = Bench(2, survives=False)
    bench.say(submit(targets=[0, 1]))
    bench.lose(1)
    assert "engine 1" in bench.farewell
    assert "cannot go on" in bench.farewell


def test_a_retry_goes_to_another_engine():
    bench = Bench(2)
    bench.say(submit(retries=1))
    first = next(i for i, q in bench.queues.items() if q)
    bench.work(first, m.FAILED)
    assert bench.results == []
    assert bench.queues[1 - first]
    bench.work(1 - first)
    assert [r.outcome for r in bench.results] == [m.OK]


def test_a_message_from_nobody_is_refused():
    bench = Bench(1)
    with pytest.raises(ProtocolError):
        bench.scheduler.from_client(b"stranger-r", submit(), 0.0)
    with pytest.raises(ProtocolError):
        bench.scheduler.from_engine(7, m.Ready(1, b""), 0.0)


@pytest.mark.parametrize("seed", range(60))
def test_every_task_has_one_answer_whatever_happens(seed):
    """Random submissions, work, failures, cancels and deaths."""
    rng = random.Random(seed)
    bench = Bench(4)
    expected, first, request = 0, 1, 0
    for _ in range(60):
        bench.now += 0.01
        alive = list(bench.scheduler.engines)
        action = rng.random()
        if action < 0.25 and alive:
            n = rng.randint(1, 6)
            bench.say(submit(first, data=[b"x"] * n, retries=rng.randint(0, 2)))
            expected, first = expected + n, first + n
        elif action < 0.45 and alive:
            targets = rng.sample(alive, rng.randint(1, len(alive)))
            bench.say(submit(first, targets, collective=rng.choice(["", "bcast", "gather"])))
            expected, first = expected + len(targets), first + 1
        elif action < 0.5 and first > 1:
            request += 1
            bench.say(m.Cancel(request, [rng.randrange(1, first) for _ in range(3)]))
        elif action < 0.53 and len(alive) > 1:
            bench.lose(rng.choice(alive))
        elif alive:
            bench.work(rng.choice(alive), rng.choice([m.OK, m.OK, m.OK, m.FAILED]))
    for _ in range(400):
        bench.now += 0.01
        for engine in list(bench.scheduler.engines):
            bench.work(engine)
    answers = [(r.task, r.engine) for r in bench.results]
    assert len(answers) == expected
    assert len(set(answers)) == expected
    assert set(bench.verdicts) == set(range(1, request + 1))
    assert bench.scheduler.clients[CLIENT].parts == {}
