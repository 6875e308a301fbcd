"""What a user asks of the planner."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from tomas_router.schema.findings import Finding, FindingLog, finish
from tomas_router.schema.json_text import parse_json
from tomas_router.schema.profiling import InputSize
from tomas_router.schema.text_file import read_lines
from tomas_router.schema.timeline_csv import MAX_TIME_MS

Links = Literal["dataflow", "order"]
MAX_INSTRUCTION_CHARS = 20_000
MAX_STEPS = 64


class Attachment(BaseModel):
    """A file that comes with the request; its size is better evidence than the wording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    media_type: str = Field(pattern=r"^[^/\s]+/[^/\s]+(\s*;.*)?$", description="for example video/mp4")
    bytes: int = Field(ge=0, strict=True)


class PlanRequest(BaseModel):
    """One request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: Annotated[str, StringConstraints(min_length=1, max_length=MAX_INSTRUCTION_CHARS)]
    id: str | None = None
    candidates: tuple[str, ...] | None = Field(default=None, description="only these tools may be chosen")
    num_steps: int | None = Field(
        default=None, ge=1, le=MAX_STEPS, strict=True, description="exactly this many; of named candidates, each once"
    )
    links: Links = Field(default="dataflow", description="what depends_on means: consumed output, or call order")
    input_size: InputSize | None = Field(default=None, description="overrides what the wording implies")
    deadline_ms: int | None = Field(
        default=None, gt=0, le=MAX_TIME_MS, strict=True, description="every step ends by this time of the timeline"
    )
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


def parse_request(data: str | Mapping[str, Any] | PlanRequest) -> PlanRequest:
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


def read_requests(path: str | Path, known: Container[str] | None = None) -> tuple[list[PlanRequest], list[Finding]]:
    """All well-formed rows of a JSON Lines file, and everything wrong with the others.

    Args:
        path: One request a line; blank lines are skipped. Every row has an id, which names its row of the output.
        known: Names of the registered tools, which candidates must be among; None: not checked.
    """
    log = FindingLog.of(path)
    requests: list[PlanRequest] = []
    seen: dict[str, int] = {}
    for line, text in read_lines(path, log):
        try:
            data = parse_json(text)
        except ValueError as error:
            log.error(f"must be one JSON object a line: {error}", line=line)
            continue
        request = _parse(data, line, log)
        if isinstance(data, Mapping):  # a row with one wrong field is still compared with the others and the registry
            _check_id(data.get("id"), line, seen, log)
            _check_candidates(data.get("candidates"), known, line, log)
        if request is not None:
            requests.append(request)
    if not requests and not log.findings:
        log.error("holds no request")
    return requests, log.findings


def load_requests(path: str | Path, known: Container[str] | None = None) -> list[PlanRequest]:
    """Reads a JSON Lines file of requests; ``known`` may be the registry, which candidates must be in.

    Raises:
        DataValidationError: Lists file, line and field of everything that is wrong.
    """
    requests, findings = read_requests(path, known)
    finish(findings)
    return requests


def iter_requests(path: str | Path, known: Container[str] | None = None) -> Iterator[PlanRequest]:
    """The requests of a JSON Lines file one by one; the whole file is checked before the first is handed out.

    Raises:
        DataValidationError: At the call, not later: lists file, line and field of everything that is wrong.
    """
    return iter(load_requests(path, known))


def _check_id(value: Any, line: int, seen: dict[str, int], log: FindingLog) -> None:
    if value is None or value == "":
        log.error("must be a non-empty string; it names the row of the output", line=line, field="id", value=value)
    elif isinstance(value, str) and seen.setdefault(value, line) != line:
        log.error(f"must be unique, but line {seen[value]} has the same", line=line, field="id", value=value)


def _check_candidates(names: Any, known: Container[str] | None, line: int, log: FindingLog) -> None:
    if known is None or not isinstance(names, list):
        return
    for name in names:
        if isinstance(name, str) and name not in known:
            log.error("must be tools of the registry", line=line, field="candidates", value=name)


def _parse(data: Any, line: int | None, log: FindingLog) -> PlanRequest | None:
    if not isinstance(data, Mapping):
        log.error("must be an object with the key 'instruction'", line=line, value=data)
        return None
    try:
        return PlanRequest.model_validate(dict(data))
    except ValidationError as error:
        log.pydantic(error, line)
        return None
