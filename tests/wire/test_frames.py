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
KINDS = sorted({kind for _, union in CODECS.values() for kind in typing.get_args(union)}, key=lambda kind: kind.__name__)
#: values of each type that a field has
VALUES = {
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=40),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
}


def values(of):
    if of in VALUES:
        return VALUES[of]
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return any_of(of)
    if typing.get_origin(of) is list:
        return st.lists(values(*typing.get_args(of)), max_size=4)
    if typing.get_origin(of) is tuple:
        return st.tuples(*map(values, typing.get_args(of)))
    return st.one_of(*(st.none() if a is type(None) else values(a) for a in typing.get_args(of)))


def any_of(kind):
    """Any message of a kind."""
    return st.builds(kind, *(values(field.type) for field in msgspec.structs.fields(kind)))


def from_peer(peer):
    """Any envelope of a peer."""
    return st.lists(st.one_of(*(any_of(kind) for kind in typing.get_args(CODECS[peer][1]))), max_size=4)


def codecs_of(kind):
    return [codec for codec, union in CODECS.values() if kind in typing.get_args(union)]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_message_survives(kind, data):
    message = data.draw(any_of(kind))
    for codec in codecs_of(kind):
        assert codec.unpack(frames.pack([message])) == [message]
        assert codec.unpack(memoryview(bytearray(frames.pack([message, message])))) == [message, message]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_peer_may_not_speak_for_another(kind, data):
    frame = frames.pack([data.draw(any_of(kind))])
    for codec, _ in CODECS.values():
        if codec not in codecs_of(kind):
            with pytest.raises(ProtocolError):
                codec.unpack(frame)


@pytest.mark.parametrize("peer", CODECS)
@given(data=st.data())
def test_a_truncated_envelope_is_refused(peer, data):
    frame = frames.pack(data.draw(from_peer(peer)))
    with pytest.raises(ProtocolError):
        CODECS[peer][0].unpack(frame[: data.draw(st.integers(0, len(frame) - 1))])


@pytest.mark.parametrize("peer", CODECS)
@given(data=st.data(), more=st.binary(min_size=1, max_size=5))
def test_bytes_after_an_envelope_are_refused(peer, data, more):
    with pytest.raises(ProtocolError):
        CODECS[peer][0].unpack(frames.pack(data.draw(from_peer(peer))) + more)


@pytest.mark.parametrize("peer", CODECS)
@given(data=st.data(), version=st.integers(0, 255).filter(lambda v: v != frames.VERSION))
def test_another_version_is_refused(peer, data, version):
    frame = frames.pack(data.draw(from_peer(peer)))
    with pytest.raises(ProtocolError, match="version"):
        CODECS[peer][0].unpack(bytes([version]) + frame[1:])


def only_messages_or_refused(codec, union, frame):
    try:
        messages = codec.unpack(frame)
    except ProtocolError:
        return
    assert all(isinstance(message, typing.get_args(union)) for message in messages)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    for codec, union in CODECS.values():
        for frame in (data, bytes([frames.VERSION]) + data):
            only_messages_or_refused(codec, union, frame)


@pytest.mark.parametrize("peer", CODECS)
@given(data=st.data())
def test_a_damaged_envelope_is_refused_or_means_something_else(peer, data):
    """Whatever bits flip: an envelope of typed messages comes out, or `ProtocolError`."""
    frame = bytearray(frames.pack(data.draw(from_peer(peer))))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    only_messages_or_refused(*CODECS[peer], frame)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x90\x00",  # more after the list
        b"\x80",  # a map
        b"\xc0",  # nil
        b"\xdd\xff\xff\xff\xff",  # four thousand million messages that are not there
        b"\x91\x93\x0c\x01\xdd\xff\xff\xff\xff",  # ... and tasks
        b"\x91\x93\x0a\xdb\xff\xff\xff\xff",  # a text as long
        b"\x91\x93\x0a\xa2\xc3\x28\x01",  # a text that is not UTF-8
        b"\x91" * 100_000,  # nested deeper than any stack
        b"\x91\xc7\x08\xff12345678",  # an extension type
        b"\x91\x92\x0d\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00",  # 1.5 where a whole number belongs
        b"\x91\x91\x63",  # an unknown verb
    ],
)
@pytest.mark.parametrize("peer", CODECS)
def test_malformed_bytes_are_refused(peer, body):
    with pytest.raises(ProtocolError):
        CODECS[peer][0].unpack(frames.pack([])[:1] + body)
