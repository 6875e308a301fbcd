"""Checks files and lists everything that is wrong, for ``tomas validate``."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from tomas_router.schema.findings import Finding, FindingLog
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import read_profiling
from tomas_router.schema.registry import ToolRegistry, read_registry
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

    With a registry, profiled tools and the requests' candidates must be in it.
    """
    findings: list[Finding] = []
    known: ToolRegistry | None = None
    if registry is not None:
        specs, found = read_registry(registry)
        findings += found
        if not any(f.severity == "error" for f in found):
            known = ToolRegistry(specs)
    if profiling is not None:
        findings += read_profiling(profiling, known)[1]
    if timeline is not None:
        findings += read_timeline(timeline)[2]
    if requests is not None:
        findings += _requests(requests, known)
    if plan is not None:
        findings += read_plan(plan)[1]
    return findings


def _requests(path: str | Path, known: ToolRegistry | None) -> list[Finding]:
    requests, findings = read_requests(path)
    log = FindingLog.of(path)
    for request in requests:
        for name in request.candidates or ():
            if known is not None and name not in known:
                log.error(f"of request {request.id} must be in the registry", field="candidates", value=name)
    return findings + log.findings


def read_plan(path: str | Path) -> tuple[ToolPlan | None, list[Finding]]:
    """A plan file, or what is wrong with it."""
    log = FindingLog.of(path)
    try:
        return ToolPlan.model_validate(json.loads(Path(path).read_text(encoding="utf-8-sig"))), []
    except OSError as error:
        log.error(f"cannot be read: {error.strerror}")
    except ValidationError as error:
        log.pydantic(error, None)
    except ValueError as error:
        log.error(f"must be JSON: {error}")
    return None, log.findings
