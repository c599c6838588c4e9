"""Several processes, one run."""

from ltjax.cluster.environment import Cluster, find
from ltjax.cluster.run import joined

__all__ = ['Cluster', 'find', 'joined']
