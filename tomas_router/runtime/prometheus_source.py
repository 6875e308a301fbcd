"""What a machine has left according to Prometheus: node exporter for CPU and memory, DCGM exporter for GPUs.

The queries are in ``Queries`` and in docs/timelines.md. HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tomas_router.errors import TomasRouterError
from tomas_router.runtime.gpus import GpuState
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.runtime.timeline_source import NO_GPU, present

GIB, MIB_PER_GIB = 2**30, 1024
MAX_ERROR_CHARS = 300


class PrometheusError(TomasRouterError):
    """Prometheus cannot be reached, refuses a query, or does not know the machine."""


@dataclass(frozen=True)
class Queries:
    """The PromQL of one machine.

    Args:
        selector: labels that choose the machine's node exporter, such as ``instance="worker-1:9100"``.
        gpu_selector: labels that choose its DCGM exporter, such as ``Hostname="worker-1"``; None: without GPUs.
        window: over which CPU use is averaged; at least two scrapes must lie in it.
    """

    selector: str
    gpu_selector: str | None = None
    window: str = "1m"

    @property
    def cpu_cores(self) -> str:
        """Idle CPU seconds in a second; a CPU that waits for a disk is free to work."""
        return f'sum by (instance) (rate(node_cpu_seconds_total{{mode=~"idle|iowait",{self.selector}}}[{self.window}]))'

    @property
    def cpu_mem_gib(self) -> str:
        """What programs can take without swapping."""
        return f"node_memory_MemAvailable_bytes{{{self.selector}}} / {GIB}"

    @property
    def gpu_sm(self) -> str:
        """By device, the share of time without a kernel."""
        return f"100 - DCGM_FI_DEV_GPU_UTIL{{{self.gpu_selector}}}"

    @property
    def gpu_mem_gib(self) -> str:
        """By device; DCGM counts in MiB."""
        return f"DCGM_FI_DEV_FB_FREE{{{self.gpu_selector}}} / {MIB_PER_GIB}"


class PrometheusSource:
    """A machine that Prometheus watches.

    Args:
        url: of the server, for example ``http://prometheus:9090``.
        queries: which machine.
        headers: sent along, for example for authorisation.
        timeout_s: of one request.

    Raises:
        ValueError: ``url`` is not one of http or https.
    """

    def __init__(
        self, url: str, queries: Queries, *, headers: Mapping[str, str] | None = None, timeout_s: float = 5.0
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"url must begin with http:// or https://, got {url!r}")
        self._url = url.rstrip("/")
        self._queries = queries
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s

    def timelines(self) -> tuple[SystemTimeline, ...]:
        """One row, held, for each GPU; its epoch is the time at which Prometheus evaluated the queries.

        Raises:
            PrometheusError: The server does not answer, or not with exactly one machine.
        """
        at_s, cores = self._one(self._queries.cpu_cores)
        _, memory_gib = self._one(self._queries.cpu_mem_gib)
        gpus = self._gpus() if self._queries.gpu_selector is not None else (NO_GPU,)
        return tuple(present(int(at_s * 1000), max(cores, 0.0), memory_gib, gpu) for gpu in gpus)

    def _gpus(self) -> tuple[GpuState, ...]:
        shares, memory = self._by_gpu(self._queries.gpu_sm), self._by_gpu(self._queries.gpu_mem_gib)
        if shares.keys() != memory.keys():
            raise PrometheusError(f"{self._url}: GPUs {sorted(shares)} have a use and {sorted(memory)} have memory")
        return tuple(GpuState(min(max(shares[gpu], 0.0), 100.0), memory[gpu]) for gpu in sorted(shares))

    def _by_gpu(self, query: str) -> dict[int, float]:
        found = {}
        for labels, _, value in self._ask(query):
            index = labels.get("gpu", "")
            if not index.isdecimal() or int(index) in found:
                raise PrometheusError(f"{self._url}: each series of {query} must have a 'gpu' of its own, got {labels}")
            found[int(index)] = value
        return found

    def _one(self, query: str) -> tuple[float, float]:
        series = self._ask(query)
        if len(series) != 1:
            names = ", ".join(str(labels.get("instance", labels)) for labels, _, _ in series)
            raise PrometheusError(
                f"{self._url}: the selector must choose one machine, got {len(series)} ({names}) for {query}"
            )
        _, at_s, value = series[0]
        return at_s, value

    def _ask(self, query: str) -> list[tuple[dict[str, str], float, float]]:
        """(labels, time in s, value) of each series of an instant query.

        Raises:
            PrometheusError: There are none.
        """
        answer = self._get("/api/v1/query", {"query": query})
        if answer.get("status") != "success":
            raise PrometheusError(f"{self._url} refused {query}: {answer.get('error', answer)}"[:MAX_ERROR_CHARS])
        try:
            series = [(dict(s["metric"]), float(s["value"][0]), float(s["value"][1])) for s in answer["data"]["result"]]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PrometheusError(f"{self._url}: the answer to {query} is none of Prometheus: {error!r}") from error
        if not series:
            raise PrometheusError(
                f"{self._url} has no data for {query}; is the selector right, are there two scrapes in the window?"
            )
        for labels, _, value in series:
            if not math.isfinite(value):
                raise PrometheusError(f"{self._url}: {query} must be finite, got {value} for {labels}")
        return series

    def _get(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                text = response.read()
        except urllib.error.HTTPError as error:  # a refused query is explained in the body
            text = error.read()
            if not text.startswith(b"{"):
                raise PrometheusError(f"{self._url} answered {error.code} {error.reason}") from error
        except OSError as error:
            raise PrometheusError(f"{self._url} cannot be reached: {getattr(error, 'reason', error)}") from error
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise PrometheusError(f"{self._url} did not answer in JSON: is it Prometheus?") from error
        return answer if isinstance(answer, dict) else {}
