"""What can go wrong with a ledger."""

from __future__ import annotations

from tomas_router.errors import InfeasibleError, TomasRouterError
from tomas_router.runtime.booking import iso_time


class LedgerConflictError(TomasRouterError):
    """The ledger changed since the snapshot that a booking was decided on."""


class LeaseLostError(TomasRouterError):
    """A booking does not count any more: what it held may have been given to others."""


class NotYourTurnError(InfeasibleError):
    """Others wait for the machine and go first; wait in line (``planner.in_turn``) or ask with a higher priority."""


class QuotaExceededError(InfeasibleError):
    """The machine has room, but not within what the tenant may hold."""


class EpochMissingError(TomasRouterError, ValueError):
    """A ledger in epoch time was given times of another clock."""


class LedgerFileError(TomasRouterError):
    """A ledger's file cannot be used as it is or where it is."""


class LedgerBusyError(TomasRouterError):
    """The ledger cannot be changed just now, for example because its file stays locked; nothing was changed."""


class LedgerActorError(TomasRouterError):
    """The actor that holds a ledger does not answer; whether it did what was asked is not known."""


def version_conflict(version: int, expected_version: int) -> LedgerConflictError:
    """Two plans were decided on one version, and this one came second."""
    return LedgerConflictError(
        f"the ledger is at version {version}, the booking was decided on version {expected_version}"
    )


def lease_lost(booking_id: str, ended: tuple[str, int] | None, now_ms: int) -> LeaseLostError:
    """Args: ended: how and when it ended, epoch ms; None when the ledger does not know the booking."""
    if ended is None:
        return LeaseLostError(f"booking {booking_id} is not known: never booked in this ledger, or gone for a day")
    how, at_ms = ended
    if how == "expired":
        return LeaseLostError(
            f"booking {booking_id}: the lease ended at {iso_time(at_ms)}, {now_ms - at_ms} ms ago; what it held may "
            f"have been given to others, so stop or book again"
        )
    return LeaseLostError(f"booking {booking_id} was released at {iso_time(at_ms)}")
