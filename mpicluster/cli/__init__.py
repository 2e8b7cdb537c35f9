"""The command line. Words only: what is done is done in `mpicluster.cluster` and `mpicluster.batch`."""

from mpicluster.cli import batch, clusters, connect
from mpicluster.cli.group import main

__all__ = ["batch", "clusters", "connect", "main"]
