"""``tomas execute``: runs a plan that was written by ``tomas plan --json``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import INCOMPLETE, INFEASIBLE, OK

if TYPE_CHECKING:
    from tomas_router.executors.booked import Booked
    from tomas_router.executors.execution import ExecutionReport, Executor
    from tomas_router.schema.plan import ToolPlan

NEED_TOOLS = ("tools", "ledger", "timeline", "ray", "sample_inputs", "ignore_expiry", "json")


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas execute``."""
    p = subparsers.add_parser(
        "execute",
        help="run a plan: simulated, in processes of this machine, or on Ray",
        description="Run a plan. The stub prints and simulates; local runs every step in a process that is held to "
        "what the plan gives it; ray runs it on a Ray cluster. Exit code 4: a step failed.",
    )
    p.add_argument("plan", type=Path, metavar="PLAN.JSON", help="a plan of `tomas plan --json`")
    p.add_argument("--executor", choices=("stub", "local", "ray"), default="stub", help="default: stub")
    p.add_argument("--tools", metavar="MODULE:TOOLS", help="where the functions or tools are, or my_file.py:TOOLS")
    p.add_argument(
        "--ledger", type=Path, metavar="FILE", help="keep the plan's booking alive; book it if it is not booked yet"
    )
    p.add_argument(
        "--timeline", type=Path, metavar="FILE", help="with --ledger: what the machine offers (default: what is free)"
    )
    p.add_argument("--ray", metavar="ADDRESS", help="of the cluster, or auto (default: one on this machine, for now)")
    p.add_argument(
        "--sample-inputs", action="store_true", help="give tools made for `tomas profile` their sample input"
    )
    p.add_argument("--ignore-expiry", action="store_true", help="run a plan although its curve has ended")
    p.add_argument("--json", action="store_true", help="print the report as JSON and nothing else")
    p.set_defaults(run=run, parser=p)


def run(args: argparse.Namespace) -> int:
    """Runs every step in order of its dependencies; 3 when the plan is infeasible, 4 when a step failed."""
    _refuse_what_does_not_go_together(args)
    plan = load_plan(args.plan)
    if plan.status != "planned":
        sys.stdout.write(f"nothing to run: {plan.status}{f' ({plan.reason})' if plan.reason else ''}\n")
        return INFEASIBLE if plan.status == "infeasible" else OK
    if args.executor == "stub":
        return _simulate(plan)
    with _executor(args) as executor:
        report = executor.execute(plan if plan.booking_id is not None else _submitted_now(plan, args.ignore_expiry))
    _show(plan, report, args.json)
    return OK if all(step.status == "done" for step in report.steps) else INCOMPLETE


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


def _refuse_what_does_not_go_together(args: argparse.Namespace) -> None:
    given = [name for name in NEED_TOOLS if getattr(args, name)]
    if args.executor == "stub" and given:
        args.parser.error(f"--{given[0].replace('_', '-')} needs --executor local or ray")
    if args.executor != "stub" and args.tools is None:
        args.parser.error(f"--executor {args.executor} needs --tools")
    if args.timeline is not None and args.ledger is None:
        args.parser.error("--timeline needs --ledger")
    if args.ray is not None and args.executor != "ray":
        args.parser.error("--ray needs --executor ray")


def _simulate(plan: ToolPlan) -> int:
    from tomas_router.executors.stub import StubExecutor

    if datetime.now(UTC) > datetime.fromisoformat(plan.expires_at):
        sys.stderr.write(f"tomas: the plan's curve ended at {plan.expires_at}; simulated all the same\n")
    StubExecutor(check_expiry=False).run(plan)
    return OK


def _submitted_now(plan: ToolPlan, ignore_expiry: bool) -> ToolPlan:
    """The plan with its starts counted from now, because that is when it is run.

    Raises:
        NotExecutableError: it has expired.
    """
    from tomas_router.executors.execution import require_executable

    now = datetime.now(UTC)
    require_executable(plan, None if ignore_expiry else now)
    expires = max(datetime.fromisoformat(plan.expires_at), now).isoformat()
    return plan.model_copy(update={"created_at": now.isoformat(), "expires_at": expires})


@contextmanager
def _executor(args: argparse.Namespace) -> Iterator[Executor]:
    settings: dict[str, Any] = {"check_expiry": False, "sample_inputs": args.sample_inputs, "booked": _booked(args)}
    if args.executor == "local":
        from tomas_router.executors.local import LocalExecutor

        yield LocalExecutor(args.tools, **settings)
        return
    from tomas_router.executors.ray_executor import RayExecutor

    with _cluster(args.ray):
        yield RayExecutor(args.tools, **settings)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A connection to a cluster; one that is there already stays."""
    from tomas_router.extras import import_extra

    ray = import_extra("ray", "ray", "tomas execute --executor ray needs Ray")
    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"include_dashboard": False} if address is None else {"address": address}
    ray.init(log_to_driver=False, configure_logging=False, **own)
    try:
        yield
    finally:
        ray.shutdown()


def _booked(args: argparse.Namespace) -> Booked | None:
    if args.ledger is None:
        return None
    from tomas_router.executors.booked import Booked
    from tomas_router.runtime.booking import wall_clock_ms
    from tomas_router.runtime.snapshot import live_timeline
    from tomas_router.runtime.sqlite_ledger import SqliteLedger
    from tomas_router.runtime.timeline import SystemTimeline

    ledger = SqliteLedger(args.ledger)
    if args.timeline is None:
        return Booked(ledger, live_timeline)
    timeline = SystemTimeline.from_csv(args.timeline)
    return Booked(ledger, lambda: timeline.with_epoch(wall_clock_ms()))


def _show(plan: ToolPlan, report: ExecutionReport, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.results(), indent=2) + "\n")
        return
    from rich.console import Console

    from tomas_router.cli.execution_view import execution_view

    Console().print(execution_view(plan, report))
