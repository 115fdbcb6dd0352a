"""Ray clusters for tests."""

from __future__ import annotations

from collections.abc import Iterator

import ray
from ray.cluster_utils import Cluster

from stepwise.cluster.connect import join

NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


def two_nodes() -> Iterator[Cluster]:
    """Two nodes, of one CPU each, that this process has joined."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **NODE})
    started.add_node(num_cpus=1, **NODE)
    join(started.address)
    yield started
    ray.shutdown()
    started.shutdown()
