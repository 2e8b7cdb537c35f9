"""One engine: an MPI rank that runs what the hub assigns to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpicluster.engine.output import Recorder
    from mpicluster.engine.world import World

#: The world of this process, when it is an engine.
current_world: World | None = None
#: What keeps the output of tasks, when this process is an engine.
current_recorder: Recorder | None = None
