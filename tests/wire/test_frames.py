"""Messages survive the way there, and nothing else comes in."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.errors import ProtocolError
from mpicluster.wire import frames
from mpicluster.wire import messages as m

CODECS = {
    "client": (frames.from_client, m.ClientMessage),
    "engine": (frames.from_engine, m.FromEngine),
    "hub to client": (frames.from_hub_to_client, m.ToClient),
    "hub to engine": (frames.from_hub_to_engine, m.EngineMessage),
}
INFO = m.EngineInfo(1, 1, "host", 42, 2)
SAMPLES = {int: 3, str: "s", bytes: b"b", float: 0.5, bool: True, m.EngineInfo: INFO}


def sample(kind):
    """A message with a plausible value in each field."""

    def value(of):
        if of in SAMPLES:
            return SAMPLES[of]
        arguments = [a for a in typing.get_args(of) if a is not type(None)]
        return [value(arguments[0])] if typing.get_origin(of) is list else value(arguments[0])

    return kind(*(value(field.type) for field in msgspec.structs.fields(kind)))


@pytest.mark.parametrize("peer", CODECS)
def test_every_message_of_a_peer_survives(peer):
    codec, union = CODECS[peer]
    messages = [sample(kind) for kind in typing.get_args(union)]
    assert codec.unpack(frames.pack(messages)) == messages


def test_a_peer_may_not_speak_for_another():
    for kind in (m.Done, m.Assign, m.Welcome):
        with pytest.raises(ProtocolError):
            frames.from_client.unpack(frames.pack([sample(kind)]))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    for codec, _ in CODECS.values():
        for frame in (data, bytes([frames.VERSION]) + data):
            try:
                assert all(isinstance(x, msgspec.Struct) for x in codec.unpack(frame))
            except ProtocolError:
                continue


@given(st.integers(0, 60))
def test_a_truncated_message_is_refused(cut):
    whole = frames.pack([m.Hello("c" * 50, 1)])
    with pytest.raises(ProtocolError):
        frames.from_client.unpack(whole[: min(cut, len(whole) - 1)])


def test_another_version_is_refused():
    frame = frames.pack([m.Goodbye()])
    with pytest.raises(ProtocolError, match="version"):
        frames.from_client.unpack(bytes([frames.VERSION + 1]) + frame[1:])
