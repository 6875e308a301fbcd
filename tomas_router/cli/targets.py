"""``tomas targets``: a plan in the words of a scheduler, and what becomes of each of its promises there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import INFEASIBLE, OK

if TYPE_CHECKING:
    from tomas_router.schema.plan import ToolPlan
    from tomas_router.targets.exported import Exported

TARGETS = ("ray", "kubernetes", "docker", "slurm", "ecs", "local")
GPUS = ("whole", "mig", "hami", "mps", "gpu")
STYLE = {"enforced": "green", "advisory": "yellow", "not_expressed": "red"}


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas targets``."""
    p = subparsers.add_parser(
        "targets",
        help="write a plan as Ray options, Kubernetes Jobs, docker or sbatch commands",
        description="Write a plan for a scheduler to standard output, and to standard error what of it is enforced "
        "there, what is advisory, and what cannot be said.",
    )
    p.add_argument("plan", type=Path, metavar="PLAN.JSON", help="a plan of `tomas plan --json`")
    p.add_argument("--to", choices=TARGETS, required=True, help="which scheduler")
    add_target_options(p)
    p.set_defaults(run=run)


def add_target_options(p: argparse.ArgumentParser) -> None:
    """The options that say how a target shares GPUs, and what it runs."""
    p.add_argument(
        "--gpu", choices=GPUS, help="how GPUs are shared: whole, mig or hami in Kubernetes, mps or gpu in Slurm"
    )
    p.add_argument("--image", metavar="IMAGE", help="of containers (default: tools:latest)")


def run(args: argparse.Namespace) -> int:
    """Writes the plan; 3 when it is infeasible."""
    from tomas_router.cli.execute import load_plan

    return write(load_plan(args.plan), args.to, args)


def write(plan: ToolPlan, target: Any, args: argparse.Namespace) -> int:
    """The plan to standard output, the notes to standard error."""
    from tomas_router.targets.written import exported, written

    if plan.status != "planned":
        sys.stderr.write(f"nothing to write: {plan.status}{f' ({plan.reason})' if plan.reason else ''}\n")
        return INFEASIBLE if plan.status == "infeasible" else OK
    said = exported(plan, target, gpu=args.gpu, image=args.image)
    sys.stdout.write(written(plan, target, said, args.image))
    _print_notes(said)
    return OK


def _print_notes(said: Mapping[str, Exported]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("steps", "what", "is", "how"):
        table.add_column(name, overflow="fold")
    for (field, how, text), steps in _by_note(said).items():
        table.add_row(" ".join(steps), field, Text(how.replace("_", " "), style=STYLE[how]), Text(text))
    Console(stderr=True).print(table)


def _by_note(said: Mapping[str, Exported]) -> dict[tuple[str, str, str], list[str]]:
    """Steps that share a note stand in one row, in the order of a step's notes."""
    from tomas_router.targets.exported import FIELDS

    found: dict[tuple[str, str, str], list[str]] = {}
    for step, export in said.items():
        for note in export.notes:
            found.setdefault((note.field, note.how, note.text), []).append(step)
    return dict(sorted(found.items(), key=lambda item: FIELDS.index(item[0][0])))
