"""The hub's decisions, without sockets: every task of a client that is there has exactly one answer for each target."""

from __future__ import annotations

import gc

import pytest
from simulator import submit

from mpicluster.config import HEAL_TIMEOUT
from mpicluster.errors import ProtocolError
from mpicluster.hub.records import TRANSITIONS, Job, Part, State
from mpicluster.hub.scheduler import Scheduler
from mpicluster.wire import messages as m

CLIENT = b"client-r"


def register(engine, channel, survives=True):
    return m.Register(m.EngineInfo(engine, engine, "host", 100 + engine, 1), channel, "MPI", survives)


class Bench:
    """A scheduler with fake engines, which do what they are told when the test says so."""

    def __init__(self, n, survives=True, arrived=None):
        self.scheduler = Scheduler("cluster", n)
        self.survives = survives
        self.queues = {i: [] for i in range(n)}
        #: what was said to each address, all of it
        self.said = {}
        self.results = []
        self.verdicts = {}
        self.farewell = None
        self.now = 0.0
        #: whether engines mend their world, and give back work, at once
        self.prompt = True
        for i in range(n if arrived is None else arrived):
            self.arrive(i)
        self.scheduler.from_client(CLIENT, m.Hello("c", 1), 0.0)
        self.turn()

    def arrive(self, engine, *channels):
        for channel in channels or ("main", "control"):
            self.scheduler.roster.register(register(engine, channel, self.survives), f"{engine}{channel[0]}".encode(), self.now)

    def heard(self, address, kind):
        """What of one kind was said to an address."""
        return [x for x in self.said.get(address, ()) if isinstance(x, kind)]

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
        self.said.setdefault(send.to, []).append(x)
        if send.to == CLIENT:
            if isinstance(x, m.Result):
                self.results.append(x)
            elif isinstance(x, m.Verdict):
                self.verdicts[x.request] = x.cancelled
            elif isinstance(x, m.Farewell):
                self.farewell = x.reason
        if send.to.endswith(b"-r"):
            return
        engine = int(send.to[:1])
        if engine not in self.scheduler.engines:
            return
        if isinstance(x, m.Assign):
            self.queues[engine].append(x)
        elif isinstance(x, m.Withdraw) and self.prompt:
            back = [s for s in x.seqs if s in [a.seq for a in self.queues[engine][1:]]]
            self.queues[engine] = [a for a in self.queues[engine] if a.seq not in back]
            self.scheduler.from_engine(engine, m.Withdrawn(back, [s for s in x.seqs if s not in back]), self.now)
        elif isinstance(x, m.Abandon):
            self.queues[engine] = [a for a in self.queues[engine] if a.seq != x.seq]
        elif isinstance(x, m.Enter):
            self.done(engine, x.seq)
        elif isinstance(x, m.Heal) and self.prompt:
            self.scheduler.from_engine(engine, m.Healed(x.epoch, x.engines), self.now)

    def done(self, engine, seq, outcome=m.OK, sizes=()):
        self.queues[engine] = [a for a in self.queues[engine] if a.seq != seq]
        self.scheduler.from_engine(engine, m.Done(seq, outcome, b"v", list(sizes), self.now, self.now), self.now)

    def hear(self, engine, message):
        """An engine says this."""
        self.scheduler.from_engine(engine, message, self.now)
        self.turn()

    def work(self, engine, outcome=m.OK, sizes=()):
        """The engine does the first thing in its queue."""
        if engine not in self.scheduler.engines or not self.queues[engine]:
            return
        task = self.queues[engine][0]
        part = self.scheduler.engines[engine].parts.get(task.seq)
        if task.collective and outcome == m.OK and part is not None and part.state is State.ASSIGNED:
            self.scheduler.from_engine(engine, m.Ready(task.seq, b""), self.now)
        elif not task.collective or (part is not None and part.state is State.ASSIGNED):
            self.done(engine, task.seq, outcome, sizes)
        self.turn()

    def say(self, message, frame=None):
        self.scheduler.from_client(CLIENT, message, self.now, frame)
        self.turn()

    @property
    def outcomes(self):
        return sorted((r.engine, r.outcome) for r in self.results)

    def lose(self, engine):
        self.queues[engine] = []
        self.scheduler.roster.lost(engine, "died", self.now)
        self.turn()


