"""`mpicluster.errors` under the name that IPython Parallel has for it."""

from __future__ import annotations

from mpicluster import errors
from mpicluster.errors import *  # noqa: F403

__all__ = errors.__all__
