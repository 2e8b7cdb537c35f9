"""What rank 0 tells the hub it starts, and what the hub answers. Values only."""

from __future__ import annotations

import msgspec

from mpicluster.config import HistoryLimits

__all__ = ["Berth", "Invitation", "Orders"]


class Orders(msgspec.Struct, kw_only=True):
    """What the hub is to serve."""

    cluster: str
    profile: str
    #: engines to come
    size: int
    log_dir: str
    #: process of this host with whose end the cluster ends, and the mpiexec that started it
    owner: int | None
    launcher: int | None
    #: how much history is kept; None for none
    history: HistoryLimits | None = HistoryLimits()
    #: the interface whose address is published; None for all
    interface: str | None = None
    #: in what order engines are given balanced tasks, one of `config.SCHEMES`
    scheme: str = "leastload"


class Berth(msgspec.Struct, kw_only=True):
    """Where engines find the hub, and their keys. Travels to all ranks over MPI."""

    ipc: str
    tcp: list[str]
    host: str
    server_key: str
    engine_public: str
    engine_secret: str


class Invitation(msgspec.Struct, kw_only=True):
    """To engines of another MPI world: where the hub is, the number of their world, and the id of the first of them."""

    berth: Berth
    world: int
    first: int