@pytest.mark.parametrize(("targets", "data"), [([0], (b"d",)), ([0, 1], (b"d",)), (None, (b"a", b"b", b"c"))])
def test_what_has_ended_leaves_no_cycle(targets, data):
    """The hub looks for cycles seldom, and what a task brought may be large."""
    bench = Bench(2)
    gc.collect()
    gc.disable()
    try:
        bench.say(submit(1, targets, data))
        while any(bench.queues.values()):
            bench.work(0)
            bench.work(1)
        assert len(bench.results) == max(len(targets or ()), len(data))
        bench.said.clear()
        bench.results.clear()
        bench.scheduler.notes.clear()
        assert not [x for x in gc.get_objects() if isinstance(x, Job | Part)]
    finally:
        gc.enable()


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


def test_who_waits_at_a_door_as_the_cluster_ends_hears_the_farewell_alone():
    """Not that another part was abandoned, by which the whole call would seem to have ended for another reason."""
    bench = Bench(3, survives=False)
    bench.say(submit(1, [0, 1, 2], collective="gather"))
    bench.work(0)
    bench.work(2)
    bench.said.clear()
    bench.lose(1)
    told = [type(x) for x in bench.said[CLIENT]]
    assert told.count(m.Result) == 1
    assert told[-1] is m.Farewell


def gang(first=1, targets=(0, 1), kind="spmd"):
    return submit(first, list(targets), kind=kind, collective="spmd")


def gang_that_has_met(n=2, kind="spmd", **options):
    bench = Bench(n, **options)
    bench.say(gang(1, range(n), kind))
    for engine in range(n):
        bench.work(engine)
    assert all(r.outcome == m.OK for r in bench.results)
    bench.said.clear()
    bench.results.clear()
    return bench


def assigned(bench, engine):
    return bench.heard(b"%dm" % engine, m.Assign)


@pytest.mark.parametrize("kind", ["spmd", "arrays"])
def test_idle_engines_that_have_met_need_no_door(kind):
    bench = gang_that_has_met(kind=kind)
    bench.say(gang(2, kind=kind))
    for engine in (0, 1):
        (task,) = assigned(bench, engine)
        assert task.enter == m.Enter(task.seq, 0, [], keep=True)
        bench.done(engine, task.seq)
    bench.turn()
    assert bench.outcomes == ([(0, m.OK)] if kind == "arrays" else [(0, m.OK), (1, m.OK)])


def test_a_door_is_kept_for_who_is_busy_has_not_met_or_could_not_be_freed():
    bench = gang_that_has_met()
    bench.say(submit(2, [1]))
    bench.say(gang(3))
    bench.say(gang(4, [1, 0]))
    assert [task.enter for engine in (0, 1) for task in assigned(bench, engine)] == [None] * 5
    bench = gang_that_has_met(survives=False)
    bench.say(gang(2))
    assert assigned(bench, 0)[0].enter is None


def test_who_does_not_come_through_an_open_door_is_not_waited_for():
    """It is interrupted before it has begun: the other, which may be inside, is freed; they meet anew the next time."""
    bench = gang_that_has_met()
    bench.say(gang(2))
    bench.say(m.Interrupt(1, [2]))
    (late,), (inside,) = assigned(bench, 0), assigned(bench, 1)
    bench.hear(0, m.Withdrawn([late.seq], []))
    assert inside.seq in [x.seq for x in bench.heard(b"1c", m.Free)]
    bench.queues[0].clear()
    bench.done(1, inside.seq, m.FAILED)
    bench.turn()
    assert bench.outcomes == [(0, m.ABORTED), (1, m.FAILED)]
    bench.say(gang(3))
    assert assigned(bench, 0)[-1].enter is None


# -- programs for arrays, which have one answer ------------------------------------------------------------------------


def test_the_first_engine_answers_for_all():
    """And the next program begins before the others have told that they are done."""
    bench = gang_that_has_met(3, "arrays")
    bench.say(gang(2, range(3), "arrays"))
    bench.done(1, assigned(bench, 1)[0].seq)
    bench.turn()
    assert bench.results == []
    bench.done(0, assigned(bench, 0)[0].seq)
    bench.turn()
    assert bench.outcomes == [(0, m.OK)]
    bench.say(gang(3, range(3), "arrays"))
    assert all(assigned(bench, engine)[-1].enter is not None for engine in range(3))
    bench.done(2, assigned(bench, 2)[0].seq)
    bench.turn()
    assert len(bench.results) == 1


