"""Local PostgreSQL clusters for the demo and the tests; the engine never imports them."""

from pgsluice.embedded.binaries import Binaries, binaries_in, find_binaries
from pgsluice.embedded.cluster import Cluster

__all__ = ["Binaries", "Cluster", "binaries_in", "find_binaries"]
