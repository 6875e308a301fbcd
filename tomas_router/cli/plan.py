"""``tomas plan``: one request, or a file of them, to tool plans."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import INFEASIBLE, OK
from tomas_router.cli.shared_ledger import add_ledger_options, anchored, booking_options, refuse_without_ledger
from tomas_router.cli.system import add_system_options, load_planner, load_system
from tomas_router.cli.targets import TARGETS, add_target_options

if TYPE_CHECKING:
    from tomas_router.schema.plan import ToolPlan
    from tomas_router.schema.request import PlanRequest


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas plan``."""
    p = subparsers.add_parser(
        "plan",
        help="plan one request, or a file of requests",
        description="Plan one request, or a JSON Lines file of them. Registry, profile, timeline and model default "
        "to what the package ships.",
    )
    p.add_argument("text", nargs="?", metavar="TEXT", help="the request")
    p.add_argument("--batch", type=Path, metavar="FILE", help='JSON Lines of {"id", "instruction", ...}')
    p.add_argument("--out", type=Path, metavar="FILE", help='with --batch: JSON Lines of {"id", "plan"}')
    add_system_options(p)
    add_ledger_options(p)
    p.add_argument("--candidates", type=_names, metavar="A,B", help="choose among these tools only")
    p.add_argument("--num-steps", type=int, metavar="N", help="plan exactly N steps")
    p.add_argument("--links", choices=("dataflow", "order"), default="dataflow", help="what depends_on means")
    p.add_argument("--input-size", choices=("small", "medium", "large"), help="size of the input, if known")
    p.add_argument("--deadline-ms", type=int, metavar="N", help="latest end of the plan, ms since submission")
    p.add_argument(
        "--exact-ms",
        type=float,
        metavar="N",
        help="let CP-SAT prove the placement within N ms (needs the extra 'exact')",
    )
    p.add_argument("--explain", action="store_true", help="add a short explanation")
    p.add_argument("--json", action="store_true", help="print the plan as JSON and nothing else")
    p.add_argument("--target", choices=TARGETS, help="print the plan for a scheduler instead, as `tomas targets` does")
    add_target_options(p)
    p.set_defaults(run=run, parser=p)


def run(args: argparse.Namespace) -> int:
    """Plans; 0 when planned or no tool is needed, 3 when nothing fits."""
    if (args.text is None) == (args.batch is None):
        args.parser.error("give either TEXT or --batch FILE")
    if (args.batch is None) != (args.out is None):
        args.parser.error("--batch and --out belong together")
    if args.target is None and (args.gpu, args.image) != (None, None):
        args.parser.error("--gpu and --image need --target")
    if args.target is not None and (args.json or args.batch is not None):
        args.parser.error("--target goes with neither --json nor --batch")
    refuse_without_ledger(args)
    if args.batch is not None:
        from tomas_router.cli.batch import plan_file

        return plan_file(args)

    request = _request(args)
    registry, profiling, timeline = load_system(args)
    planner = load_planner(args)
    timeline = anchored(args, timeline)
    booking = booking_options(args, planner, timeline)
    plan = planner.plan(request, registry, profiling, timeline, explain=args.explain, **booking)
    if args.target is not None:
        from tomas_router.cli.targets import write

        return write(plan, args.target, args)
    _show(plan, args)
    return INFEASIBLE if plan.status == "infeasible" else OK


def _show(plan: ToolPlan, args: argparse.Namespace) -> None:
    if args.json:
        sys.stdout.write(plan.model_dump_json(indent=2) + "\n")
        return
    from rich.console import Console

    from tomas_router.cli.plan_view import plan_view

    Console().print(plan_view(plan, explanation=args.explain))


def _request(args: argparse.Namespace) -> PlanRequest:
    from tomas_router.schema.request import parse_request

    fields = ("candidates", "num_steps", "links", "input_size", "deadline_ms")
    return parse_request({"instruction": args.text, **{field: getattr(args, field) for field in fields}})


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("at least one tool name is expected")
    return names