def test_the_cause_of_a_failure_answers_for_all():
    bench = gang_that_has_met(3, "arrays")
    bench.say(gang(2, range(3), "arrays"))
    for engine, outcome in ((0, m.ABANDONED), (2, m.FAILED), (1, m.ABANDONED)):
        assert bench.results == []
        bench.done(engine, assigned(bench, engine)[0].seq, outcome)
        bench.turn()
    assert bench.outcomes == [(2, m.FAILED)]


def test_the_first_engine_does_not_answer_for_one_that_has_failed():
    bench = gang_that_has_met(2, "arrays")
    bench.say(gang(2, kind="arrays"))
    bench.done(1, assigned(bench, 1)[0].seq, m.FAILED)
    bench.done(0, assigned(bench, 0)[0].seq)
    bench.turn()
    assert bench.outcomes == [(1, m.FAILED)]


def test_a_first_engine_that_dies_while_it_sends_a_large_answer():
    bench = gang_that_has_met(2, "arrays")
    bench.say(gang(2, kind="arrays"))
    bench.done(0, assigned(bench, 0)[0].seq, sizes=[9])
    bench.done(1, assigned(bench, 1)[0].seq)
    bench.turn()
    bench.lose(0)
    assert [(r.engine, r.outcome) for r in bench.results] == [(0, m.OK), (0, m.LOST)]


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


# -- engines come and go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [register(4, "main"), register(-1, "main"), register(0, "main"), register(1, "side")], ids=repr)
def test_an_engine_that_cannot_be_is_refused(message):
    """An id out of range, a channel that is here, a channel that there is not: nothing changes."""
    bench = Bench(4)
    with pytest.raises(ProtocolError):
        bench.scheduler.roster.register(message, b"x", 0.0)
    assert sorted(bench.scheduler.engines) == [0, 1, 2, 3]
    assert bench.scheduler.roster.arriving == {}


def test_an_engine_that_dies_as_it_arrives_is_missed():
    """The others mend their world without it, those that come later too; nobody waits for it."""
    bench = Bench(3, arrived=1)
    bench.arrive(1, "main")
    bench.lose(1)
    assert bench.scheduler.roster.epoch == 1
    assert any("engine 1" in x.reason for x in bench.heard(CLIENT, m.Engines))
    bench.arrive(2)
    bench.turn()
    assert bench.heard(b"2c", m.Heal) == [m.Heal(1, [0, 2], 1)]
    assert not bench.scheduler.healing


def test_who_is_left_is_known_before_what_was_lost():
    """A client that hears of a lost task, and asks all engines next, does not ask the dead one."""
    bench = Bench(3)
    bench.say(submit(1, [0, 1, 2]))
    bench.lose(1)
    heard = [x for x in bench.said[CLIENT] if isinstance(x, m.Result) or (isinstance(x, m.Engines) and x.reason)]
    assert [type(x) for x in heard] == [m.Engines, m.Result]
    assert ([e.id for e in heard[0].engines], heard[1].engine, heard[1].outcome) == ([0, 2], 1, m.LOST)


def test_engines_that_arrive_after_the_first_has_died_are_the_cluster():
    bench = Bench(2, arrived=0)
    bench.arrive(1, "control")
    bench.arrive(0, "main")
    bench.lose(0)
    assert bench.scheduler.ended is None
    bench.arrive(1, "main")
    bench.turn()
    bench.say(submit())
    bench.work(1)
    assert bench.outcomes == [(1, m.OK)]


def test_an_engine_that_comes_too_late_is_sent_away():
    bench = Bench(2, arrived=1)
    bench.lose(0)
    assert "last engine" in bench.farewell
    bench.arrive(1)
    bench.turn()
    assert bench.heard(b"1c", m.Stop)


def test_an_engine_of_which_one_connection_was_lost_is_told_to_end():
    """Else it would live on unseen, and the survivors would wait for it in vain to mend the world."""
    bench = Bench(2)
    bench.lose(1)
    assert bench.heard(b"1c", m.Stop)
    assert not bench.heard(b"0c", m.Stop)


