"""The cluster of code that names none: the newest that runs, else one that is started for this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mpicluster.client.client import Client
from mpicluster.cluster.cluster import Cluster
from mpicluster.errors import NoCluster

if TYPE_CHECKING:
    from mpicluster.client.balanced import LoadBalancedView

__all__ = ["default_view", "register_joblib_backend"]

_lock = threading.Lock()
_clients: dict[tuple[str, str | None], Client] = {}


def default_view(profile: str = "default", cluster: str | None = None) -> LoadBalancedView:
    """All engines of that cluster; it is started, with one engine for each core, if none of the profile runs and none is named.

    The connection is kept for the next time. A cluster started here ends with this process.
    """
    with _lock:
        client = _clients.get((profile, cluster))
        if client is None or not client.ids:
            _clients[profile, cluster] = client = _connect(profile, cluster)
    view: LoadBalancedView = client.load_balanced_view()
    return view


def _connect(profile: str, cluster: str | None) -> Client:
    try:
        return Client(profile=profile, cluster=cluster)
    except NoCluster:
        if cluster is not None:
            raise
    return Cluster(profile=profile).start_and_connect_sync()


def register_joblib_backend(name: str = "mpicluster", make_default: bool = False) -> None:
    """Let joblib, and what uses it, run on a cluster: ``with joblib.parallel_config(backend="mpicluster"): ...``.

    On the newest cluster that runs; ``parallel_config(backend="mpicluster", profile=..., cluster=...)`` chooses another. If there is none,
    one is started when it is first used, and ends with this process. `LoadBalancedView.register_joblib_backend` is for one view.

    ``make_default``
        joblib uses it wherever no other is asked for.

    Raises
    ------
    ImportError
        joblib is not installed, or too old.
    """
    from mpicluster.client.joblib_backend import register

    def view(**options: Any) -> LoadBalancedView:
        return default_view(**options)

    register(name, view, make_default=make_default)
