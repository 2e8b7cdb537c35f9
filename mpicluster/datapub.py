"""Values that a task lets its caller see while it runs: ``publish_data`` on an engine, `AsyncResult.data` at the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["publish_data"]


def publish_data(data: Mapping[str, Any]) -> None:
    """Let the caller of the task that runs here see these values, by name: the newest of each, live, as ``ar.data``.

    Where no task runs (not on an engine, or in a thread that outlives its task) this does nothing.

    Raises
    ------
    TypeError
        this is no mapping of names to values.
    SerializationError
        a value does not pickle.
    """
    from mpicluster import engine
    from mpicluster.serial.payload import encode_inline

    if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
        raise TypeError(f"publish_data takes a dict of names and values, not {data!r:.100}")
    recorder = engine.current_recorder
    if recorder is not None:
        for name, value in data.items():
            recorder.publish(name, encode_inline(value, f"published {name!r}"))
