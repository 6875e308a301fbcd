"""``tomas ledger``: what is booked in a shared ledger and by whom, who waits, and who may have how much."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import BAD_INPUT, OK

if TYPE_CHECKING:
    from tomas_router.runtime.booking import Booking
    from tomas_router.runtime.process_identity import Holder
    from tomas_router.runtime.quota import Quota
    from tomas_router.runtime.reservation import Reservation
    from tomas_router.runtime.sqlite_ledger import SqliteLedger
    from tomas_router.runtime.waiting_line import Ticket

QUOTA_OPTIONS = ("cpu", "cpu-mem", "gpu", "gpu-mem")
RUNNING = {True: "running", False: "ended", None: "elsewhere"}


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas ledger``."""
    p = subparsers.add_parser("ledger", help="show what is booked in a shared ledger, cancel it, set quotas")
    actions = p.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="list bookings, quotas and who waits")
    show.add_argument("file", type=Path, metavar="FILE", help="the ledger of `tomas plan --ledger FILE`")
    show.add_argument("--json", action="store_true", help="print JSON and nothing else")
    show.set_defaults(run=run_show)
    cancel = actions.add_parser("cancel", help="free a booking")
    cancel.add_argument("file", type=Path, metavar="FILE")
    cancel.add_argument("booking", metavar="BOOKING", help="its id, as `tomas ledger show` and the plan give it")
    cancel.set_defaults(run=run_cancel)
    quota = actions.add_parser("quota", help="limit what a tenant may hold, in percent of what the timeline offers")
    quota.add_argument("file", type=Path, metavar="FILE")
    quota.add_argument("tenant", metavar="TENANT", help="the name given to `tomas plan --tenant`")
    for option in QUOTA_OPTIONS:
        quota.add_argument(f"--{option}", type=int, default=100, metavar="PERCENT", help="default: 100")
    quota.add_argument("--lift", action="store_true", help="remove the limit")
    quota.set_defaults(run=run_quota, parser=quota)


def run_show(args: argparse.Namespace) -> int:
    """Lists what counts now."""
    ledger = _opened(args.file)
    bookings, line, quotas = ledger.bookings(), ledger.waiting(), ledger.snapshot().quotas
    if args.json:
        content = {
            "bookings": [_booking_json(booking) for booking in bookings],
            "waiting": [{**asdict(ticket), "holder": _holder_json(ticket.holder)} for ticket in line],
            "quotas": {tenant: asdict(quota) for tenant, quota in quotas.items()},
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return OK
    lines = [_booking_text(booking) for booking in bookings] or [f"{args.file}: nothing is booked"]
    lines += [_ticket_text(place, ticket) for place, ticket in enumerate(line, start=1)]
    lines += [_quota_text(tenant, quota) for tenant, quota in quotas.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return OK


def run_cancel(args: argparse.Namespace) -> int:
    """Frees a booking, whoever holds it; 2 when there is none."""
    from tomas_router.runtime.ledger import LeaseLostError

    try:
        _opened(args.file).release(args.booking)
    except LeaseLostError as error:
        sys.stderr.write(f"tomas: {args.file}: {error}\n")
        return BAD_INPUT
    sys.stdout.write(f"cancelled booking {args.booking}\n")
    return OK


def run_quota(args: argparse.Namespace) -> int:
    """Sets or lifts a quota; bookings that are made keep what they have. The ledger is made when it is missing."""
    from tomas_router.runtime.quota import Quota
    from tomas_router.runtime.sqlite_ledger import SqliteLedger

    quota = None
    if not args.lift:
        try:
            quota = Quota(args.cpu, args.cpu_mem, args.gpu, args.gpu_mem)
        except ValueError as error:
            args.parser.error(str(error))
    SqliteLedger(args.file).set_quota(args.tenant, quota)
    sys.stdout.write((_quota_text(args.tenant, quota) if quota else f"no quota for {args.tenant}") + "\n")
    return OK


def _opened(path: Path) -> SqliteLedger:
    from tomas_router.runtime.sqlite_ledger import SqliteLedger

    return SqliteLedger(path, create=False)


def _booking_json(booking: Booking) -> dict[str, Any]:
    names = ("cpu_millicores", "cpu_mem_mib", "gpu_sm_permille", "gpu_mem_mib")
    return {
        "booking_id": booking.booking_id,
        "tenant": booking.tenant,
        "thread_id": booking.thread_id,
        "plan_id": booking.plan_id,
        "holder": _holder_json(booking.holder),
        "booked_ms": booking.booked_ms,
        "lease_until_ms": booking.lease_until_ms,
        "reservations": [
            {"step": step, "tool": r.tool, "start_ms": r.start_ms, "end_ms": r.end_ms}
            | dict(zip(names, r.demand, strict=True))
            for step, r in booking.reservations.items()
        ],
    }


def _holder_json(holder: Holder) -> dict[str, Any]:
    return {"host": holder.host, "pid": holder.pid, "running": holder.is_running()}


def _booking_text(booking: Booking) -> str:
    from tomas_router.runtime.booking import iso_time

    names = " · ".join(name for name in (booking.tenant, booking.thread_id, booking.plan_id) if name)
    until = "never" if booking.lease_until_ms is None else iso_time(booking.lease_until_ms)
    lines = [
        f"booking {booking.booking_id}{f' for {names}' if names else ''}",
        f"    held by {_holder_text(booking.holder)}, lease ends {until}",
    ]
    lines += [f"    step {step}: {_reservation_text(r)}" for step, r in booking.reservations.items()]
    return "\n".join(lines)


def _ticket_text(place: int, ticket: Ticket) -> str:
    from tomas_router.runtime.booking import iso_time

    tenant = f" of {ticket.tenant}" if ticket.tenant else ""
    return (
        f"waiting {place}{tenant}: since {iso_time(ticket.enqueued_ms)} with priority {ticket.priority}, "
        f"{_holder_text(ticket.holder)}"
    )


def _quota_text(tenant: str, quota: Quota) -> str:
    shares = ", ".join(f"{name} {percent} %" for name, percent in zip(QUOTA_OPTIONS, quota.percents, strict=True))
    return f"quota of {tenant or '(no tenant)'}: {shares}"


def _holder_text(holder: Holder) -> str:
    return f"{holder} ({RUNNING[holder.is_running()]})"


def _reservation_text(reservation: Reservation) -> str:
    from tomas_router.runtime.booking import iso_time

    cpu_milli, cpu_mib, gpu_permille, gpu_mib = reservation.demand
    cpu = f"{cpu_milli / 1000:g} CPU, {cpu_mib / 1024:.3g} GiB"
    gpu = f", GPU {gpu_permille / 10:g} %, {gpu_mib / 1024:.3g} GiB" if gpu_permille or gpu_mib else ""
    tool = f"{reservation.tool}: " if reservation.tool else ""
    return f"{tool}{cpu}{gpu} from {iso_time(reservation.start_ms)} for {reservation.end_ms - reservation.start_ms} ms"
