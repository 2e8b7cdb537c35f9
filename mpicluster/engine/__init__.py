"""One engine: an MPI rank that runs what the hub assigns to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpicluster.engine.world import World

#: The world of this process, when it is an engine.
current_world: World | None = None
