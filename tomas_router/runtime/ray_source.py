"""What a node of a Ray cluster has left, by Ray's own count: its resources minus those of tasks and actors.

Ray counts what was asked for, not what is used, and only what it started itself. It counts GPUs of a node together.
https://docs.ray.io/en/latest/ray-core/scheduling/resources.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tomas_router.errors import TomasRouterError
from tomas_router.runtime.gpus import GpuState
from tomas_router.runtime.ray_connection import connected_ray
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.runtime.timeline_source import NO_GPU, present

GIB = 2**30


class RayNodeError(TomasRouterError):
    """The cluster has no such node, or several and none was named."""


class RaySource:
    """A node of the cluster that this process is connected to (``ray.init``).

    Args:
        node: its address or id; None: the cluster's only one. A timeline is of one machine: cores of several nodes
            add up to a step that no node could run.
        gpu_memory_gib: of one GPU, which Ray does not know; 0 leaves GPU memory out.

    Raises:
        MissingExtraError: Ray is not installed.
        RayNotConnectedError: this process is connected to no cluster.
    """

    def __init__(self, node: str | None = None, *, gpu_memory_gib: float = 0.0) -> None:
        self._ray = connected_ray("RaySource")
        self._node = node
        self._gpu_memory_gib = gpu_memory_gib

    def timelines(self) -> tuple[SystemTimeline, ...]:
        """One row, held, for each GPU of the node.

        Fractions of GPUs are packed, as Ray packs them: of 2.5 free ones of 4, two are free, one is half free and
        one is taken. A task takes the larger of its shares of SMs and memory (``ToolPlan.to_ray``), so what is left
        of a GPU bounds both.

        Raises:
            RayNodeError: see there.
        """
        node = self._alive_node()
        total, free = node["Resources"], self._free(node["NodeID"])
        cpu, memory = free.get("CPU", 0.0), free.get("memory", 0.0) / GIB
        at_ms = time.time_ns() // 1_000_000
        shares = _packed(total.get("GPU", 0.0), free.get("GPU", 0.0))
        gpus = [GpuState(100 * share, self._gpu_memory_gib * share) for share in shares]
        return tuple(present(at_ms, cpu, memory, gpu) for gpu in gpus or [NO_GPU])

    def _alive_node(self) -> Mapping[str, Any]:
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        chosen = [n for n in nodes if self._node in (None, n["NodeID"], n["NodeManagerAddress"])]
        if len(chosen) != 1:
            there = ", ".join(f"{n['NodeManagerAddress']} ({n['NodeID']})" for n in nodes)
            got = "node must be named" if self._node is None else f"node must be one of them, got {self._node!r}"
            raise RayNodeError(f"the cluster has the nodes {there}; {got}")
        return chosen[0]  # type: ignore[no-any-return]

    def _free(self, node_id: str) -> Mapping[str, float]:
        """Of one node; Ray's public function adds all nodes up."""
        if sum(node["Alive"] for node in self._ray.nodes()) == 1:
            return self._ray.available_resources()  # type: ignore[no-any-return]
        from ray._private.state import available_resources_per_node

        return available_resources_per_node().get(node_id, {})  # type: ignore[no-any-return]


def _packed(total: float, free: float) -> list[float]:
    """What is free of each GPU."""
    return [min(max(free - index, 0.0), 1.0) for index in range(round(total))]
