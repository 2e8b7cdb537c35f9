"""What this process is part of. An engine says so when it starts; elsewhere nothing is set.

`communicator`
    gives the communicator that SPMD code means when it names none: that of the engine's current world, or of the gang that it runs in;
`everyone`
    the communicator of all ranks that the launcher started, of which some may have died since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["communicator", "everyone"]

communicator: Callable[[], Any] | None = None
everyone: Any = None
