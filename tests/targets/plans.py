"""Plans that the tests of targets share: a chain on CPU and GPU, with amounts that are not round."""

from __future__ import annotations

from tomas_router.planner.static import static_plan
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ResourceConfig

CPU = ResourceConfig(cpu_core=1.5, cpu_mem_gb=2.3, gpu_sm=0, gpu_mem_gb=0)
GPU = ResourceConfig(cpu_core=0.07, cpu_mem_gb=4, gpu_sm=30.1, gpu_mem_gb=6.2)


def configured(*configs: ResourceConfig, **settings) -> ToolPlan:
    """A chain with one step for each configuration, half a second each."""
    plan = static_plan(*(f"tool_{n}" for n in range(1, len(configs) + 1)), latency_ms=500, **settings)
    steps = [step.model_copy(update={"resource_config": c}) for step, c in zip(plan.steps, configs, strict=True)]
    return ToolPlan.model_validate(plan.model_copy(update={"steps": tuple(steps)}).model_dump())


def amounts(**given: float) -> ResourceConfig:
    """A configuration of one core and 1 GiB, but for what is given."""
    return ResourceConfig(**({"cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0} | given))
