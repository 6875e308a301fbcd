"""``tomas execute``: runs a plan that was written by ``tomas plan --json``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import INFEASIBLE, OK

if TYPE_CHECKING:
    from tomas_router.schema.plan import ToolPlan


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas execute``."""
    p = subparsers.add_parser("execute", help="run a plan (the stub prints and simulates)")
    p.add_argument("plan", type=Path, metavar="PLAN.JSON", help="a plan of `tomas plan --json`")
    p.add_argument("--executor", choices=("stub",), default="stub")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs every step in order of its dependencies; 3 when the plan is infeasible."""
    plan = load_plan(args.plan)
    if plan.status != "planned":
        sys.stdout.write(f"nothing to run: {plan.status}{f' ({plan.reason})' if plan.reason else ''}\n")
        return INFEASIBLE if plan.status == "infeasible" else OK
    from tomas_router.executors.stub import StubExecutor

    if datetime.now(UTC) > datetime.fromisoformat(plan.expires_at):
        sys.stderr.write(f"tomas: the plan's curve ended at {plan.expires_at}; simulated all the same\n")
    StubExecutor(check_expiry=False).run(plan)
    return OK


def load_plan(path: Path) -> ToolPlan:
    """A plan from a file.

    Raises:
        DataValidationError: Lists everything that breaks the plan's schema.
    """
    from tomas_router.errors import DataValidationError
    from tomas_router.schema.validate import read_plan

    plan, findings = read_plan(path)
    if plan is None:
        raise DataValidationError(findings)
    return plan
