"""A recorded execution: what was asked, what was planned and run, and what should have been planned instead."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from tomas_router.schema.csv_table import MAX_AMOUNT
from tomas_router.schema.findings import FindingLog, InconsistentError
from tomas_router.schema.json_text import parse_json
from tomas_router.schema.profiling import InputSize, ResourceConfig
from tomas_router.schema.request import MAX_INSTRUCTION_CHARS, MAX_STEPS
from tomas_router.schema.text_file import read_lines

MEASURED = ("latency_ms", "peak_mem_gb", "peak_gpu_mem_gb")


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WantedStep(_Contract):
    """One call as it should be planned."""

    tool: str = Field(min_length=1)
    depends_on: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(
        default=(), description="positions of other steps in the list, counted from 0"
    )
    input_size: InputSize | None = None


class RunStep(WantedStep):
    """One call as it was planned, and what running it took."""

    status: Literal["done", "failed"] = "done"
    resource_config: ResourceConfig | None = Field(default=None, description="what it was given")
    latency_ms: float | None = Field(default=None, gt=0, le=MAX_AMOUNT, description="what it took")
    peak_mem_gb: float | None = Field(default=None, ge=0, le=MAX_AMOUNT, description="GiB of memory at most")
    peak_gpu_mem_gb: float | None = Field(default=None, ge=0, le=MAX_AMOUNT, description="GiB of GPU memory at most")

    @model_validator(mode="after")
    def _measurements_belong_to_a_configuration(self) -> RunStep:
        measured = [name for name in MEASURED if getattr(self, name) is not None]
        absent = [name for name in ("input_size", "resource_config") if getattr(self, name) is None]
        if measured and absent:
            raise InconsistentError([f"has {measured[0]}, so it needs {' and '.join(absent)}: what was measured?"])
        return self


class RecordedRun(_Contract):
    """One request with its plan; a line of the file that ``tomas train --from-runs`` reads."""

    instruction: Annotated[str, StringConstraints(min_length=1, max_length=MAX_INSTRUCTION_CHARS, pattern=r"\S")]
    steps: tuple[RunStep, ...] = Field(default=(), max_length=MAX_STEPS, description="empty: no tool was planned")
    corrected_steps: tuple[WantedStep, ...] | None = Field(
        default=None,
        max_length=MAX_STEPS,
        description="what was right; empty: no tool is needed; left out: the plan was right",
    )
    split: Literal["train", "val"] | None = Field(default=None, description="val: held out")

    @model_validator(mode="after")
    def _dependencies_name_other_steps(self) -> RecordedRun:
        problems = []
        for name, steps in (("steps", self.steps), ("corrected_steps", self.corrected_steps or ())):
            for position, step in enumerate(steps):
                if any(d >= len(steps) or d == position for d in step.depends_on):
                    found = list(step.depends_on)
                    problems.append(f"{name}[{position}].depends_on must name other steps by position, got {found}")
            if _circle(steps):
                problems.append(f"{name} must not depend on each other in a circle")
        if problems:
            raise InconsistentError(problems)
        return self

    @property
    def wanted(self) -> tuple[WantedStep, ...] | None:
        """The plan that the request should get: the correction, else the plan if all of it was done, else None."""
        if self.corrected_steps is not None:
            return self.corrected_steps
        return self.steps if all(step.status == "done" for step in self.steps) else None


def read_runs(path: str | Path, known: Container[str] | None = None) -> tuple[list[RecordedRun], FindingLog]:
    """Reads JSON Lines of recorded runs, and everything that is wrong with them.

    Args:
        path: The file.
        known: Names of the registered tools; None: any name will do.
    """
    log = FindingLog.of(path)
    runs: list[RecordedRun] = []
    for number, line in read_lines(path, log):
        try:
            run = RecordedRun.model_validate(parse_json(line))
        except ValidationError as error:  # a ValueError as well, so it comes first
            log.pydantic(error, number)
            continue
        except ValueError as error:
            log.error(f"must be one JSON object a line: {error}", line=number)
            continue
        _check_tools(run, number, known, log)
        runs.append(run)
    return runs, log


def _check_tools(run: RecordedRun, number: int, known: Container[str] | None, log: FindingLog) -> None:
    for name, steps in (("steps", run.steps), ("corrected_steps", run.corrected_steps or ())):
        for position, step in enumerate(steps):
            if known is not None and step.tool not in known:
                field = f"{name}[{position}].tool"
                log.error("must be a tool of the registry", line=number, field=field, value=step.tool)


def _circle(steps: tuple[WantedStep, ...]) -> bool:
    done: set[int] = set()
    while len(done) < len(steps):
        free = {i for i, step in enumerate(steps) if i not in done and set(step.depends_on) <= done}
        if not free:
            return all(d < len(steps) for step in steps for d in step.depends_on)  # else that is the problem
        done |= free
    return False
