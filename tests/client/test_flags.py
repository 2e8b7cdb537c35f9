"""What views ask of the hub, and how: seen at a client that sends nothing."""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from mpicluster.client.balanced import LoadBalancedView
from mpicluster.client.broadcast import BroadcastView
from mpicluster.client.dependency import Dependency
from mpicluster.client.direct import DirectView
from mpicluster.client.reply import Reply
from mpicluster.wire import messages as m


class FakeClient:
    """Notes what would be sent, and answers as it is told."""

    id = "c1"
    contact = SimpleNamespace(cluster="cluster")
    block = False

    def __init__(self):
        self.sent = []
        self.next = 1
        self.ids = [0, 1]

    def _live(self):
        return [0, 1]

    def _submit(self, result, first_slot, kind, *, targets, data, **options):
        count = 1 if targets is not None else len(data)
        result._number(first_slot, self.next, targets)
        self.sent.append({"kind": kind, "targets": targets, "data": data, **options})
        self.next += count
        slots = len(targets) if targets is not None else count
        for slot in range(first_slot, first_slot + slots):
            result._deliver(slot, Reply(m.Result(self.next, 0, m.LOST, b"a fake", [], 1.0, 2.0), (), 3.0))

    def _wait_until(self, done, changed, timeout):
        return done()

    @property
    def terms(self):
        return [x["terms"] for x in self.sent]


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def lv(client):
    return LoadBalancedView(client)


@pytest.fixture
def dv(client):
    return DirectView(client, "all")


def test_what_asks_for_nothing_sends_nothing(client, lv, dv):
    lv.apply_async(abs, 1)
    lv.map_async(abs, [1, 2])
    list(lv.imap(abs, [1, 2], return_exceptions=True))
    dv.apply_async(abs, 1)
    dv.map_async(abs, [1, 2])
    dv.push({"a": 1})
    dv.execute("pass")
    dv.scatter("a", [1, 2])
    assert client.terms == [None] * len(client.sent)


def test_all_flags_of_a_balanced_view_go_to_the_hub(client, lv):
    first = lv.apply_async(abs, 1)
    view = lv.set_flags(after=first, follow=["c9_3_1"], timeout=2, time_limit=0.5, priority=-3, label="mine", retries=2)
    assert view is lv
    for call in (lambda: lv.apply_async(abs, 1), lambda: lv.map_async(abs, [1]), lambda: next(lv.imap(abs, [1], return_exceptions=True))):
        client.sent.clear()
        result = call()
        after, follow = m.Needs([(1, -1)], []), m.Needs([], [("c9", 3, 1)])
        assert client.terms == [m.Terms("mine", after, follow, 2.0, 0.5, -3)]
        assert client.sent[0]["retries"] == 2
        if hasattr(result, "metadata"):
            record = result.split()[0].metadata
            assert (record.label, record.after, record.follow) == ("mine", ["c1_1"], ["c9_3_1"])


def test_a_label_may_be_given_with_one_call(client, lv, dv):
    lv.label = "base"
    assert lv.map_async(abs, [1], label="own").label == ["own"]
    assert lv.map_async(abs, [1]).label == ["base"]
    lv.map_async(abs, [1], label="")
    assert [t and t.label for t in client.terms] == ["own", "base", None]
    client.sent.clear()
    assert dv.execute("pass", label="cell").label == ["cell"] * 2
    assert dv.map_async(abs, [1], label="map").label == ["map"] * 2
    assert dv.apply_async(abs, 1).label == [None] * 2
    with dv.temp_flags(label="in between"):
        dv.push({"a": 1})
    assert [t and t.label for t in client.terms] == ["cell", "map", None, "in between"]
    with pytest.raises(TypeError, match="label is a text"):
        dv.execute("pass", label=5)


def test_what_can_be_said_of_a_dependency(lv):
    for value in ("c1_1", ["c1_1"], ("c1_1",), {"c1_1"}, Dependency(["c1_1"]), [Dependency("c1_1")], Dependency(["c1_1"]).as_dict()):
        lv.after = value
        assert lv.after == Dependency(["c1_1"])
    lv.after = None
    assert lv.after is None


@pytest.mark.parametrize(
    ("flag", "value", "kind"),
    [
        ("timeout", -1, ValueError),
        ("timeout", math.nan, ValueError),
        ("timeout", "soon", TypeError),
        ("timeout", True, TypeError),
        ("time_limit", -0.1, ValueError),
        ("time_limit", [], TypeError),
        ("retries", -1, ValueError),
        ("retries", 1.5, TypeError),
        ("priority", "high", TypeError),
        ("priority", 1 << 40, ValueError),
        ("label", 5, TypeError),
        ("after", "nothing", ValueError),
        ("after", 5, TypeError),
        ("follow", [object()], TypeError),
    ],
)
def test_a_wrong_value_is_refused_at_once(client, lv, flag, value, kind):
    """However it is given; and nothing of it stays."""
    before = getattr(lv, flag)
    for give in (
        lambda: lv.set_flags(**{"block": True, flag: value}),
        lambda: setattr(lv, flag, value),
        lambda: lv.temp_flags(**{flag: value}).__enter__(),
        lambda: LoadBalancedView(client, **{flag: value}),
    ):
        with pytest.raises(kind):
            give()
    assert getattr(lv, flag) == before
    assert lv.block is False