def test_a_second_death_while_the_world_is_mended():
    bench = Bench(4)
    bench.prompt = False
    bench.lose(3)
    bench.say(submit(targets=[0, 1], collective="gather"))
    bench.work(0)
    bench.work(1)
    assert not bench.heard(b"0m", m.Enter)
    bench.hear(0, m.Healed(1, [0, 1, 2]))
    bench.lose(2)
    assert bench.heard(b"0c", m.Heal)[-1] == m.Heal(2, [0, 1], 2)
    bench.hear(1, m.Healed(1, [0, 1, 2]))  # of the epoch before
    assert bench.scheduler.healing == {0, 1}
    bench.hear(0, m.Healed(2, [0, 1]))
    assert not bench.heard(b"0m", m.Enter)
    bench.hear(1, m.Healed(2, [0, 1]))
    assert [x.epoch for x in bench.heard(b"0m", m.Enter) + bench.heard(b"1m", m.Enter)] == [2, 2]
    assert bench.outcomes == [(0, m.OK), (1, m.OK)]


def test_a_world_that_is_not_mended_in_time_ends():
    bench = Bench(3)
    bench.prompt = False
    bench.lose(0)
    assert bench.scheduler.wake_at() == bench.now + HEAL_TIMEOUT
    bench.hear(1, m.Healed(1, [1, 2]))
    bench.now += HEAL_TIMEOUT + 1
    bench.turn()
    assert "[2] did not mend" in bench.farewell
    assert bench.scheduler.wake_at() is None


def test_ranks_follow_the_mended_world():
    bench = Bench(3)
    bench.lose(0)
    assert [(e.id, e.rank) for e in bench.heard(CLIENT, m.Engines)[-1].engines] == [(1, 0), (2, 1)]


def test_tasks_whose_only_engines_died_fail():
    bench = Bench(3)
    bench.say(submit(data=[b"x"] * 5, allowed=[1]))
    bench.say(submit(6, data=[b"x"]))
    bench.lose(1)
    assert {r.task for r in bench.results if r.outcome == m.LOST} == {1, 2, 3, 4, 5}
    bench.say(submit(7, allowed=[1]))
    assert bench.results[-1].task == 7
    assert bench.results[-1].outcome == m.LOST


def test_a_large_result_of_a_dead_engine_is_computed_again():
    bench = Bench(2)
    bench.say(submit())
    first = next(i for i, q in bench.queues.items() if q)
    bench.work(first, sizes=[10])
    bench.lose(first)
    bench.work(1 - first)
    assert [r.outcome for r in bench.results] == [m.OK, m.OK]  # the first one's bytes never came
    assert bench.results[-1].sizes == []
    assert bench.scheduler.clients[CLIENT].parts == {}


# -- collectives -----------------------------------------------------------------------------------------------------


def test_who_fails_at_the_door_leaves_nobody_there():
    """User code may interrupt a wait: an alarm's handler that raises, say."""
    bench = Bench(3)
    bench.say(submit(targets=[0, 1, 2], collective="gather"))
    bench.work(0)
    bench.work(1)
    bench.done(0, 1, m.FAILED)
    bench.turn()
    bench.work(2)
    assert bench.outcomes == [(0, m.FAILED), (1, m.ABANDONED), (2, m.ABANDONED)]


def test_nobody_waits_at_a_door_that_nobody_else_comes_to():
    bench = Bench(2)
    bench.say(submit())
    engine = next(i for i, q in bench.queues.items() if q)
    bench.hear(engine, m.Ready(1, b""))
    assert bench.heard(b"%dm" % engine, m.Abandon)
    assert [r.outcome for r in bench.results] == [m.ABANDONED]


def test_an_engine_that_dies_before_it_is_at_the_door_lets_the_others_go():
    bench = Bench(3)
    bench.say(submit(targets=[0, 1, 2], collective="gather"))
    bench.work(0)
    bench.lose(2)
    bench.work(1)
    assert bench.outcomes == [(0, m.ABANDONED), (1, m.ABANDONED), (2, m.LOST)]


# -- taking back -----------------------------------------------------------------------------------------------------


