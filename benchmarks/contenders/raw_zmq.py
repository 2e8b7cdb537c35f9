"""The floor of a call: client to hub to engine and back the same way, that is two round trips, in plain pyzmq.

Three processes over ``ipc``, a few bytes each way, nothing pickled, nothing decided.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import zmq

from benchmarks.measures import Size
from benchmarks.take import take
from benchmarks.work import Measurement, expect, times

CLIENT, ENGINE = b"client", b"engine"
MESSAGE = b"x" * 100
PATIENCE_MS = 10_000


def hub(address: str) -> None:
    """Pass each message on to the other one, for ever."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(address)
        while True:
            sender, message = socket.recv_multipart()
            socket.send_multipart([ENGINE if sender == CLIENT else CLIENT, message])


def engine(address: str) -> None:
    """Send each message back, for ever. The first one says that we are here."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.identity = ENGINE
        socket.connect(address)
        while True:
            socket.send(socket.recv())


@contextmanager
def cluster(_engines: int) -> Iterator[Mapping[str, Measurement]]:
    """The two processes and our socket; one engine is enough here."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="zmq-") as folder:
        address = f"ipc://{folder}/hub"
        others = [spawn.Process(target=target, args=(address,), daemon=True) for target in (hub, engine)]
        for process in others:
            process.start()
        try:
            with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                socket.identity, socket.linger, socket.rcvtimeo = CLIENT, 0, 200
                socket.connect(address)
                _wait_for_echo(socket)
                yield {"apply": lambda size: apply(socket, size)}
        finally:
            for process in others:
                process.terminate()
                process.join(timeout=5)


def _wait_for_echo(socket: zmq.Socket[bytes]) -> None:
    """Until the first message comes back: what is sent before the engine is there is dropped by the router."""
    for _ in range(PATIENCE_MS // 200):
        socket.send(b"hello")
        try:
            socket.recv()
        except zmq.Again:
            continue
        while socket.poll(500):  # echoes of earlier hellos
            socket.recv()
        socket.rcvtimeo = PATIENCE_MS
        return
    raise TimeoutError(f"no echo within {PATIENCE_MS / 1000:g} s")


def apply(socket: zmq.Socket[bytes], size: Size) -> list[float]:
    """There and back."""

    def call() -> None:
        socket.send(MESSAGE)
        expect(socket.recv() == MESSAGE, "another message came back")

    times(call, size.warmup)
    return times(call, size.calls)


if __name__ == "__main__":
    take(cluster)