def test_no_limit_is_said_in_several_ways(client, lv):
    for nothing in (None, 0, math.inf):
        lv.set_flags(timeout=nothing, time_limit=nothing)
        assert lv.timeout is None
        lv.apply_async(abs, 1)
    assert client.terms == [None] * 3


def test_an_unknown_flag_is_a_key_error_with_a_plain_text(client, lv, dv):
    with pytest.raises(KeyError) as caught:
        dv.set_flags(retries=3)
    assert str(caught.value) == "this view has no flag 'retries'; it has block, label, targets, track"
    for give in (lambda: lv.set_flags(colour=1), lambda: DirectView(client, "all", colour=1), lambda: BroadcastView(client, after="c1_1")):
        with pytest.raises((KeyError, TypeError), match="no flag"):
            give()
    with pytest.raises(KeyError), lv.temp_flags(colour=1):
        pass


def test_flags_of_a_constructor(client):
    view = LoadBalancedView(client, [1], block=True, label="x", after="c1_1", track=True)
    assert (view.block, view.label, view.after, view.targets, view.track) == (True, "x", Dependency("c1_1"), [1], True)
    assert DirectView(client, "all", block=None).block is False
    client.block = True
    assert DirectView(client, "all").block is True
    assert BroadcastView(client, is_coalescing=True, label="b").is_coalescing is True


def test_temporary_flags_end_with_the_block(lv):
    lv.label = "base"
    with lv.temp_flags(label="a", retries=1) as same:
        assert same is lv
        with lv.temp_flags(label="b"):
            assert (lv.label, lv.retries) == ("b", 1)
            lv.label = "set inside"
            assert lv.label == "set inside"
        assert (lv.label, lv.retries) == ("a", 1)
    assert (lv.label, lv.retries) == ("base", 0)
    with pytest.raises(ZeroDivisionError), lv.temp_flags(retries=7):
        raise ZeroDivisionError
    assert lv.retries == 0


def test_temporary_flags_of_two_views_are_their_own(lv, dv):
    with lv.temp_flags(label="l"), dv.temp_flags(label="d"):
        assert (lv.label, dv.label) == ("l", "d")
    assert (lv.label, dv.label) == ("", "")


def test_no_thread_sees_the_temporary_flags_of_another(client, lv):
    """Each call goes out with the flags of its own thread."""
    together = threading.Barrier(8)

    def work(i):
        seen = []
        for k in range(50):
            with lv.temp_flags(label=f"{i}-{k}", priority=i):
                together.wait(30)
                seen.append((lv.apply_async(abs, 1).label, lv.priority) == (f"{i}-{k}", i))
            seen.append(lv.label == "")
        return all(seen)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert sorted(t.label for t in client.terms) == sorted(f"{i}-{k}" for i in range(8) for k in range(50))
    assert all(t.label.startswith(f"{t.priority}-") for t in client.terms)


def test_flags_set_by_several_threads_are_all_set(lv):
    names = [("label", "x"), ("retries", 3), ("priority", 5), ("timeout", 9.0)]
    for _ in range(50):
        lv.set_flags(label="", retries=0, priority=0, timeout=None)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda pair: setattr(lv, *pair), names))
        assert (lv.label, lv.retries, lv.priority, lv.timeout) == ("x", 3, 5, 9.0)


def test_no_task_of_an_event_loop_sees_the_temporary_flags_of_another(lv):
    async def one(i):
        with lv.temp_flags(label=str(i)):
            await asyncio.sleep(0)
            return lv.label

    async def all_of_them():
        return await asyncio.gather(*(one(i) for i in range(20)))

    assert asyncio.run(all_of_them()) == [str(i) for i in range(20)]
    assert lv.label == ""


def test_an_iterator_keeps_the_flags_that_it_was_made_with(client, lv):
    with lv.temp_flags(label="then"):
        values = lv.imap(abs, range(3), max_outstanding=1, return_exceptions=True)
    assert len(list(values)) == 3
    assert [t.label for t in client.terms] == ["then"] * 3


def test_decorated_functions_have_flags_of_their_own(client, lv, dv):
    lv.remote(label="r", retries=1)(abs)(3)
    dv.parallel(label="p")(abs).map([1, 2])
    lv.parallel(label="q", chunksize=2)(sum)([1, 2, 3])
    assert [t.label for t in client.terms] == ["r", "p", "q"]
    assert len(client.sent[2]["data"]) == 2
    with pytest.raises(KeyError):
        dv.remote(retries=1)(abs)
    with pytest.raises(ValueError, match="dist"):
        dv.parallel(dist="x")(abs)
    with pytest.raises(TypeError, match="not callable"):
        dv.remote()(5)
    with pytest.raises(ValueError, match="one length"):
        dv.parallel()(max)([1, 2], [3])
    with pytest.raises(ValueError, match="chunksize"):
        dv.parallel(chunksize=2)(sum)([1])
