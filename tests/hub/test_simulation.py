"""Whatever happens, in whatever order: each task of a client that is there has one answer, and nothing is left over."""

from __future__ import annotations

import random
import typing

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulator import GANGS, Cluster, submit

from mpicluster.errors import ProtocolError
from mpicluster.hub import meetings
from mpicluster.hub.scheduler import Scheduler
from mpicluster.wire import messages as m


def random_needs(rng, client):
    own = [(rng.randrange(1, client.next_task + (rng.random() < 0.05)), -1) for _ in range(rng.randint(1, 4))]
    own = [(task, -1) for task, _ in own if task in client.submits and client.submits[task][0].targets is None]
    success = rng.random() < 0.8
    return m.Needs(own, [], rng.random() < 0.7, success, not success or rng.random() < 0.3) if own else None


def random_terms(rng, client):
    """What a balanced view may ask."""
    if rng.random() < 0.5 or client.next_task == 1:
        return None
    after = random_needs(rng, client) if rng.random() < 0.5 else None
    follow = random_needs(rng, client) if rng.random() < 0.3 else None
    timeout = rng.choice([0, 0, 0.001, 0.01])
    return m.Terms("", after, follow, timeout, 0.0, rng.choice([0, 0, 1, -1]))


def random_submission(rng, client):
    """Anything that a view may send."""
    if rng.random() < 0.1:
        client.submit(kind="endless", terms=m.Terms(time_limit=1.0), targets=rng.choice([None, client.engines or None]))
    elif rng.random() < 0.5:
        allowed = rng.sample(range(4), rng.randint(1, 2)) if rng.random() < 0.2 else ()
        if rng.random() < 0.3:
            client.submit(sizes=[3, 6], retries=rng.randint(0, 2), allowed=allowed, terms=random_terms(rng, client))
        else:
            count = rng.randint(1, 6)
            client.submit(data=[b""] * count, retries=rng.randint(0, 2), allowed=allowed, terms=random_terms(rng, client))
    elif client.engines:
        targets = rng.sample(client.engines, rng.randint(1, len(client.engines)))
        collective = rng.choice(["", "bcast", "scatter", "gather", "spmd", "coalesce"])
        large = collective == "bcast" or (
            rng.random() < 0.5 and (collective in ("scatter", "coalesce") or (not collective and len(targets) == 1))
        )
        gang = collective == "spmd" or (collective == "bcast" and rng.random() < 0.3)
        kind = rng.choice(GANGS) if gang else "apply"
        client.submit(kind=kind, targets=targets, collective=collective, sizes=[3, 6] if large else [])


def live(rng, cluster, actions):
    """Clients come, work, cancel and go; engines die, all but one."""
    for _ in range(actions):
        client = rng.choice(list(cluster.clients.values())) if cluster.clients else None
        action = rng.random()
        if client is None or action < 0.02:
            cluster.connect()
        elif action < 0.18:
            random_submission(rng, client)
        elif action < 0.22 and client.next_task > 1:
            client.cancel([rng.randrange(1, client.next_task) for _ in range(rng.randint(1, 4))])
        elif action < 0.23 and client.next_task > 1:
            client.interrupt([rng.randrange(1, client.next_task) for _ in range(rng.randint(1, 4))])
        elif action < 0.235 and len(cluster.engines) > 1:
            cluster.kill(rng.choice(list(cluster.engines)))
        elif action < 0.25:
            cluster.leave(client.address, politely=rng.random() < 0.5)
        else:
            for _ in range(rng.randint(1, 8)):
                cluster.step()


