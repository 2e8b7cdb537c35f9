"""Who comes in, and what is made of nonsense: it is counted and dropped, and nobody else notices."""

from __future__ import annotations

import operator
import random
import socket
import stat
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import psutil
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from mpicluster import Client, NoCluster, config
from mpicluster.errors import ProtocolError
from mpicluster.wire import contact as contact_file
from mpicluster.wire import frames
from mpicluster.wire import messages as m

#: No wait of a test is longer.
SOON = 60.0
#: Random messages at each of the five doors.
FLOOD = 2000


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


def port_of(address):
    return int(address.rpartition(":")[2])


def tcp_ports(contact):
    """The hub's ports: for clients, and for engines."""
    client = port_of(contact.tcp[0])
    listening = {c.laddr.port for c in psutil.Process(contact.hub_pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    (engine,) = listening - {client}
    return client, engine


def until(rc, condition, what):
    """Wait until the hub's status is as it should be."""
    deadline = time.monotonic() + SOON
    while not condition(status := rc.status()):
        assert time.monotonic() < deadline, f"{what}: {status}"


@contextmanager
def dealer(address, contact=None, identity=None):
    """A socket connected to the hub; with a contact, it has the client's keys."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as s:
        s.linger = 0
        s.sndtimeo = s.rcvtimeo = int(SOON * 1000)
        s.sndhwm = 0
        s.setsockopt(zmq.RECONNECT_IVL, -1)
        if identity is not None:
            s.setsockopt(zmq.IDENTITY, identity)
        if contact is not None:
            s.curve_serverkey = contact.server_key.encode()
            s.curve_publickey, s.curve_secretkey = contact.client_public.encode(), contact.client_secret.encode()
        monitor = s.get_monitor_socket()
        monitor.rcvtimeo = int(SOON * 1000)
        s.connect(address)
        try:
            yield s, monitor
        finally:
            s.disable_monitor()
            monitor.close(linger=0)


def wait_for_event(monitor, *events):
    """What happened to a connection first of these."""
    deadline = time.monotonic() + SOON
    while (event := recv_monitor_message(monitor)["event"]) not in events:
        assert time.monotonic() < deadline
    return event


def noise(rng):
    """One or two frames of random bytes, some of them with the right version in front."""
    head = rng.randbytes(rng.randint(0, 200))
    head = frames.pack([])[:1] + head if rng.random() < 0.5 else head
    return [head] if rng.random() < 0.7 else [head, rng.randbytes(rng.randint(0, 2000))]


def flood_tcp(seed, port):
    """Random bytes straight into a port, one connection for each message."""
    rng = random.Random(seed)
    for _ in range(FLOOD):
        with socket.create_connection(("127.0.0.1", port), SOON) as s:
            if rng.random() < 0.5:
                s.settimeout(SOON)
                with suppress(ConnectionError):  # the hub may hang up at the first wrong byte
                    s.sendall(b"\xff" + rng.randbytes(8) + b"\x7f\x03" + rng.randbytes(rng.randint(0, 200)))
            else:
                with suppress(ConnectionError):
                    s.sendall(rng.randbytes(rng.randint(1, 500)))


def means_something(head):
    """Whether these bytes are an envelope after all: an empty list of messages is soon thrown."""
    with suppress(ProtocolError):
        frames.from_client.unpack(head)
        return True
    with suppress(ProtocolError):
        frames.from_engine.unpack(head)
        return True
    return False


def flood_zmq(seed, address, contact=None):
    """Random frames from a peer that libzmq lets in."""
    rng = random.Random(seed)
    with dealer(address, contact) as (s, monitor):
        wait_for_event(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED)
        for _ in range(FLOOD):
            message = noise(rng)
            while means_something(message[0]):
                message = noise(rng)
            s.send_multipart(message)
        s.linger = int(SOON * 1000)


@contextmanager
def at_work(rc):
    """A client works meanwhile, and every result must be right."""
    enough = threading.Event()
    view = rc.load_balanced_view()

    def work():
        rounds = 0
        while not enough.is_set() or not rounds:
            assert view.map(operator.neg, range(100)).get(timeout=SOON) == [-i for i in range(100)]
            assert rc[:].apply(operator.mul, 6, 7).get(timeout=SOON) == [42] * len(rc)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(work)
        try:
            yield
        finally:
            enough.set()
        assert worker.result(SOON) > 0


def test_ten_thousand_random_messages_at_all_doors_disturb_nobody(fresh):
    rc = fresh(2)
    contact, before = rc.contact, rc.status()
    client_port, engine_port = tcp_ports(contact)
    ipc = contact.ipc
    with at_work(rc), ThreadPoolExecutor(5) as pool:
        floods = [
            pool.submit(flood_tcp, 4, client_port),
            pool.submit(flood_tcp, 5, engine_port),
            pool.submit(flood_zmq, 1, ipc),
            pool.submit(flood_zmq, 2, ipc.removesuffix("client") + "engine"),
            pool.submit(flood_zmq, 3, f"tcp://127.0.0.1:{client_port}", contact),
        ]
        for flood in floods:
            flood.result(SOON)
        until(rc, lambda s: s["dropped"]["malformed"] >= 3 * FLOOD, "every random frame is counted")
    after = rc.status()
    assert after["dropped"]["unauthenticated"] > before["dropped"]["unauthenticated"]
    assert after["hub"]["pid"] == before["hub"]["pid"]
    assert [e["pid"] for e in after["engines"]] == [e["pid"] for e in before["engines"]]
    assert after["clients"] == before["clients"]


def test_an_oversized_frame_is_dropped(fresh):
    """It is counted; one that is larger still ends its connection before it is read."""
    rc = fresh(1)
    with at_work(rc), dealer(f"tcp://127.0.0.1:{tcp_ports(rc.contact)[0]}", rc.contact) as (s, monitor):
        wait_for_event(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED)
        s.send(bytes(config.MAX_FRAME + 1))
        s.send_multipart([frames.pack([m.Goodbye()]), bytes(config.MAX_FRAME + 1)])
        until(rc, lambda status: status["dropped"]["oversized"] == 2, "both are counted")
        s.send(bytes(config.TRANSPORT_MAX_FRAME + 1))
        wait_for_event(monitor, zmq.EVENT_DISCONNECTED)
    assert rc.status()["dropped"]["oversized"] == 2


def submit(first, *, kind="apply", targets=None, data=(b"d",), fn=b"f", sizes=(), collective="", retries=0, allowed=()):
    return m.Submit(first, kind, targets, list(allowed), fn, list(data), b"", list(sizes), collective, retries)


LAST = 2**64 - 1
NONSENSE = [
    submit(LAST, data=[b"", b""]),
    submit(-1),
    submit(2**63 - 1, data=[b""] * 3),
    submit(1, targets=[]),
    submit(1, targets=[0, 0]),
    submit(1, targets=[0], data=[]),
    submit(1, targets=[0, 1], data=[b""] * 3),
    submit(1, targets=[0], collective="dance"),
    submit(1, collective="gather"),
    submit(1, sizes=[-1]),
    submit(10, targets=[LAST, -5]),
    submit(11, allowed=[99]),
    submit(12, kind="dance", retries=3),
    submit(13, kind="dance", targets=[0, 1], collective="gather"),
    submit(14, kind="gather", targets=[0], data=[b"nonsense"]),
    submit(15, kind="map", data=[b"", b"\x80\x05"] * 20, fn=b""),
    submit(40, kind="scatter", targets=[1, 0], collective="scatter", data=[b"x", b"y"]),
    submit(41, sizes=[LAST]),
    submit(42, targets=[1], sizes=[2**62]),
    submit(43, sizes=[1000]),
    m.Chunk(43, 0, 2**62),
    m.Chunk(43, 1, -1),
    m.Chunk(43, -1, LAST),
    m.Chunk(99, 0, 0),
    m.Credit(43, 0, -1),
    m.Credit(43, 0, LAST),
    m.Credit(LAST, LAST, LAST),
    m.Cancel(LAST, [LAST, -1, 12, 12, 43]),
    m.Hello("twice", frames.VERSION),
    m.Goodbye(),
    m.Goodbye(),
    submit(1),
]


def test_nonsense_of_a_client_with_the_key_harms_only_itself(fresh):
    """Well-formed messages that mean nothing: the hub and the engines are there afterwards, and others had right results."""
    rc = fresh(2)
    before = rc.status()
    address, name = f"tcp://127.0.0.1:{tcp_ports(rc.contact)[0]}", uuid.uuid4().hex.encode()
    with at_work(rc), dealer(address, rc.contact, name + b"r") as (listen, _), dealer(address, rc.contact, name + b"t") as (talk, _):
        listen.send(frames.pack([m.Hello(name.decode(), frames.VERSION)]))
        assert isinstance(frames.from_hub_to_client.unpack(listen.recv())[0], m.Welcome)
        for message in NONSENSE:
            talk.send(frames.pack([message]))
            talk.send_multipart([frames.pack([message]), b"frame"])
        talk.send(frames.pack([m.Status(LAST)]))
        while not any(isinstance(x, m.StatusReply) for x in frames.from_hub_to_client.unpack(listen.recv_multipart()[0])):
            pass
    after = rc.status()
    assert after["hub"]["pid"] == before["hub"]["pid"]
    assert [e["pid"] for e in after["engines"]] == [e["pid"] for e in before["engines"]]
    assert after["dropped"]["malformed"] > before["dropped"]["malformed"]
    until(rc, lambda s: s["clients"] == before["clients"] and not any(e["queued"] for e in s["engines"]), "nothing is left of that client")


def remote(contact, **changes):
    """The contact as seen from another host: it is reached over TCP."""
    return msgspec.structs.replace(contact, host="elsewhere", **changes)


def test_over_tcp_the_right_key_comes_in(fresh):
    contact = fresh(1).contact
    with closing(Client(remote(contact))) as rc:
        assert rc[:].apply_sync(operator.mul, 6, 7) == [42]


def test_over_tcp_another_key_is_refused(fresh):
    rc = fresh(1)
    public, secret = zmq.curve_keypair()
    with pytest.raises(NoCluster, match="refused this client's key"):
        Client(remote(rc.contact, client_public=public.decode(), client_secret=secret.decode()))
    assert rc.status()["dropped"]["unauthenticated"] >= 1


def test_a_hub_with_another_key_is_not_trusted(fresh):
    """Its client says nothing to it."""
    rc = fresh(1)
    before = rc.status()
    with pytest.raises(NoCluster):
        Client(remote(rc.contact, server_key=zmq.curve_keypair()[0].decode()), timeout=1.0)
    assert rc.status()["clients"] == before["clients"]


def test_the_key_of_clients_does_not_open_the_engines_door(fresh):
    rc = fresh(1)
    with dealer(f"tcp://127.0.0.1:{tcp_ports(rc.contact)[1]}", rc.contact) as (_, monitor):
        event = wait_for_event(monitor, zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    assert event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    assert rc.status()["dropped"]["unauthenticated"] >= 1


@pytest.mark.parametrize("door", [0, 1], ids=["client", "engine"])
def test_nothing_comes_in_without_a_key(fresh, door):
    rc = fresh(1)
    before = rc.status()
    name = uuid.uuid4().hex.encode()
    with dealer(f"tcp://127.0.0.1:{tcp_ports(rc.contact)[door]}", identity=name + b"r") as (s, monitor):
        with suppress(zmq.Again):  # it may have been turned away already
            s.send(frames.pack([m.Hello(name.decode(), frames.VERSION)]), zmq.NOBLOCK)
        failed = (zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        assert wait_for_event(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED, *failed) in failed
        with pytest.raises(zmq.Again):
            s.recv(zmq.NOBLOCK)
    assert rc.status()["clients"] == before["clients"]
    # it hangs up when it sees what is asked of it: the hub may hear that first
    until(rc, lambda status: status["dropped"]["unauthenticated"] + status["dropped"]["unfinished"] >= 1, "it is counted")


def test_only_the_owner_can_read_keys_and_reach_sockets(fresh):
    contact = fresh(1).contact
    folder = contact_file.profile_dir(contact.profile)
    assert mode(folder) == 0o700
    assert mode(folder / f"{contact.cluster}.json") == 0o600
    assert mode(Path(contact.ipc.removeprefix("ipc://")).parent) == 0o700
