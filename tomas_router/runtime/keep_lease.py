"""Keeps a booking alive while its work runs in this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tomas_router.runtime.booking import wall_clock_ms
from tomas_router.runtime.ledger import LeaseLostError, Ledger
from tomas_router.runtime.ledger_errors import LedgerActorError, LedgerBusyError, LedgerFileError

log = logging.getLogger("tomas_router")

BEATS_A_LEASE = 3


class KeepLease:
    """Extends a lease from a thread until the block ends, then releases what the block was about.

    A step that runs longer than booked keeps what it holds: from its last heartbeat on its end moves along, two
    heartbeats ahead. When the process dies, so does the thread, and the lease ends.
    """

    lost: threading.Event
    """Set when the booking does not count any more; work that can stop should."""

    def __init__(
        self,
        ledger: Ledger,
        booking_id: str,
        *,
        lease_ms: int,
        step: int | None = None,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Nothing happens before the block is entered.

        Args:
            ledger: in epoch time.
            booking_id: what to keep.
            lease_ms: how long it outlives this process; a third of it passes between two heartbeats.
            step: position of the reservation that the block runs, the only one that may grow late and is released at
                the end. None: the whole booking is released; it grows late only where it holds one reservation.
            clock_ms: now in epoch milliseconds.
        """
        self.lost = threading.Event()
        self._ledger, self._booking_id, self._lease_ms, self._step = ledger, booking_id, lease_ms, step
        self._clock_ms = clock_ms
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {booking_id}", daemon=True)

    def __enter__(self) -> Self:
        """Starts.

        Raises:
            LeaseLostError: the booking is lost already.
        """
        self._extend()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Releases before the block ends, which then has nothing left to release; again does nothing."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join()
        try:
            self._ledger.release(self._booking_id, step=self._step)
        except (LeaseLostError, LedgerActorError):
            # The work is done all the same; ``lost`` says that it ran without its booking.
            self.lost.set()
        except (LedgerBusyError, LedgerFileError) as failed:  # nor is the work undone by this
            log.warning("booking %s was not released and ends with its lease: %s", self._booking_id, failed)

    def _beat(self) -> None:
        while not self._done.wait(self._lease_ms / BEATS_A_LEASE / 1000):
            try:
                self._extend()
            except (LedgerBusyError, LedgerActorError):
                continue  # there is a lease for that
            except (LeaseLostError, LedgerFileError):
                self.lost.set()
                return

    def _extend(self) -> None:
        held = self._ledger.extend(self._booking_id, lease_ms=self._lease_ms).reservations
        step = next(iter(held)) if self._step is None and len(held) == 1 else self._step
        if step is None or step not in held:
            return
        now_ms, beat_ms = self._clock_ms(), self._lease_ms // BEATS_A_LEASE
        if held[step].end_ms <= now_ms + beat_ms:  # it may be over before the next heartbeat
            self._ledger.extend(self._booking_id, step=step, end_ms=now_ms + 2 * beat_ms)