@pytest.fixture(scope="module", autouse=True)
def few_groups():
    """So few communicators are kept that a simulation uses them up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meetings, "GROUPS_KEPT", 2)
        yield


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_every_task_has_one_answer(seed):
    rng = random.Random(seed)
    cluster = Cluster(rng, rng.randint(1, 4), rng.randint(1, 3), failures=rng.choice([0, 0.2, 0.5]))
    live(rng, cluster, 150)
    cluster.settle()
    cluster.check_rest()
    cluster.check_answers()
    assert all(client.farewell is None for client in cluster.clients.values())


@settings(max_examples=40, deadline=None)
@example(1743, "all engines die")  # all clients leave before
@given(st.integers(0, 2**32), st.sampled_from(["shutdown", "a death that the MPI does not survive", "all engines die"]))
def test_at_the_end_everybody_is_told(seed, end):
    """Whatever is under way then: each client that is there hears why, and nothing begins any more."""
    rng = random.Random(seed)
    cluster = Cluster(rng, rng.randint(1, 4), rng.randint(1, 3), survives=end != "a death that the MPI does not survive")
    if cluster.survives:
        live(rng, cluster, 60)
        if not cluster.clients:  # all have left
            cluster.connect()
            cluster.settle()
    else:
        for client in cluster.clients.values():
            for _ in range(5):
                random_submission(rng, client)
            for _ in range(30):
                cluster.step()
    if end == "shutdown":
        cluster.connect().outbox.append((m.Shutdown(), None))
    for engine in list(cluster.engines)[: {"shutdown": 0, "all engines die": 4}.get(end, 1)]:
        cluster.kill(engine)
    cluster.settle()
    cluster.check_rest()
    assert cluster.clients
    assert all(client.farewell for client in cluster.clients.values())
    assert all(engine.stopped for engine in cluster.engines.values())
    late = cluster.connect()
    cluster.settle()
    assert late.farewell


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_engines_may_come_in_any_order_and_die_meanwhile(seed):
    """Those that are left in the end are one world, and work."""
    rng = random.Random(seed)
    cluster = Cluster(rng, 0, 1)
    cluster.scheduler.worlds[0].ids = range(4)
    coming = [(i, channel) for i in range(4) for channel in ("main", "control")]
    rng.shuffle(coming)
    for id_, channel in coming:
        if id_ not in cluster.dead:
            cluster.register(id_, [channel])
            cluster.decide()
        if rng.random() < 0.1 and len(cluster.engines) > 1:
            cluster.kill(rng.choice(list(cluster.engines)))
        for _ in range(rng.randint(0, 3)):
            if cluster.choices():  # else time would pass
                cluster.step()
    cluster.settle()
    assert sorted(cluster.scheduler.engines) == sorted(cluster.engines)
    assert all(engine.epoch == cluster.scheduler.roster.epoch for engine in cluster.engines.values())
    (client,) = cluster.clients.values()
    client.submit(targets=sorted(cluster.engines), collective="gather")
    cluster.settle()
    cluster.check_rest()


# -- nonsense that keeps to the types ----------------------------------------------------------------------------------

_VALUES = {
    int: st.one_of(st.integers(-1, 5), st.just(2**62)),
    str: st.sampled_from(["", "apply", "gather", "bcast", "main"]),
    bytes: st.sampled_from([b"", b"x"]),
    float: st.floats(),
    bool: st.booleans(),
}


def _values(of):
    if of in _VALUES:
        return _VALUES[of]
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return _any_of(of)
    if typing.get_origin(of) is list:
        return st.lists(_values(*typing.get_args(of)), max_size=3)
    if typing.get_origin(of) is tuple:
        return st.tuples(*map(_values, typing.get_args(of)))
    return st.one_of(*(st.none() if a is type(None) else _values(a) for a in typing.get_args(of)))


def _any_of(kind):
    return st.builds(kind, *(_values(field.type) for field in msgspec.structs.fields(kind)))


#: the router answers these itself
_BY_THE_ROUTER = (m.Status, m.Register)
_CLIENT = st.one_of(*(_any_of(k) for k in typing.get_args(m.ClientMessage) if k not in _BY_THE_ROUTER))
_ENGINE = st.one_of(*(_any_of(k) for k in typing.get_args(m.FromEngine) if k not in _BY_THE_ROUTER))
_FRAMES = st.sampled_from([None, b"", b"xx"])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1]), st.one_of(_CLIENT, _ENGINE), _FRAMES), max_size=30))
def test_typed_nonsense_is_refused_or_makes_sense(events):
    """Nothing that a client or an engine can say breaks the hub's books."""
    s = Scheduler("cluster", 2)
    for i in (0, 1):
        for channel in ("main", "control"):
            s.roster.register(m.Register(m.EngineInfo(i, i, "h", 1, 1), channel, "MPI", True), b"%d%c" % (i, ord(channel[0])), 0.0)
        s.from_client(b"%dr" % i, m.Hello("c", 1), 0.0)
        s.from_client(b"%dr" % i, submit(1, targets=[0, 1], collective="gather"), 0.0)
        s.from_client(b"%dr" % i, submit(2, data=[b"x"] * 3, retries=1), 0.0)
        s.from_client(b"%dr" % i, submit(5, targets=[i], sizes=[3]), 0.0)
    s.decide(0.0)
    for number, (dies, who, message, frame) in enumerate(events):
        try:
            if isinstance(message, typing.get_args(m.ClientMessage)):
                s.from_client(b"%dr" % who, message, 0.0, frame)
            elif dies and number % 7 == 6:
                s.roster.lost(who, "died", 0.0)
            else:
                s.from_engine(who, message, 0.0, frame)
        except ProtocolError:
            continue
        finally:
            s.decide(0.0)
            s.check()


@pytest.mark.parametrize("busy", [False, True])
def test_memory_is_what_is_under_way(busy):
    """A hub that has served many tasks, cancelled, failed or done, remembers none of them."""
    rng = random.Random(1)
    cluster = Cluster(rng, 2, 1, failures=0.3)
    (client,) = cluster.clients.values()
    for _ in range(20):
        client.submit(data=[b""] * 50, retries=1)
        client.submit(targets=[0, 1], collective="gather")
        if busy:
            client.cancel(list(range(client.next_task - 30, client.next_task)))
        cluster.settle()
    cluster.check_rest()
    assert cluster.scheduler.balancer._queues == {}