def test_work_behind_a_long_task_moves_although_other_work_waits():
    """Somebody waits for a certain engine: that must not keep what may run anywhere from an idle one."""
    bench = Bench(3)
    bench.say(submit(1, data=[b"x"] * 6))
    bench.work(1)
    bench.work(1)
    bench.work(2)
    bench.work(2)
    bench.say(submit(7, data=[b"x"] * 4, allowed=[0]))
    bench.now += 1.0
    bench.turn()
    waiting_elsewhere = [s for x in bench.heard(b"0c", m.Withdraw) for s in x.seqs]
    assert waiting_elsewhere
    for engine in (1, 2):
        bench.work(engine)
    assert {r.engine for r in bench.results} == {1, 2}


def test_both_who_cancel_are_told():
    bench = Bench(1)
    bench.prompt = False
    bench.say(submit(1, targets=[0]))
    bench.say(submit(2, targets=[0]))
    bench.say(m.Cancel(1, [2, 2]))
    bench.say(m.Cancel(2, [2]))
    bench.hear(0, m.Withdrawn([2], []))
    bench.hear(0, m.Withdrawn([2], []))
    assert bench.verdicts == {1: True, 2: True}
    assert [(r.task, r.outcome) for r in bench.results] == [(2, m.ABORTED)]


def test_a_task_that_ran_on_one_engine_was_not_cancelled():
    bench = Bench(2)
    bench.say(submit(1, targets=[0]))
    bench.say(submit(2, targets=[0, 1]))
    bench.work(1)
    bench.say(m.Cancel(1, [2]))
    assert bench.verdicts == {1: False}
    assert (0, m.ABORTED) in bench.outcomes


def test_a_collective_is_cancelled_as_a_whole():
    """The engine that is at the door already has run nothing."""
    bench = Bench(2)
    bench.say(submit(1, targets=[1]))
    bench.say(submit(2, targets=[0, 1], collective="gather"))
    bench.work(0)
    bench.say(m.Cancel(1, [2]))
    assert bench.verdicts == {1: True}
    assert bench.outcomes == [(0, m.ABORTED), (1, m.ABORTED)]
    assert bench.heard(b"0m", m.Abandon)


def test_what_was_to_be_cancelled_on_a_dead_engine_was_not():
    bench = Bench(2)
    bench.prompt = False
    bench.say(submit(1, targets=[0]))
    bench.say(m.Cancel(1, [1, 99]))
    assert bench.verdicts == {}
    bench.lose(0)
    assert bench.verdicts == {1: False}
    assert bench.outcomes == [(0, m.LOST)]


def test_cancelled_work_is_not_kept():
    """A client that submits and cancels all day, while the engines are busy, costs no memory."""
    bench = Bench(1)
    bench.say(submit(1, data=[b"x"] * 2))
    for i in range(100):
        bench.say(submit(10 + 10 * i, data=[b"x"] * 10))
        bench.say(m.Cancel(i, list(range(10 + 10 * i, 20 + 10 * i))))
    assert sum(map(len, bench.scheduler.balancer._queues.values())) < 200


# -- bulk payloads ---------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_wants_nothing_more_of_any_engine():
    """It was reading large results of three."""
    bench = Bench(3)
    bench.say(submit(targets=[0, 1, 2]))
    for engine in range(3):
        bench.work(engine, sizes=[10])
    bench.say(m.Goodbye())
    for engine in range(3):
        assert bench.heard(b"%dc" % engine, m.Credit) == [m.Credit(1, engine, -1)]
        assert bench.scheduler.engines[engine].delivering == {}


def test_a_client_that_leaves_half_way_through_its_upload_frees_the_engine():
    bench = Bench(1)
    bench.say(submit(targets=[0], sizes=[100]))
    bench.say(m.Chunk(1, 0, 0), b"x" * 50)
    bench.scheduler.client_lost(CLIENT)
    bench.turn()
    assert bench.heard(b"0c", m.Credit) == [m.Credit(1, 0, -1)]
    bench.done(0, 1, m.LOST)
    bench.turn()
    assert bench.scheduler.engines[0].parts == {}


