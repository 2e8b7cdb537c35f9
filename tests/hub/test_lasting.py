"""What is kept for clients that may come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpicluster.hub.lasting import Lasting, address_of
from mpicluster.wire.log import Log


def test_addresses_of_connections():
    assert address_of(b"abcr") == b"abcr"
    assert address_of(b"abct") == b"abcr"
    assert address_of(b"abc#12t") == b"abcr"


@given(st.lists(st.one_of(st.just("say"), st.integers(0, 30))))
def test_a_log_keeps_what_was_not_heard(events):
    """Whatever is said to have been heard, in whatever order: also too much, and less than before."""
    log, said, heard = Log(), 0, 0
    for event in events:
        if event == "say":
            log.add(b"%d" % said, b"frame")
            said += 1
        else:
            log.forget(event)
            heard = max(heard, min(event, said))
    assert list(log) == [(b"%d" % i, b"frame") for i in range(heard, said)]
    assert log.heard == heard
    assert log.nbytes == sum(len(b"%d" % i) + 5 for i in range(heard, said))


@given(st.lists(st.sampled_from(["hub", "client", "drop", "lose", "tell"]), max_size=60), st.integers(0, 3))
def test_both_hear_all_once_and_in_order(events, every):
    """However often the connection drops, with whatever on its way."""
    lasting = Lasting(nbytes=1_000_000)
    lasting.begin(b"cr", 100.0)
    client = Log()
    number, client_heard, hub_heard, said_by_hub, said_by_client = 0, [], [], 0, 0
    to_client, to_hub = [], []  # under way

    def identity(end):
        return (b"c#%d" % number if number else b"c") + end

    def deliver(count):
        for _ in range(min(count, len(to_hub))):
            envelope, source = to_hub.pop(0)
            if lasting.take(source) is not None:
                hub_heard.append(envelope)
        client_heard.extend(to_client.pop(0) for _ in range(min(count, len(to_client))))

    def drop(*, all_lost):
        nonlocal number
        late = [] if all_lost else [*to_hub]  # what was said on the old connection may come late
        to_client.clear()
        to_hub.clear()
        lasting.gone(identity(b"r"), 0.0)
        number += 1
        taken, log = lasting.back(identity(b"r"), len(client_heard))
        to_hub.extend(late)
        client.forget(taken)
        to_client.extend(parts[0] for parts in log)
        to_hub.extend((parts[0], identity(b"t")) for parts in client)

    for event in events:
        if event == "hub":
            envelope = b"h%d" % said_by_hub
            said_by_hub += 1
            assert lasting.say(b"cr", [envelope]) == identity(b"r")
            to_client.append(envelope)
        elif event == "client":
            envelope = b"c%d" % said_by_client
            said_by_client += 1
            client.add(envelope)
            to_hub.append((envelope, identity(b"t")))
        elif event == "tell":
            lasting.heard(b"cr", len(client_heard))
        else:
            drop(all_lost=event == "lose")
        deliver(every)
    drop(all_lost=True)
    deliver(10_000)
    assert client_heard == [b"h%d" % i for i in range(said_by_hub)]
    assert hub_heard == [b"c%d" % i for i in range(said_by_client)]


def test_who_is_away_for_too_long_is_forgotten():
    lasting = Lasting(nbytes=100)
    for name, within in ((b"ar", 10.0), (b"br", 30.0), (b"cr", 30.0)):
        lasting.begin(name, within)
    assert lasting.gone(b"ar", 1.0)
    assert lasting.gone(b"br", 5.0)
    assert not lasting.gone(b"xr", 5.0)
    assert lasting.away() == {b"ar", b"br"}
    assert lasting.say(b"ar", [b"x"]) is None
    assert lasting.say(b"cr", [b"x"]) == b"cr"
    assert lasting.wake_at() == 11.0
    assert lasting.over(10.9) == []
    assert lasting.over(11.0) == [b"ar"]
    assert lasting.back(b"a#1r", 0) is None
    assert lasting.wake_at() == 35.0
    lasting.say(b"br", [b"x" * 101])
    assert lasting.over(11.0) == [b"br"]
    assert b"cr" in lasting


def test_the_end_of_an_old_connection_says_nothing():
    """It may be noticed after the client is back."""
    lasting = Lasting(nbytes=100)
    lasting.begin(b"ar", 10.0)
    lasting.back(b"a#1r", 0)
    assert lasting.gone(b"ar", 0.0)
    assert lasting.away() == set()
    assert lasting.take(b"at") is None
    assert lasting.take(b"a#1t") == 1
