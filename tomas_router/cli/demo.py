"""``tomas demo``: one request on three machines."""

from __future__ import annotations

import argparse
from typing import Any

from tomas_router.cli.exit_codes import INFEASIBLE, OK

REQUEST = (
    "Transcribe the recording of this morning's meeting, translate the transcript into German, "
    "and summarise the translation in five bullet points."
)
MACHINES = {
    "idle": "an idle machine",
    "busy": "a busy machine",
    "no_gpu": "a machine without a GPU",
}


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas demo``."""
    p = subparsers.add_parser("demo", help="plan one request on an idle, a busy and a GPU-less machine")
    p.add_argument("text", nargs="?", default=REQUEST, metavar="TEXT", help="another request")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the first plan as JSON and all three as tables; 3 when one of them is infeasible."""
    from rich.console import Console
    from rich.markup import escape

    from tomas_router import shipped
    from tomas_router.cli.cache_dir import cache_dir
    from tomas_router.cli.plan_view import plan_view
    from tomas_router.planner.planner import Planner
    from tomas_router.runtime.timeline import SystemTimeline
    from tomas_router.schema.plan import ToolPlan

    planner = Planner.load(cache_dir=cache_dir())
    answers = {
        machine: planner.plan(args.text, timeline=SystemTimeline.from_csv(shipped.timeline_path(name)))
        for name, machine in MACHINES.items()
    }
    written = [answer.model_dump_json() for answer in answers.values()]
    plans = [ToolPlan.model_validate_json(text) for text in written]

    console = Console()
    console.print_json(written[0])
    console.print(f"[bold]Request:[/] {escape(args.text)}\n")
    for machine, plan in zip(answers, plans, strict=True):
        console.print(plan_view(plan, f"On {machine}"))
        console.print()
    console.print(
        f"[green]valid[/]: {len(plans)} plans pass the ToolPlan schema {plans[0].schema_version}; "
        "the first is printed above as JSON"
    )
    return INFEASIBLE if any(plan.status == "infeasible" for plan in plans) else OK