def test_a_payload_is_sent_again_for_a_retry_on_the_same_engine():
    bench = Bench(1)
    bench.say(submit(sizes=[4], retries=1))
    bench.hear(0, m.Credit(1, 0, 4))
    bench.say(m.Chunk(1, 0, 0), b"data")
    bench.work(0, m.FAILED)
    bench.hear(0, m.Credit(2, 0, 4))
    assert bench.heard(CLIENT, m.Credit) == [m.Credit(1, 0, 4), m.Credit(1, -1, 0), m.Credit(1, 0, 4)]


def test_a_chunk_for_the_engine_before_is_not_given_to_the_next():
    bench = Bench(2)
    bench.say(submit(sizes=[4]))
    first = next(i for i, q in bench.queues.items() if q)
    bench.lose(first)
    bench.say(m.Chunk(1, first, 0), b"data")
    assert bench.heard(b"%dc" % (1 - first), m.Chunk) == []
    bench.say(m.Chunk(1, 1 - first, 0), b"data")
    assert bench.heard(b"%dc" % (1 - first), m.Chunk) == [m.Chunk(1, 1 - first, 0)]


@pytest.mark.parametrize(("offset", "frame"), [(-1, b"x"), (4, b"x"), (1, b"data"), (2**62, b""), (0, None)])
def test_a_chunk_outside_its_payload_is_refused(offset, frame):
    bench = Bench(1)
    bench.say(submit(targets=[0], sizes=[1, 3]))
    with pytest.raises(ProtocolError):
        bench.say(m.Chunk(1, 0, offset), frame)
    assert bench.heard(b"0c", m.Chunk) == []


# -- nonsense --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        submit(data=[]),
        submit(collective="gather"),
        submit(data=[b"x", b"y"], sizes=[1]),
        submit(targets=[]),
        submit(targets=[0, 0]),
        submit(targets=[-1]),
        submit(targets=[2**31]),
        submit(targets=[0, 1], data=[b"x"] * 3),
        submit(targets=[0, 1], sizes=[1]),
        submit(targets=[0, 1], collective="bcast"),
        submit(targets=[0, 1], collective="alltoall"),
        submit(targets=[0], sizes=[5, -1]),
        submit(7),
        submit(5, data=[b"x"] * 4),
    ],
)
def test_a_submission_without_sense_is_refused(message):
    bench = Bench(2)
    bench.say(submit(7, targets=[1]))
    with pytest.raises(ProtocolError):
        bench.say(message)
    assert list(bench.scheduler.clients[CLIENT].parts) == [7]


def test_an_answer_to_nothing_is_refused():
    bench = Bench(1)
    bench.say(submit(targets=[0]))
    with pytest.raises(ProtocolError, match="never had"):
        bench.done(0, 2)
    with pytest.raises(ProtocolError):
        bench.hear(0, m.Healed(0, [1]))
    bench.work(0)
    bench.done(0, 1)  # twice
    assert len(bench.results) == 1


def test_last_words_of_a_client_that_has_left_are_no_offence():
    bench = Bench(1)
    bench.say(m.Goodbye())
    bench.say(m.Goodbye())
    with pytest.raises(ProtocolError):
        bench.say(submit())


# -- the end ---------------------------------------------------------------------------------------------------------


def test_after_the_end_everybody_is_told_and_nothing_begins():
    bench = Bench(2)
    bench.say(submit(1, data=[b"x"] * 20))
    bench.say(m.Shutdown())
    assert bench.farewell == "it was stopped"
    assert bench.heard(b"0c", m.Stop)
    assert bench.heard(b"1c", m.Stop)
    before = {i: list(q) for i, q in bench.queues.items()}
    bench.say(submit(30, targets=[0]))
    bench.say(submit(31))
    assert [(r.task, r.outcome) for r in bench.results] == [(30, m.LOST), (31, m.LOST)]
    assert b"it was stopped" in bench.results[0].data
    assert bench.queues == before
    bench.scheduler.from_client(b"late-r", m.Hello("late", 1), bench.now)
    bench.turn()
    assert bench.heard(b"late-r", m.Farewell) == [m.Farewell("it was stopped")]


