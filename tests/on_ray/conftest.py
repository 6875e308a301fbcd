"""One real cluster of two nodes on this machine, for all tests of this folder; its GPUs exist on paper only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

CORES, GPUS, GPU_MEMORY_GIB = 2, 2, 32
STORE_BYTES = 80 * 2**20


@pytest.fixture(scope="package")
def cluster() -> Iterator[dict[str, str]]:
    """Node ids by role: ``head`` with two cores and two GPUs, ``small`` with one core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_DEDUP_LOGS", "0")
        import ray
        from ray.cluster_utils import Cluster

        head = {"num_cpus": CORES, "num_gpus": GPUS, "resources": {"gpu_mem_gb": GPU_MEMORY_GIB}}
        nodes = Cluster(
            initialize_head=True,
            head_node_args=head | {"object_store_memory": STORE_BYTES, "include_dashboard": False},
        )
        nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
        by_cores = {node["Resources"]["CPU"]: node["NodeID"] for node in ray.nodes()}
        assert os.environ.get("RAY_ADDRESS") is None
        yield {"head": by_cores[CORES], "small": by_cores[1], "address": nodes.address}
        ray.shutdown()
        nodes.shutdown()
