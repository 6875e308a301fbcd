"""What a user asks of the planner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from tomas_router.errors import DataValidationError
from tomas_router.schema.findings import Finding, FindingLog
from tomas_router.schema.profiling import InputSize

Links = Literal["dataflow", "order"]
MAX_INSTRUCTION_CHARS = 20_000


class Attachment(BaseModel):
    """A file that comes with the request; its size is better evidence than the wording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    media_type: str = Field(min_length=1, description="for example video/mp4")
    bytes: int = Field(ge=0)


class PlanRequest(BaseModel):
    """One request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: Annotated[str, StringConstraints(min_length=1, max_length=MAX_INSTRUCTION_CHARS)]
    id: str | None = None
    candidates: tuple[str, ...] | None = Field(default=None, description="only these tools may be chosen")
    num_steps: int | None = Field(default=None, ge=1, le=64, description="exactly this many steps")
    links: Links = Field(default="dataflow", description="what depends_on means: consumed output, or call order")
    input_size: InputSize | None = Field(default=None, description="overrides what the wording implies")
    deadline_ms: int | None = Field(default=None, gt=0, description="all steps end before this time of the timeline")
    attachments: tuple[Attachment, ...] = ()

    @field_validator("instruction")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must hold more than white space")
        return value

    @field_validator("candidates")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("must name at least one tool; leave it out to allow all")
        if value is not None and len(set(value)) != len(value):
            raise ValueError("must not repeat a tool")
        return value


def parse_request(data: Any) -> PlanRequest:
    """A request from an instruction, a mapping or a ready request.

    Raises:
        DataValidationError: Names every field that is wrong.
    """
    if isinstance(data, PlanRequest):
        return data
    log = FindingLog("request")
    request = _parse({"instruction": data} if isinstance(data, str) else data, None, log)
    log.finish()
    assert request is not None  # no error, so there is a request
    return request


def read_requests(path: str | Path) -> tuple[list[PlanRequest], list[Finding]]:
    """All well-formed rows of a JSON Lines file, and everything wrong with the others."""
    log = FindingLog.of(path)
    requests: list[PlanRequest] = []
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        log.error(f"cannot be read: {error}")
        return [], log.findings
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as error:
            log.error(f"must be one JSON object a line: {error}", line=number)
            continue
        request = _parse(data, number, log)
        if request is None:
            continue
        if request.id is not None and seen.setdefault(request.id, number) != number:
            log.error(f"repeats the id of line {seen[request.id]}", line=number, field="id", value=request.id)
        requests.append(request)
    if not requests and not log.findings:
        log.error("holds no request")
    return requests, log.findings


def load_requests(path: str | Path) -> list[PlanRequest]:
    """Reads a JSON Lines file of requests.

    Raises:
        DataValidationError: Lists file, line and field of everything that is wrong.
    """
    requests, findings = read_requests(path)
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise DataValidationError(errors)
    return requests


def _parse(data: Any, line: int | None, log: FindingLog) -> PlanRequest | None:
    if not isinstance(data, Mapping):
        log.error("must be an object with the key 'instruction'", line=line, value=data)
        return None
    try:
        return PlanRequest.model_validate(dict(data))
    except ValidationError as error:
        log.pydantic(error, line)
        return None
