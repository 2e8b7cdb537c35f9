"""Messages to frames and back. An envelope is ``[version byte + msgpack list of messages, raw frame of a chunk ...]``.

Pure: bytes in, messages out. What does not decode to the expected types raises `ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from mpicluster.errors import ProtocolError
from mpicluster.wire import messages as m

__all__ = ["VERSION", "Codec", "from_client", "from_engine", "from_hub_to_client", "from_hub_to_engine", "pack"]

VERSION = 1
_PREFIX = bytes([VERSION])
_encoder = msgspec.msgpack.Encoder()
T = TypeVar("T")


def pack(messages: Sequence[m.Message]) -> bytes:
    """The first frame of an envelope."""
    return _PREFIX + _encoder.encode(messages)


class Codec(Generic[T]):
    """Decodes envelopes from one kind of peer, and refuses what that peer must not say."""

    def __init__(self, union: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(list[union])

    def unpack(self, frame: bytes | memoryview) -> list[T]:
        """The messages of an envelope's first frame.

        Raises
        ------
        ProtocolError
            another version, not msgpack, an unknown message, or a field of the wrong type.
        """
        view = memoryview(frame)
        if not view.nbytes or view[0] != VERSION:
            raise ProtocolError(f"not a message of version {VERSION}")
        try:
            decoded: list[T] = self._decoder.decode(view[1:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise ProtocolError(f"malformed message: {e}") from e
        return decoded


from_client: Codec[m.ClientMessage] = Codec(m.ClientMessage)
from_engine: Codec[m.FromEngine] = Codec(m.FromEngine)
from_hub_to_client: Codec[m.ToClient] = Codec(m.ToClient)
from_hub_to_engine: Codec[m.EngineMessage] = Codec(m.EngineMessage)
