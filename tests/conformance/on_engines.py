"""``rc.xp`` of three engines as a module, for the array API standard's own suite, which tests modules. Importing it starts the engines."""

from __future__ import annotations

import atexit
from typing import Any

import mpicluster

_cluster = mpicluster.Cluster(n=3, profile="conformance")
_client = _cluster.__enter__()
atexit.register(_cluster.__exit__, None, None, None)

__array_api_version__ = _client.xp.__array_api_version__


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__array_namespace_info__":
        raise AttributeError(name)
    return getattr(_client.xp, name)


def __dir__() -> list[str]:
    return dir(_client.xp)
