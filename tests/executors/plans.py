"""What the tests of executors share: small plans, a machine, and looks at processes."""

from __future__ import annotations

import time

import psutil

from tomas_router.planner.static import static_plan
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ResourceConfig


def plan_of(*tools, args=None, links="order", timeout_ms=60_000, latency_ms=1, **config) -> ToolPlan:
    amounts = {"cpu_core": 1, "cpu_mem_gb": 0.25, "gpu_sm": 0, "gpu_mem_gb": 0} | config
    plan = static_plan(*tools, args=args, links=links, latency_ms=latency_ms, config=ResourceConfig(**amounts))
    steps = tuple(step.model_copy(update={"timeout_ms": timeout_ms}) for step in plan.steps)
    return plan.model_copy(update={"steps": steps})


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(what, seconds=20.0):
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:
        time.sleep(0.02)
    assert what()


def machine(cores=8.0):
    return SystemTimeline.from_rows([(0, cores, 32, 100, 16)], tail="hold", epoch_ms=time.time_ns() // 1_000_000)
