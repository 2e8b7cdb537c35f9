"""mpicluster: an MPI-backed SPMD cluster for interactive and batch Python.

Importing starts no MPI, reads no configuration, and loads what a name needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpicluster.client.balanced import LoadBalancedView
    from mpicluster.client.client import Client
    from mpicluster.client.direct import DirectView
    from mpicluster.client.hubresult import AsyncHubResult
    from mpicluster.client.result import AsyncResult
    from mpicluster.cluster.cluster import Cluster
    from mpicluster.errors import (
        ClosedError,
        ClusterError,
        ClusterStopped,
        CompositeError,
        EngineError,
        LaunchError,
        NoCluster,
        NoEnginesRegistered,
        NoHistory,
        NotKept,
        ProtocolError,
        RemoteError,
        SerializationError,
        TargetError,
        TaskAborted,
        UnknownTask,
    )

__version__ = "0.1.0"

__all__ = [
    "AsyncHubResult",
    "AsyncResult",
    "Client",
    "ClosedError",
    "Cluster",
    "ClusterError",
    "ClusterStopped",
    "CompositeError",
    "DirectView",
    "EngineError",
    "LaunchError",
    "LoadBalancedView",
    "NoCluster",
    "NoEnginesRegistered",
    "NoHistory",
    "NotKept",
    "ProtocolError",
    "RemoteError",
    "SerializationError",
    "TargetError",
    "TaskAborted",
    "UnknownTask",
    "__version__",
]

_HOMES = {
    "AsyncHubResult": "client.hubresult",
    "AsyncResult": "client.result",
    "Client": "client.client",
    "Cluster": "cluster.cluster",
    "DirectView": "client.direct",
    "LoadBalancedView": "client.balanced",
}


def __getattr__(name: str) -> Any:
    if name == "comm":
        return _comm()
    if name not in __all__:
        raise AttributeError(f"module 'mpicluster' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mpicluster.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "comm"])


def _comm() -> Any:
    """The communicator of all live engines; only on an engine."""
    from mpicluster import engine

    if engine.current_world is None:
        raise AttributeError("mpicluster.comm exists on engines only; run this there, as in view.apply(f) or view.execute(code)")
    return engine.current_world.comm
