"""A direct view for many engines at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpicluster.client.direct import DirectView
from mpicluster.ids import Targets

if TYPE_CHECKING:
    from mpicluster.client.client import Client

__all__ = ["BroadcastView"]


class BroadcastView(DirectView):
    """A `DirectView` under IPython Parallel's name for one whose calls travel once.

    ``is_coalescing``
        whether the answers of all engines come as one.
    """

    def __init__(self, client: Client, targets: Targets = "all", *, is_coalescing: bool = False, **flags: Any) -> None:
        super().__init__(client, targets, **flags)
        self.is_coalescing = bool(is_coalescing)
