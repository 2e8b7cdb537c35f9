"""Put together: start a cluster, connect to it, stop it, and see what it left."""

from mpicluster.cluster.cluster import Cluster

__all__ = ["Cluster"]
