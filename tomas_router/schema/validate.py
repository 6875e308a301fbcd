"""Checks files and lists everything that is wrong, for ``tomas validate``."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from tomas_router.schema.findings import Finding, FindingLog
from tomas_router.schema.json_text import read_json
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.plan_versions import PlanVersionError
from tomas_router.schema.profiling import read_profiling
from tomas_router.schema.registry import read_registry
from tomas_router.schema.request import read_requests
from tomas_router.schema.timeline_csv import read_timeline


def validate_files(
    *,
    registry: str | Path | None = None,
    profiling: str | Path | None = None,
    timeline: str | Path | None = None,
    requests: str | Path | None = None,
    plan: str | Path | None = None,
) -> list[Finding]:
    """All findings of all given files, errors and warnings; an empty list means that everything is in order.

    With a registry, profiled tools and the requests' candidates must be in it, well-formed or not: one malformed tool
    does not hide what is wrong elsewhere.
    """
    findings: list[Finding] = []
    known: frozenset[str] | None = None
    if registry is not None:
        read = read_registry(registry)
        findings += read.findings
        known = read.names or None  # a file without any name says nothing about the others
    if profiling is not None:
        findings += read_profiling(profiling, known)[1]
    if timeline is not None:
        findings += read_timeline(timeline)[2]
    if requests is not None:
        findings += read_requests(requests, known)[1]
    if plan is not None:
        findings += read_plan(plan)[1]
    return findings


def read_plan(path: str | Path) -> tuple[ToolPlan | None, list[Finding]]:
    """A plan file, or what is wrong with it. Text is no number here: types must be those of the schema."""
    log = FindingLog.of(path)
    read = read_json(path, log)
    if read is None:
        return None, log.findings
    try:
        return ToolPlan.model_validate_json(json.dumps(read[1]), strict=True), []
    except ValidationError as error:
        log.pydantic(error, None)
    except PlanVersionError as error:
        log.error(str(error))
    return None, log.findings