def test_a_client_that_reads_on_after_the_end_harms_nobody():
    bench = Bench(2)
    bench.say(submit(1, targets=[0]))
    bench.say(submit(2, targets=[1]))
    bench.work(0, sizes=[100])
    bench.say(m.Shutdown())
    bench.lose(0)
    bench.lose(1)
    bench.say(m.Credit(1, 0, 10))
    bench.say(m.Chunk(2, 1, 0), b"")
    bench.say(m.Cancel(1, [1, 2]))
    bench.say(m.Goodbye())


def test_functions_of_a_map_are_forgotten_with_its_last_task():
    bench = Bench(2)
    bench.say(submit(1, data=[b"x"] * 6))
    for _ in range(6):
        bench.work(0)
        bench.work(1)
    assert [len(bench.heard(a, m.Forget)) for a in (b"0m", b"1m")] == [1, 1]
    assigned = [[bool(x.fn) for x in bench.heard(a, m.Assign)] for a in (b"0m", b"1m")]
    assert sum(map(len, assigned)) == 6
    assert [given[0] for given in assigned] == [True, True]
    assert not any(given for engine in assigned for given in engine[1:])


def test_the_function_of_a_small_map_comes_with_each_task():
    """There is nothing to forget then, which would wake every engine."""
    bench = Bench(2)
    bench.say(submit(1, data=[b"x"] * 4))
    for _ in range(2):
        bench.work(0)
        bench.work(1)
    assert not bench.heard(b"0m", m.Forget)
    assert [[bool(x.fn) for x in bench.heard(a, m.Assign)] for a in (b"0m", b"1m")] == [[True, True]] * 2


def test_the_history_is_told_what_came_what_was_written_and_how_it_ended():
    """Once each."""
    b = Bench(1)
    b.scheduler.notes.clear()
    b.scheduler.from_client(CLIENT, submit(1, targets=[0]), 0.0)
    b.scheduler.from_client(CLIENT, submit(2, targets=[7]), 0.0)
    b.scheduler.from_engine(0, m.Output(1, [(m.STDOUT, b"x")]), 0.0)
    b.scheduler.from_engine(0, m.Done(1, m.OK, b"v", [], 1.0, 2.0, [(m.STDOUT, b"y")], 1), 0.0)
    first, refused, lost, wrote, done = b.scheduler.notes
    assert (first.job, first.client, first.submit.first) == (1, "c", 1)
    assert (refused.job, refused.submit.first) == (2, 2)
    assert (lost.job, lost.part, lost.result.outcome) == (2, 0, m.LOST)
    assert wrote == (1, 0, [(m.STDOUT, b"x")])
    assert (done.job, done.part, done.result.data, done.result.output) == (1, 0, b"v", [(m.STDOUT, b"y")])


# -- several worlds --------------------------------------------------------------------------------------------------


def second_world(bench, n=2, *, survives=True):
    """Engines of another job are there."""
    world = bench.scheduler.worlds.invite(n)
    for engine in world.ids:
        bench.queues[engine] = []
        info = m.EngineInfo(engine, engine - world.ids.start, "other", 100 + engine, 1, world.number)
        for channel in ("main", "control"):
            bench.scheduler.roster.register(m.Register(info, channel, "MPI", survives), f"{engine}{channel[0]}".encode(), bench.now)
    bench.turn()
    return world


def test_an_engine_is_of_the_world_that_was_invited():
    bench = Bench(2)
    world = bench.scheduler.worlds.invite(2)
    assert list(world.ids) == [2, 3]
    for id_, number in ((2, 0), (1, world.number), (4, world.number), (2, 7)):
        with pytest.raises(ProtocolError):
            bench.scheduler.roster.register(m.Register(m.EngineInfo(id_, 0, "h", 1, 1, number), "main", "MPI", True), b"x", 0.0)


def test_what_is_done_together_is_of_one_world():
    bench = Bench(2)
    second_world(bench)
    with pytest.raises(ProtocolError, match="one MPI world"):
        bench.say(submit(1, [1, 2], collective="gather"))
    bench.say(submit(2, [2, 3], collective="gather"))
    for engine in (2, 3):
        bench.work(engine)
    assert [r.outcome for r in bench.results if r.task == 2] == [m.OK, m.OK]
    bench.say(submit(3, [0, 1, 2, 3]))
    for engine in range(4):
        bench.work(engine)
    assert sorted(r.engine for r in bench.results if r.task == 3) == [0, 1, 2, 3]


