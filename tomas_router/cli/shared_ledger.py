"""The options by which ``tomas plan`` books in a ledger that other processes share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomas_router.planner.planner import Planner
    from tomas_router.runtime.ledger import BookingTerms
    from tomas_router.runtime.sqlite_ledger import SqliteLedger
    from tomas_router.runtime.timeline import SystemTimeline

NEED_A_LEDGER = ("epoch_ms", "lease_ms", "tenant", "thread_id", "plan_id", "priority")


def add_ledger_options(p: argparse.ArgumentParser) -> None:
    """The options that say where a plan is booked, for whom and how long."""
    p.add_argument("--ledger", type=Path, metavar="FILE", help="book the plan there, and respect what others booked")
    p.add_argument("--epoch-ms", type=int, metavar="N", help="Unix time of the timeline's time 0 (default: now)")
    p.add_argument("--lease-ms", type=int, metavar="N", help="free the booking after that time unless extended")
    p.add_argument("--priority", type=int, metavar="N", help="higher goes first where requests wait (default: 0)")
    p.add_argument("--tenant", metavar="NAME", help="for whom it is booked")
    p.add_argument("--thread-id", metavar="ID", help="the agent's thread")
    p.add_argument("--plan-id", metavar="ID", help="the caller's name for the plan")


def refuse_without_ledger(args: argparse.Namespace) -> None:
    """Exits when an option was given that only a ledger gives a meaning."""
    given = [name for name in NEED_A_LEDGER if getattr(args, name) is not None]
    if args.ledger is None and given:
        args.parser.error(f"--{given[0].replace('_', '-')} needs --ledger FILE")
    if args.lease_ms is not None and args.lease_ms <= 0:
        args.parser.error(f"--lease-ms must be > 0, got {args.lease_ms}")


def booking_options(args: argparse.Namespace, planner: Planner, timeline: SystemTimeline) -> dict[str, Any]:
    """What ``Planner.plan`` is given beside the request to book ``--ledger``; nothing without it.

    Time 0 of the timeline may lie in the past, so no step is released before now and the time of the decision.
    """
    if args.ledger is None:
        return {}
    from tomas_router.runtime.booking import wall_clock_ms

    passed_ms = max(wall_clock_ms() - (timeline.epoch_ms or 0), 0)
    release_ms = passed_ms + planner.latency.t_inf_ms()
    return {"ledger": _ledger(args), "terms": _terms(args), "release_ms": release_ms}


def anchored(args: argparse.Namespace, timeline: SystemTimeline) -> SystemTimeline:
    """The timeline on the ledger's clock: time 0 is ``--epoch-ms``, by default now, when the request is submitted."""
    if args.ledger is None:
        return timeline
    from tomas_router.runtime.booking import wall_clock_ms

    return timeline.with_epoch(wall_clock_ms() if args.epoch_ms is None else args.epoch_ms)


def _ledger(args: argparse.Namespace) -> SqliteLedger:
    from tomas_router.runtime.sqlite_ledger import SqliteLedger

    return SqliteLedger(args.ledger)


def _terms(args: argparse.Namespace) -> BookingTerms:
    from tomas_router.runtime.ledger import BookingTerms

    return BookingTerms(
        lease_ms=args.lease_ms,
        tenant=args.tenant or "",
        thread_id=args.thread_id,
        plan_id=args.plan_id,
        priority=args.priority or 0,
    )
