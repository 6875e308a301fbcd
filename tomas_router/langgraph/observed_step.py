"""One run of one planned step, watched and noted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tomas_router.langgraph.call_log import CallLog, CallRecord
from tomas_router.langgraph.observed_run import observed_run
from tomas_router.langgraph.trace_metadata import call_metadata
from tomas_router.runtime.memory_watch import MemoryUse
from tomas_router.schema.plan import PlanStep
from tomas_router.schema.profiling import ResourceConfig


@dataclass(frozen=True)
class StepWatch:
    """Watches the steps of one plan."""

    log: CallLog
    thread_id: str | None = None
    waited_ms: int = 0
    """How long the plan waited for its booking."""
    trace_arguments: bool = False

    @contextmanager
    def step(self, step: PlanStep, config: ResourceConfig | None, args: Mapping[str, Any]) -> Iterator[None]:
        """Around one run; what it raises is noted and passed on.

        Args:
            step: as planned.
            config: what it may use; another one than planned after it ran out of memory.
            args: with references filled in.
        """
        metadata = call_metadata(step.tool_name, step, config, args, with_arguments=self.trace_arguments)
        begun_s, ended_well, use = time.monotonic(), False, MemoryUse()
        try:
            with observed_run(metadata) as use:
                yield
            ended_well = True
        finally:
            took_ms = round((time.monotonic() - begun_s) * 1000)
            self.log.append(
                CallRecord(
                    tool=step.tool_name,
                    status="done" if ended_well else "failed",
                    planned=True,
                    config=config,
                    degraded=config != step.resource_config,
                    waited_ms=self.waited_ms,
                    expected_ms=step.expected_latency_ms,
                    took_ms=took_ms,
                    input_size=step.input_size,
                    identity=step.tool_identity,
                    thread_id=self.thread_id,
                    peak_mem_gb=use.peak_gb,
                    alone=use.alone,
                )
            )
