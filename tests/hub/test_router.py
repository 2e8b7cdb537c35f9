"""The hub's sockets: nothing that was said is lost when a peer goes, and no message is left unread."""

from __future__ import annotations

import time

import pytest
import zmq

from mpicluster.hub.records import Send
from mpicluster.hub.router import Keys, Router
from mpicluster.hub.scheduler import Scheduler
from mpicluster.wire import frames
from mpicluster.wire import messages as m

TIMEOUT = 20.0


class Bench:
    """A router, and peers that are plain sockets."""

    def __init__(self, folder):
        self.context = zmq.Context()
        self.router = Router(Scheduler("test", 2), Keys.fresh(), str(folder))
        self.scheduler = self.router.scheduler
        self.sockets = []

    def connect(self, address, identity):
        s = self.context.socket(zmq.DEALER)
        s.setsockopt(zmq.IDENTITY, identity)
        s.setsockopt(zmq.RECONNECT_IVL, -1)
        s.linger = 1000
        s.connect(address)
        self.sockets.append(s)
        return s

    def until(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline
            self.router.run_once(0.01)

    def engine(self, number):
        channels = []
        for channel in ("main", "control"):
            s = self.connect(self.router.addresses.engine_ipc, b"e%d%s" % (number, channel[:1].encode()))
            info = m.EngineInfo(number, number, "host", 1, 1)
            s.send(frames.pack([m.Register(info, channel, "MPI", True)]))
            channels.append(s)
        self.until(lambda: number in self.scheduler.engines)
        return channels

    def client(self, name):
        listen = self.connect(self.router.addresses.client_ipc, name + b"r")
        talk = self.connect(self.router.addresses.client_ipc, name + b"t")
        listen.send(frames.pack([m.Hello(name.decode(), frames.VERSION)]))
        self.until(lambda: name + b"r" in self.scheduler.clients)
        return listen, talk

    def heard(self, socket, kind):
        """Wait for a message of that kind."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            self.router.run_once(0)
            while socket.poll(1):
                for message in frames.from_hub_to_client.unpack(socket.recv_multipart()[0]):
                    if isinstance(message, kind):
                        return message
        raise AssertionError(f"no {kind.__name__} came")


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    for s in bench.sockets:
        s.close(linger=0)
    bench.context.term()
    bench.router.close()


@pytest.mark.parametrize("channel", [b"e0m", b"e0c"])
def test_the_last_words_of_an_engine_are_heard(bench, channel):
    """However the hub learns of its end: what it had done is done."""
    main, _ = bench.engine(0)
    bench.engine(1)
    listen, talk = bench.client(b"ann")
    talk.send(frames.pack([m.Submit(1, "apply", [0], [], b"f", [b"d"], b"", [], "", 0)]))
    bench.until(lambda: bench.scheduler.engines[0].parts)
    for _ in range(300):  # more than are taken at once
        main.send(frames.pack([m.Ready(99, b"")]))
    main.send(frames.pack([m.Done(1, m.OK, b"value", [], 0.0, 0.0)]))
    main.close()
    ends = bench.router._monitors[bench.router._routes[b"e0m"]]
    assert ends.socket.poll(TIMEOUT * 1000)  # it is told after all that came before
    bench.router._gone(channel)
    assert 0 not in bench.scheduler.engines
    result = bench.heard(listen, m.Result)
    assert (result.outcome, result.data) == (m.OK, b"value")


def test_a_peer_that_is_gone_hides_no_message_of_another(bench):
    """What ZMQ tells only once is not lost when sending fails."""
    gone_listen, gone_talk = bench.client(b"ann")
    listen, talk = bench.client(b"bob")
    gone_listen.close(linger=0)
    gone_talk.close(linger=0)
    deadline = time.monotonic() + TIMEOUT
    while not bench.router._unreachable:  # until libzmq has taken the way to it away
        assert time.monotonic() < deadline
        bench.router._flush([Send(b"annr", m.Left())])
    bench.router.run_once(0)
    for _ in range(20):
        talk.send(frames.pack([m.Status(5)]))
        source = bench.router._routes[b"bobr"]
        while not source.socket.poll(1000):
            assert time.monotonic() < deadline
        bench.router._routes[b"annr"] = source
        bench.router._flush([Send(b"annr", m.Left())])
        assert source in bench.router._selector.wait(5.0)
        bench.router._drain(source)
    assert bench.heard(listen, m.StatusReply).request == 5
