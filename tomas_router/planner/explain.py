"""One deterministic line that says what a plan does, for people and logs."""

from __future__ import annotations

from collections.abc import Sequence

from tomas_router.schema.plan import PlanStep

NO_TOOL = {
    "not_needed": "No tool is needed; answer in text.",
    "no_match": "No registered tool matches the request.",
}


def summarise(steps: Sequence[PlanStep]) -> str:
    """What runs when, with what; for placed steps."""
    end = max(s.end_ms or 0 for s in steps)
    count = "1 step" if len(steps) == 1 else f"{len(steps)} steps"
    return f"{count}, done at {seconds(end)}: " + "; ".join(_placed(step) for step in steps) + "."


def summarise_infeasible(steps: Sequence[PlanStep], reason: str) -> str:
    """What was chosen and why it cannot run."""
    return "Cannot run " + "; ".join(_chosen(step) for step in steps) + f": {reason}."


def seconds(milliseconds: int) -> str:
    """``1234`` becomes ``1.23 s``."""
    return f"{milliseconds / 1000:.4g} s" if milliseconds < 100_000 else f"{milliseconds / 1000:.0f} s"


def _placed(step: PlanStep) -> str:
    config = step.resource_config
    assert config is not None, "only placed steps are described so"
    demand = f"{config.cpu_core:g} vCPU, {config.cpu_mem_gb:g} GiB"
    if config.gpu_sm or config.gpu_mem_gb:
        demand += f", {config.gpu_sm:g} % of a GPU with {config.gpu_mem_gb:g} GiB"
    if step.source == "predicted":
        demand += ", predicted"
    when = f"{seconds(step.start_ms or 0)} to {seconds(step.end_ms or 0)}"
    return f"{_chosen(step)} ({step.input_size} input; {demand}; {when})"


def _chosen(step: PlanStep) -> str:
    after = f" after {', '.join(step.depends_on)}" if step.depends_on else ""
    return f"{step.id} {step.tool_name}{after}"
