"""One or two sentences that say what a plan does and how its steps hang together."""

from __future__ import annotations

import re

from tomas_router.datasets.rows import Step
from tomas_router.schema.registry import ToolRegistry

NO_TOOL = "No tool is needed; this can be answered directly."
DEVICE = re.compile(
    r" with a (large|small|compact|light|classical|vision|super|GPU|multi)[^,.]*| with the GPU[^,.]*| on the GPU[^,.]*"
    r"| on (the )?CPU[^,.]*| with CPU cores| in large batches"
)
SIZE_WORDS = {"small": "a small", "medium": "a medium-sized", "large": "a large"}


def explain(steps: tuple[Step, ...], registry: ToolRegistry) -> str:
    """Names the steps in order; says which work on results of others and which stand alone."""
    if not steps:
        return NO_TOOL
    actions = [_action(registry[step.tool].desc, pinned=step.group is None) for step in steps]
    if len(steps) == 1:
        return f"{_cap(actions[0])} ({SIZE_WORDS[steps[0].input_size or 'medium']} input)."
    if not any(step.depends_on for step in steps):
        return f"{len(steps)} independent steps: {'; '.join(actions)}."
    if all(step.depends_on == ((i - 1,) if i else ()) for i, step in enumerate(steps)):
        return f"{_cap(', then '.join(actions))}. Each step uses the result of the one before."
    return f"{_cap('; '.join(actions))}. {' '.join(_edges(steps))}"


def _edges(steps: tuple[Step, ...]) -> list[str]:
    return [
        f"Step {i + 1} uses the result{'s' if len(step.depends_on) > 1 else ''} of step "
        f"{' and step '.join(str(d + 1) for d in step.depends_on)}."
        for i, step in enumerate(steps)
        if step.depends_on
    ]


def _action(desc: str, pinned: bool) -> str:
    text = desc.rstrip(".") if pinned else DEVICE.sub("", desc.rstrip("."))
    return text[0].lower() + text[1:]


def _cap(text: str) -> str:
    return text[0].upper() + text[1:]
