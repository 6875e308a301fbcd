"""``tomas plan --batch``: many requests, one registry, one line of output each."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tomas_router.cli.exit_codes import OK

if TYPE_CHECKING:
    from tomas_router.schema.findings import FindingLog
    from tomas_router.schema.registry import ToolRegistry
    from tomas_router.schema.request import PlanRequest


def plan_file(args: argparse.Namespace) -> int:
    """Plans every row of ``--batch`` and writes ``{"id", "plan"}`` rows to ``--out``.

    Every row is validated before the first one is planned. An infeasible row is an answer like any other, so the
    exit code is 0 whenever every row has been answered.
    """
    from rich.console import Console
    from rich.progress import track

    from tomas_router.cli.plan import load_planner, load_system, registry_or_shipped

    registry, profiling, timeline = load_system(args)
    requests = read_requests(args.batch, registry or registry_or_shipped(None))
    planner = load_planner(args)
    seen: Counter[str] = Counter()
    progress = Console(stderr=True)
    with Path(args.out).open("w", encoding="utf-8") as out:
        for request in track(requests, "planning", console=progress, disable=not progress.is_terminal):
            plan = planner.plan(request, registry, profiling, timeline, explain=args.explain)
            out.write(json.dumps({"id": request.id, "plan": plan.model_dump(mode="json")}) + "\n")
            out.flush()  # what is done survives an interruption
            seen[plan.status] += 1
    counts = ", ".join(f"{count} {status}" for status, count in sorted(seen.items()))
    sys.stderr.write(f"{args.out}: {len(requests)} plans ({counts})\n")
    return OK


def read_requests(path: Path, registry: ToolRegistry) -> list[PlanRequest]:
    """The requests of a JSON Lines file, in order; blank lines are skipped.

    Raises:
        DataValidationError: Lists everything that is wrong with the file, line by line.
    """
    from tomas_router.errors import DataValidationError

    requests, log = check_requests(path, registry)
    if log.errors:
        raise DataValidationError(log.errors)
    return requests


def check_requests(path: Path, registry: ToolRegistry) -> tuple[list[PlanRequest], FindingLog]:
    """The usable requests of a file, and everything wrong with the others."""
    from pydantic import ValidationError

    from tomas_router.schema.findings import FindingLog
    from tomas_router.schema.request import PlanRequest

    log = FindingLog.of(path)
    requests: list[PlanRequest] = []
    line_of_id: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            request = PlanRequest.model_validate_json(line)
        except ValidationError as error:
            log.pydantic(error, number)
            continue
        _check(request, number, registry, line_of_id, log)
        requests.append(request)
    if not requests and not log.findings:
        log.error("must hold at least one request")
    return requests, log


def _check(
    request: PlanRequest, line: int, registry: ToolRegistry, line_of_id: dict[str, int], log: FindingLog
) -> None:
    if not request.id:
        log.error("must be a non-empty string in batch mode", line=line, field="id")
    elif line_of_id.setdefault(request.id, line) != line:
        log.error(f"must be unique; line {line_of_id[request.id]} has it", line=line, field="id", value=request.id)
    for name in request.candidates or ():
        if name not in registry:
            log.error("must be a tool of the registry", line=line, field="candidates", value=name)
