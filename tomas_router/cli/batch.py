"""``tomas plan --batch``: many requests, one registry, one line of output each."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tomas_router.cli.exit_codes import OK
from tomas_router.cli.shared_ledger import anchored, booking_options
from tomas_router.cli.system import load_planner, load_system, registry_or_shipped

if TYPE_CHECKING:
    from tomas_router.schema.registry import ToolRegistry
    from tomas_router.schema.request import PlanRequest


def plan_file(args: argparse.Namespace) -> int:
    """Plans every row of ``--batch`` and writes ``{"id", "plan"}`` rows to ``--out``.

    Every row is validated before the first one is planned. An infeasible row is an answer like any other, so the
    exit code is 0 whenever every row has been answered.
    """
    from rich.console import Console
    from rich.progress import track

    registry, profiling, timeline = load_system(args)
    requests = read_batch(args.batch, registry or registry_or_shipped(None))
    planner = load_planner(args)
    timeline = anchored(args, timeline)
    seen: Counter[str] = Counter()
    progress = Console(stderr=True)
    with Path(args.out).open("w", encoding="utf-8") as out:
        for request in track(requests, "planning", console=progress, disable=not progress.is_terminal):
            booking = booking_options(args, planner, timeline)
            plan = planner.plan(request, registry, profiling, timeline, explain=args.explain, **booking)
            out.write(json.dumps({"id": request.id, "plan": plan.model_dump(mode="json")}) + "\n")
            out.flush()  # what is done survives an interruption
            seen[plan.status] += 1
    counts = ", ".join(f"{count} {status}" for status, count in sorted(seen.items()))
    sys.stderr.write(f"{args.out}: {len(requests)} plans ({counts})\n")
    return OK


def read_batch(path: Path, registry: ToolRegistry) -> list[PlanRequest]:
    """The requests of a JSON Lines file, in order; blank lines are skipped.

    Raises:
        DataValidationError: Lists everything that is wrong with the file, line by line.
    """
    from tomas_router.schema.findings import FindingLog
    from tomas_router.schema.request import load_requests
    from tomas_router.schema.text_file import read_lines

    requests = load_requests(path)
    log = FindingLog.of(path)
    lines = [number for number, _ in read_lines(path, log)]
    for line, request in zip(lines, requests, strict=True):
        if not request.id:
            log.error("must be a non-empty string; it names the row of the output", line=line, field="id")
        for name in request.candidates or ():
            if name not in registry:
                log.error("must be a tool of the registry", line=line, field="candidates", value=name)
    log.finish()
    return requests
