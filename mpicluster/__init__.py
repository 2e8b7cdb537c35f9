"""mpicluster: an MPI-backed SPMD cluster for interactive and batch Python.

Importing starts no MPI, reads no configuration, and loads what a name needs when it is first used.
"""

from __future__ import annotations

import builtins
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION

    from mpicluster.client.balanced import LoadBalancedView
    from mpicluster.client.broadcast import BroadcastView
    from mpicluster.client.client import Client
    from mpicluster.client.dependency import Dependency
    from mpicluster.client.direct import DirectView
    from mpicluster.client.executor import ViewExecutor
    from mpicluster.client.hubresult import AsyncHubResult
    from mpicluster.client.mapped import AsyncMapResult, LazyMapIterator
    from mpicluster.client.remote import ParallelFunction, RemoteFunction, parallel, remote, use_cloudpickle, use_dill, use_pickle
    from mpicluster.client.result import AsyncResult
    from mpicluster.cluster.cluster import Cluster
    from mpicluster.cluster.default import register_joblib_backend
    from mpicluster.errors import (
        AlreadyDisplayedError,
        ArrayLost,
        ClosedError,
        ClusterError,
        ClusterStopped,
        CompositeError,
        DependencyTimeout,
        EngineError,
        FlagError,
        ImpossibleDependency,
        InvalidDependency,
        IPythonError,
        KernelError,
        LaunchError,
        NoCluster,
        NoEnginesRegistered,
        NoHistory,
        NotKept,
        ProtocolError,
        RemoteError,
        SerializationError,
        StdinNotImplementedError,
        TargetError,
        TaskAborted,
        TaskRejectError,
        TaskTimeout,
        UnknownTask,
        UnmetDependency,
    )
    from mpicluster.serial.dependent import depend, dependent, require
    from mpicluster.serial.functions import interactive
    from mpicluster.serial.reference import PrePickled, Reference

__version__ = "0.1.0"
version_info = (0, 1, 0)
TimeoutError = builtins.TimeoutError  # noqa: A001 - IPython Parallel has it here too

__all__ = [
    "ALL_COMPLETED",
    "AlreadyDisplayedError",
    "ArrayLost",
    "AsyncHubResult",
    "AsyncMapResult",
    "AsyncResult",
    "BroadcastView",
    "Client",
    "ClosedError",
    "Cluster",
    "ClusterError",
    "ClusterStopped",
    "CompositeError",
    "Dependency",
    "DependencyTimeout",
    "DirectView",
    "EngineError",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "FlagError",
    "IPythonError",
    "ImpossibleDependency",
    "InvalidDependency",
    "KernelError",
    "LaunchError",
    "LazyMapIterator",
    "LoadBalancedView",
    "NoCluster",
    "NoEnginesRegistered",
    "NoHistory",
    "NotKept",
    "ParallelFunction",
    "PrePickled",
    "ProtocolError",
    "Reference",
    "RemoteError",
    "RemoteFunction",
    "SerializationError",
    "StdinNotImplementedError",
    "TargetError",
    "TaskAborted",
    "TaskRejectError",
    "TaskTimeout",
    "UnknownTask",
    "UnmetDependency",
    "ViewExecutor",
    "__version__",
    "depend",
    "dependent",
    "interactive",
    "load_ipython_extension",
    "parallel",
    "register_joblib_backend",
    "remote",
    "require",
    "use_cloudpickle",
    "use_dill",
    "use_pickle",
    "version_info",
]

_HOMES = {
    "ALL_COMPLETED": "concurrent.futures",
    "AsyncHubResult": "client.hubresult",
    "AsyncMapResult": "client.mapped",
    "AsyncResult": "client.result",
    "BroadcastView": "client.broadcast",
    "Client": "client.client",
    "Cluster": "cluster.cluster",
    "Dependency": "client.dependency",
    "DirectView": "client.direct",
    "FIRST_COMPLETED": "concurrent.futures",
    "FIRST_EXCEPTION": "concurrent.futures",
    "LazyMapIterator": "client.mapped",
    "LoadBalancedView": "client.balanced",
    "ParallelFunction": "client.remote",
    "PrePickled": "serial.reference",
    "Reference": "serial.reference",
    "RemoteFunction": "client.remote",
    "ViewExecutor": "client.executor",
    "depend": "serial.dependent",
    "dependent": "serial.dependent",
    "interactive": "serial.functions",
    "parallel": "client.remote",
    "register_joblib_backend": "cluster.default",
    "remote": "client.remote",
    "require": "serial.dependent",
    "use_cloudpickle": "client.remote",
    "use_dill": "client.remote",
    "use_pickle": "client.remote",
}
_MODULES = ("error", "errors")


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext mpicluster``: the magics ``%px``, ``%%px``, ``%autopx``, ``%pxresult`` and ``%pxconfig``."""
    from mpicluster.client.magics import load

    load(shell)


def __getattr__(name: str) -> Any:
    if name == "comm":
        return _comm()
    if name in _MODULES:
        return importlib.import_module(f"mpicluster.{name}")
    if name not in __all__:
        from mpicluster.gone import GONE

        why = f": {GONE[name]}" if name in GONE else ""
        raise AttributeError(f"module 'mpicluster' has no attribute {name!r}{why}")
    home = _HOMES.get(name, "errors")
    value = getattr(importlib.import_module(home if home == "concurrent.futures" else f"mpicluster.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_MODULES, "comm"])


def _comm() -> Any:
    """The communicator of all live engines; only on an engine."""
    from mpicluster import engine

    if engine.current_world is None:
        raise AttributeError("mpicluster.comm exists on engines only; run this there, as in view.apply(f) or view.execute(code)")
    return engine.current_world.comm
