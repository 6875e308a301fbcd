"""What a node of a Kubernetes cluster has left: what it can allocate minus what its pods request.

Two requests of the HTTP API, so no client library is needed. https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from tomas_router.errors import TomasRouterError
from tomas_router.runtime.gpus import GpuState
from tomas_router.runtime.kubernetes_pods import Amounts, amounts, pod_requests
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.runtime.timeline_source import NO_GPU, present

GIB, MIB_PER_GIB = 2**30, 1024
PAGE = 500
MAX_ERROR_CHARS = 300
GPU_RESOURCE = "nvidia.com/gpu"
GPU_MEMORY_LABEL = "nvidia.com/gpu.memory"
"""MiB of one GPU, written by NVIDIA's GPU feature discovery."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its own account."""


class KubernetesError(TomasRouterError):
    """The API cannot be reached, refuses a request, or answers what it does not document."""


class KubernetesSource:
    """A node, seen as the scheduler sees it: requests count, not use.

    Args:
        url: of the API server, or of ``kubectl proxy`` (``http://127.0.0.1:8001``).
        node: its name.
        token_file: holds the bearer token, which is read anew each time, because clusters change it.
        ca_file: holds the certificates that vouch for the server; None: the system's.
        gpu_memory_gib: of one GPU; None: what the node's label says, or 0.
        timeout_s: of one request.

    Raises:
        ValueError: ``url`` is not one of http or https.
    """

    def __init__(
        self,
        url: str,
        node: str,
        *,
        token_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        gpu_memory_gib: float | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        scheme = urllib.parse.urlsplit(url).scheme
        if scheme not in ("http", "https"):
            raise ValueError(f"url must begin with http:// or https://, got {url!r}")
        self._url, self._node = url.rstrip("/"), node
        self._token_file = token_file
        self._tls = ssl.create_default_context(cafile=ca_file) if scheme == "https" else None
        self._gpu_memory_gib = gpu_memory_gib
        self._timeout_s = timeout_s

    @classmethod
    def in_cluster(cls, node: str, *, account: Path = ACCOUNT, gpu_memory_gib: float | None = None) -> Self:
        """From within a pod, whose account may get nodes and list pods.

        Raises:
            KubernetesError: this process runs in no pod.
        """
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port or not (account / "token").exists():
            raise KubernetesError(
                f"this process does not run in a pod: KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT and "
                f"{account / 'token'} are needed"
            )
        name = f"[{host}]" if ":" in host else host
        return cls(
            f"https://{name}:{port}",
            node,
            token_file=account / "token",
            ca_file=account / "ca.crt",
            gpu_memory_gib=gpu_memory_gib,
        )

    def timelines(self) -> tuple[SystemTimeline, ...]:
        """One row, held, for each GPU of the node; a GPU that a pod requests has nothing left.

        A node that is not ready or is cordoned offers nothing.

        Raises:
            KubernetesError: see there.
        """
        node = self._get(f"/api/v1/nodes/{urllib.parse.quote(self._node, safe='')}", {})
        try:
            total = amounts(node["status"]["allocatable"])
            taken = Counter[str]()
            for pod in self._pods():
                taken = taken + pod_requests(pod)
            return self._timelines(node, total, taken)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise KubernetesError(
                f"{self._url}: the answer about {self._node} is none of Kubernetes: {error!r}"
            ) from error

    def _timelines(self, node: Mapping[str, Any], total: Amounts, taken: Amounts) -> tuple[SystemTimeline, ...]:
        open_to_pods = _takes_pods(node)
        at_ms = time.time_ns() // 1_000_000

        def free(resource: str) -> float:
            return max(float(total[resource] - taken[resource]), 0.0) if open_to_pods else 0.0

        whole = GpuState(100.0, self._memory_of_a_gpu(node))
        gpus = [whole if index < int(free(GPU_RESOURCE)) else NO_GPU for index in range(int(total[GPU_RESOURCE]))]
        return tuple(present(at_ms, free("cpu"), free("memory") / GIB, gpu) for gpu in gpus or [NO_GPU])

    def _memory_of_a_gpu(self, node: Mapping[str, Any]) -> float:
        if self._gpu_memory_gib is not None:
            return self._gpu_memory_gib
        labels = node["metadata"].get("labels") or {}
        return int(labels.get(GPU_MEMORY_LABEL, 0)) / MIB_PER_GIB

    def _pods(self) -> Iterator[Mapping[str, Any]]:
        """Those of the node that have not ended, page by page."""
        selector = f"spec.nodeName={self._node},status.phase!=Succeeded,status.phase!=Failed"
        query = {"fieldSelector": selector, "limit": str(PAGE)}
        while True:
            answer = self._get("/api/v1/pods", query)
            yield from answer["items"]
            following = answer["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        request = urllib.request.Request(f"{self._url}{path}{asked}", headers=self._headers())
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s, context=self._tls) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise KubernetesError(f"{self._url}{path}: {error.code} {_message(error)}"[:MAX_ERROR_CHARS]) from error
        except OSError as error:
            raise KubernetesError(f"{self._url} cannot be reached: {getattr(error, 'reason', error)}") from error
        except ValueError as error:
            raise KubernetesError(f"{self._url} did not answer in JSON: is it Kubernetes?") from error
        return answer if isinstance(answer, dict) else {}

    def _headers(self) -> dict[str, str]:
        accepted = {"Accept": "application/json"}
        if self._token_file is None:
            return accepted
        token = Path(self._token_file).read_text(encoding="ascii").strip()
        return accepted | {"Authorization": f"Bearer {token}"}


def _takes_pods(node: Mapping[str, Any]) -> bool:
    ready = [c["status"] for c in node["status"].get("conditions") or [] if c["type"] == "Ready"]
    return ready == ["True"] and not node["spec"].get("unschedulable", False)


def _message(error: urllib.error.HTTPError) -> str:
    """What the API says of a refusal."""
    try:
        return str(json.loads(error.read())["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