def test_each_world_heals_for_itself():
    """Meanwhile, and after, the other one's collectives go on; turns are counted for each."""
    bench = Bench(2)
    world = second_world(bench, 3)
    bench.prompt = False
    bench.lose(3)
    assert bench.scheduler.healing == {2, 4}
    assert [bench.heard(b"%dc" % i, m.Heal) for i in (0, 1)] == [[], []]
    assert bench.heard(b"2c", m.Heal) == [m.Heal(1, [2, 4], 1)]
    bench.say(submit(1, [0, 1], collective="gather"))
    bench.say(submit(2, [2, 4], collective="gather"))
    for engine in (0, 1, 2, 4):
        bench.work(engine)
    assert {r.task for r in bench.results} == {1}
    for engine in (2, 4):
        bench.hear(engine, m.Healed(1, [2, 4]))
    for engine in (2, 4):
        bench.work(engine)
    assert {r.task for r in bench.results} == {1, 2}
    assert [x.epoch for x in bench.heard(b"2m", m.Enter)] == [1]
    assert (world.turn, bench.scheduler.worlds[0].turn) == (1, 0)


def test_a_world_that_cannot_heal_is_lost_alone():
    bench = Bench(2)
    second_world(bench, 3, survives=False)
    bench.say(submit(1, [2, 4]))
    bench.lose(3)
    assert sorted(bench.scheduler.engines) == [0, 1]
    assert bench.scheduler.ended is None
    assert bench.outcomes == [(2, m.LOST), (4, m.LOST)]
    assert [bench.heard(b"%dc" % i, m.Stop) != [] for i in (0, 2, 4)] == [False, True, True]
    assert bench.scheduler.healing == set()


def test_the_end_of_a_world_is_said_once():
    """With each engine's own reason, which does not grow with their number."""
    bench = Bench(2)
    second_world(bench, 6, survives=False)
    bench.say(submit(1, list(range(2, 8)), collective="gather"))
    bench.work(2)  # one is at the door
    before = len(bench.heard(CLIENT, m.Engines))
    bench.lose(4)
    news = bench.heard(CLIENT, m.Engines)[before:]
    assert [[e.id for e in x.engines] for x in news] == [[0, 1, 2, 3, 5, 6, 7], [0, 1]]
    assert bench.scheduler.roster.epoch == 6
    assert all(x.reason.count("died") == 1 for x in news)
    assert sorted(r.engine for r in bench.results) == [2, 3, 4, 5, 6, 7]
    assert all(r.data.count(b"died") <= 1 for r in bench.results)


@pytest.mark.parametrize("how", ["in time", "at all"])
def test_a_world_that_does_not_mend_is_lost_alone(how):
    bench = Bench(2)
    world = second_world(bench, 3)
    bench.say(submit(1, [2]))
    bench.prompt = False
    bench.lose(3)
    if how == "in time":
        bench.hear(4, m.Healed(1, [2, 4]))
        bench.now += HEAL_TIMEOUT + 1
        bench.turn()
    else:
        bench.hear(4, m.HealFailed(1, "it cannot"))
    assert bench.scheduler.ended is None
    assert sorted(bench.scheduler.engines) == [0, 1]
    assert bench.outcomes == [(2, m.LOST)]
    assert [bench.heard(b"%dc" % i, m.Stop) != [] for i in (0, 2, 4)] == [False, True, True]
    assert bench.scheduler.wake_at() is None
    late = m.EngineInfo(world.ids[1], 1, "other", 200, 1, world.number)
    for channel in ("main", "control"):
        bench.scheduler.roster.register(m.Register(late, channel, "MPI", True), f"3{channel[0]}".encode(), bench.now)
    bench.turn()
    assert sorted(bench.scheduler.engines) == [0, 1]
    assert bench.heard(b"3c", m.Stop) != []


def test_the_first_world_may_go():
    bench = Bench(1)
    second_world(bench)
    bench.lose(0)
    assert bench.scheduler.ended is None
    bench.say(submit(1, None))
    for engine in (2, 1):
        bench.work(engine)
    assert [r.outcome for r in bench.results] == [m.OK]
    bench.lose(1)
    bench.lose(2)
    assert bench.scheduler.ended is not None
