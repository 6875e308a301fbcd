"""One planned step as a call of its tool: arguments filled in, resources given, and watched."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tomas_router.langgraph.arguments import resolve
from tomas_router.langgraph.call_log import CallLog, CallRecord
from tomas_router.langgraph.injected import with_resources
from tomas_router.langgraph.observed_run import observed_run
from tomas_router.langgraph.tool_call import call_tool
from tomas_router.langgraph.trace_metadata import call_metadata
from tomas_router.schema.plan import PlanStep


@dataclass(frozen=True)
class StepCall:
    """For ``ThreadExecutor``; notes what each step took."""

    tools: Mapping[str, Any]
    log: CallLog
    thread_id: str | None = None
    waited_ms: int = 0
    """How long the plan waited for its booking."""
    trace_arguments: bool = False

    def __call__(self, step: PlanStep, outputs: Mapping[str, Any]) -> Any:
        """What the tool returns; what it raises is noted and passed on."""
        tool, config = self.tools[step.tool_name], step.resource_config
        metadata = call_metadata(step.tool_name, step, config, step.args, with_arguments=self.trace_arguments)
        begun_s, status, use = time.monotonic(), "failed", None
        try:
            with observed_run(metadata) as use:
                output = call_tool(tool, with_resources(tool, resolve(step.args or {}, outputs), config))
            status = "done"
            return output
        finally:
            record = CallRecord(
                tool=step.tool_name,
                status="done" if status == "done" else "failed",
                planned=True,
                config=config,
                degraded=False,
                waited_ms=self.waited_ms,
                expected_ms=step.expected_latency_ms,
                took_ms=round((time.monotonic() - begun_s) * 1000),
                input_size=step.input_size,
                identity=step.tool_identity,
                thread_id=self.thread_id,
                peak_mem_gb=None if use is None else use.peak_gb,
                alone=use is None or use.alone,
            )
            self.log.append(record)
