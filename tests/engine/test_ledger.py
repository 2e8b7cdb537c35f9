"""What the two threads of an engine agree on: which work has begun, and which payloads are under way."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.config import CHUNK, RING_SLOTS, WINDOW
from mpicluster.engine.control import Ledger
from mpicluster.engine.streams import PayloadLost, Streams
from mpicluster.serial.ring import Reader, Ring
from mpicluster.wire import messages as m

#: No wait of a test is longer.
SOON = 20.0


# -- Ledger ----------------------------------------------------------------------------------------------------------


def test_work_begins_unless_it_was_given_back():
    ledger = Ledger()
    assert ledger.begin(1)
    assert ledger.withdraw([1, 2, 3]) == m.Withdrawn([2, 3], [1])
    assert not ledger.begin(2)
    assert not ledger.begin(3)
    assert ledger.begin(4)


def test_what_has_not_arrived_can_be_given_back():
    """The two threads have a connection each: a withdrawal may overtake its assignment."""
    ledger = Ledger()
    assert ledger.withdraw([7]) == m.Withdrawn([7], [])
    assert [ledger.begin(seq) for seq in range(1, 9)] == [True] * 6 + [False, True]


def test_what_was_passed_over_has_begun():
    ledger = Ledger()
    ledger.withdraw([1])
    ledger.begin(1)
    assert ledger.withdraw([1]) == m.Withdrawn([], [1])


def test_giving_back_twice_is_giving_back_once():
    ledger = Ledger()
    assert ledger.withdraw([1]) == ledger.withdraw([1]) == m.Withdrawn([1], [])
    assert not ledger.begin(1)
    assert ledger.begin(2)


def test_answers_are_taken_once_and_in_order():
    ledger = Ledger()
    ledger.put(m.Ready(1, b""))
    ledger.put(m.Ready(2, b""))
    assert ledger.take_outbox() == [m.Ready(1, b""), m.Ready(2, b"")]
    assert ledger.take_outbox() == []


@given(st.lists(st.one_of(st.just("begin"), st.lists(st.integers(1, 20), max_size=5)), max_size=60))
def test_each_assignment_is_either_begun_or_given_back(events):
    ledger, begun, returned, next_seq = Ledger(), set(), set(), 1
    for event in events:
        if event == "begin":
            if ledger.begin(next_seq):
                begun.add(next_seq)
            next_seq += 1
        else:
            answer = ledger.withdraw(event)
            assert sorted(answer.returned + answer.begun) == sorted(event)
            returned.update(answer.returned)
            assert not returned & begun
    while next_seq <= 20:
        if ledger.begin(next_seq):
            begun.add(next_seq)
        next_seq += 1
    assert not begun & returned
    assert begun | returned >= set(range(1, 21))


def test_two_threads_never_disagree():
    ledger, count = Ledger(), 20_000
    begun, returned = [], []
    start = threading.Barrier(2)

    def control():
        start.wait(SOON)
        for seq in range(1, count + 1):
            returned.extend(ledger.withdraw([seq]).returned)

    thread = threading.Thread(target=control)
    thread.start()
    start.wait(SOON)
    begun += [seq for seq in range(1, count + 1) if ledger.begin(seq)]
    thread.join(SOON)
    assert not thread.is_alive()
    assert sorted(begun + returned) == list(range(1, count + 1))


# -- Streams ---------------------------------------------------------------------------------------------------------


def test_a_payload_in_pieces_is_put_together():
    streams = Streams()
    assert streams.expect(1, [3, 0, 4]) == (7, False)
    streams.receive(1, 5, memoryview(b"fg"))
    streams.receive(1, 0, memoryview(b"abcde"))
    assert [bytes(b) for b in streams.take(1)] == [b"abc", b"", b"defg"]


def test_an_empty_payload_is_complete_at_once():
    streams = Streams()
    assert streams.expect(1, [0]) == (0, False)
    assert [bytes(b) for b in streams.take(1)] == [b""]


def test_a_sender_is_allowed_a_window_at_a_time():
    streams, size = Streams(), 3 * WINDOW
    allowed, sent, chunk = streams.expect(1, [size])[0], 0, memoryview(bytes(CHUNK))
    assert allowed == WINDOW
    while sent < size:
        assert sent < allowed, "the sender waits for ever"
        allowed += streams.receive(1, sent, chunk)
        sent += CHUNK
        assert allowed - sent <= WINDOW
    assert allowed == size
    assert streams.take(1)[0].nbytes == size


def test_a_payload_may_come_through_its_senders_ring():
    """And leaves its slots free; the ring that cannot be opened is not used."""
    streams, ring = Streams(), Ring()
    assert streams.expect(1, [5], ring.place) == (5, True)
    for offset, text in ((0, b"abc"), (3, b"de")):
        place = ring.put(memoryview(text), 1)
        assert streams.receive_from_ring(1, offset, *place, len(text)) == 0
    assert [bytes(b) for b in streams.take(1)] == [b"abcde"]
    assert None not in [ring.put(memoryview(b"x"), 2) for _ in range(RING_SLOTS)]
    assert streams.expect(2, [5], (*ring.place[:2], b"0" * 16)) == (5, False)
    assert streams.receive_from_ring(2, 0, 0, 1, 5) == 0
    streams.expect(3, [5], ring.place)
    assert streams.receive_from_ring(3, 0, 99, 1, 5) == 0


def test_a_result_may_go_through_the_ring_and_by_message():
    """What has no slot goes by message; a reader that has gone leaves its slots."""
    streams, sent = Streams(), {}
    whole = bytes(range(256)) * ((RING_SLOTS + 3) * CHUNK // 256)
    streams.offer(1, [whole])
    streams.send(1, len(whole), 7, sent.__setitem__)
    reader = Reader(*streams.ring.place)
    pieces = [c if isinstance(c, memoryview) else reader.view(c[0], c[2]) for c in sent.values()]
    assert b"".join(pieces) == whole
    assert [isinstance(c, memoryview) for c in sent.values()] == [False] * RING_SLOTS + [True] * 3
    streams.reader_gone(7)
    streams.offer(2, [b"abc"])
    streams.send(2, 10, 8, sent.__setitem__)
    assert isinstance(sent[0], tuple)


def test_a_chunk_of_an_unknown_payload_is_ignored():
    streams = Streams()
    assert streams.receive(9, 0, memoryview(b"x")) == 0


def test_a_withdrawn_payload_is_forgotten():
    streams = Streams()
    streams.expect(1, [4])
    streams.drop(1)
    assert streams.receive(1, 0, memoryview(b"abcd")) == 0


def waiting(streams, seq):
    """A thread that takes a payload; what it got is in the list."""
    got = []

    def take():
        try:
            got.append(streams.take(seq))
        except PayloadLost as e:
            got.append(e)

    thread = threading.Thread(target=take)
    thread.start()
    return thread, got


def test_the_main_thread_waits_for_a_payload_to_be_complete():
    streams = Streams()
    thread, got = waiting(streams, 1)
    streams.expect(1, [2])
    streams.receive(1, 0, memoryview(b"a"))
    assert got == []
    streams.receive(1, 1, memoryview(b"b"))
    thread.join(SOON)
    assert [bytes(b) for b in got[0]] == [b"ab"]


def test_the_wait_for_a_sender_that_left_ends():
    streams = Streams()
    thread, got = waiting(streams, 1)
    streams.expect(1, [2])
    streams.give_up(1)
    thread.join(SOON)
    assert isinstance(got[0], PayloadLost)
    assert "left" in str(got[0])


def test_a_payload_that_is_complete_survives_its_sender():
    streams = Streams()
    streams.expect(1, [2])
    streams.receive(1, 0, memoryview(b"ab"))
    streams.give_up(1)
    assert [bytes(b) for b in streams.take(1)] == [b"ab"]


def test_a_payload_larger_than_memory_is_an_error():
    streams = Streams()
    assert streams.expect(1, [2**62]) == (0, False)
    with pytest.raises(PayloadLost, match="no memory"):
        streams.take(1)


class Peer:
    """What was sent to it, in order."""

    def __init__(self):
        self.data = bytearray()

    def put(self, offset, view):
        assert offset == len(self.data)
        assert view.nbytes <= CHUNK
        self.data += view


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.lists(st.integers(1, 60), max_size=20))
def test_a_result_is_sent_as_far_as_it_is_allowed(buffers, grants):
    """Chunks are not split for the sake of credit: the last one may exceed it."""
    streams, peer, whole, allowed = Streams(), Peer(), b"".join(buffers), 0
    streams.offer(1, buffers)
    for credit in grants:
        allowed += credit
        streams.send(1, credit, 0, peer.put)
        assert min(allowed, len(whole)) <= len(peer.data) <= allowed + CHUNK
    streams.send(1, len(whole) + 1, 0, peer.put)
    assert bytes(peer.data) == whole


def test_a_result_nobody_wants_is_forgotten():
    streams, peer = Streams(), Peer()
    streams.offer(1, [b"abcd"])
    streams.give_up(1)
    streams.send(1, 100, 0, peer.put)
    assert peer.data == b""


def test_a_result_is_sent_once():
    streams, peer = Streams(), Peer()
    streams.offer(1, [b"abcd"])
    streams.send(1, 100, 0, peer.put)
    streams.send(1, 100, 0, peer.put)
    assert peer.data == b"abcd"
