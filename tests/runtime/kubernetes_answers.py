"""What a small cluster would answer, written by hand in the shape of the API; the tests check that shape."""

from __future__ import annotations

from typing import Any

NODE = "worker-1"


def container(name: str = "main", status: dict[str, Any] | None = None, **requests: str) -> dict[str, Any]:
    resources = {"requests": requests} if requests else {}
    return {"name": name, "image": "tools:1", "resources": resources} | (status or {})


def sidecar(name: str, **requests: str) -> dict[str, Any]:
    return container(name, **requests) | {"restartPolicy": "Always"}


def pod(*containers: dict[str, Any], init: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"nodeName": NODE, "containers": list(containers), **spec}
    if init:
        made["initContainers"] = init
    return {"metadata": {"name": "a-pod", "namespace": "agents"}, "spec": made, "status": {"phase": "Running"}}


def node(gpus: int = 0, labels: dict[str, str] | None = None, ready: str = "True", **spec: Any) -> dict[str, Any]:
    allocatable = {"cpu": "3920m", "memory": "16256520Ki", "ephemeral-storage": "47093746742", "pods": "110"}
    if gpus:
        allocatable["nvidia.com/gpu"] = str(gpus)
    conditions = [
        {"type": "MemoryPressure", "status": "False"},
        {"type": "Ready", "status": ready, "reason": "KubeletReady"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/arch": "amd64"} | (labels or {})},
        "spec": {"podCIDR": "10.0.0.0/24", **spec},
        "status": {"capacity": {"cpu": "4"}, "allocatable": allocatable, "conditions": conditions},
    }


def pod_list(*pods: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    metadata = {"resourceVersion": "123456"} | ({"continue": following} if following else {})
    return {"apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": list(pods)}


def refusal(code: int, message: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "code": code, "metadata": {}}
