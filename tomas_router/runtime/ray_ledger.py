"""The ledger of a Ray cluster: an actor with a name, which outlives the drivers that use it.

The actor holds an ``InMemoryLedger`` in epoch time, and its clock is the only one: leases end when it says so. It
forgets everything when it is restarted. Holders learn so at their next heartbeat (``LeaseLostError``) and stop; until
they had time to, a restarted actor books nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tomas_router.runtime.booking import Booking, BookingTerms
from tomas_router.runtime.ledger import (
    NO_TERMS,
    WAITING_LEASE_MS,
    Decision,
    InMemoryLedger,
    LedgerConflictError,
    LedgerSnapshot,
    Quota,
    Reservation,
    Ticket,
)
from tomas_router.runtime.ledger_errors import LedgerActorError, LedgerBusyError
from tomas_router.runtime.process_identity import this_process
from tomas_router.runtime.ray_connection import connected_ray, first_line

NAME, NAMESPACE = "tomas-ledger", "tomas-router"
ALONE_S = 2.0
"""Who decides alone has so long; then others go on, and its booking is refused."""
GRACE_MS = 15_000
VERSIONS_A_MS = 1_000
MAX_TRIES = 5


class LedgerActor:
    """Runs in the actor; all calls run in one event loop, so one at a time."""

    def __init__(self, grace_ms: int, restarted: bool | None = None) -> None:
        """An empty ledger.

        Args:
            grace_ms: how long a restarted actor books nothing.
            restarted: None asks Ray.
        """
        # Versions go on from the clock, so that none of an earlier life is met again.
        self._ledger = InMemoryLedger(epoch_times=True, first_version=time.time_ns() // 1_000_000 * VERSIONS_A_MS)
        restarted = _was_restarted() if restarted is None else restarted
        self._books_from_s = time.monotonic() + (grace_ms / 1000 if restarted else 0)
        self._alone: str | None = None
        self._alone_until_s = 0.0
        self._freed = asyncio.Condition()

    async def call(self, method: str, *args: Any, **arguments: Any) -> Any:
        """A method of the ledger, once nobody decides alone."""
        await self._turn()
        if method == "book":
            self._require_grace_over()
        return getattr(self._ledger, method)(*args, **arguments)

    async def begin_alone(self) -> tuple[str, LedgerSnapshot]:
        """Lets nobody else in for a moment; a token and what is booked."""
        await self._turn()
        self._require_grace_over()
        self._alone, self._alone_until_s = uuid.uuid4().hex, time.monotonic() + ALONE_S
        return self._alone, self._ledger.snapshot()

    async def end_alone(self, token: str, reservations: Sequence[Reservation] | None, terms: BookingTerms) -> str:
        """Books what was decided; None gives up.

        Raises:
            LedgerConflictError: it took too long, so others were let in.
        """
        if self._alone != token:
            raise LedgerConflictError(f"deciding alone took over {ALONE_S:g} s, so others were let in")
        try:
            if reservations is None:
                return ""
            version = self._ledger.snapshot().version
            return self._ledger.book(reservations, expected_version=version, terms=terms)
        finally:
            self._alone = None
            async with self._freed:
                self._freed.notify_all()

    async def _turn(self) -> None:
        while self._somebody_is_alone():
            async with self._freed:
                if self._somebody_is_alone():  # not freed before this coroutine could listen
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._freed.wait(), self._alone_until_s - time.monotonic())

    def _somebody_is_alone(self) -> bool:
        if time.monotonic() >= self._alone_until_s:  # it died, or is too slow
            self._alone = None
        return self._alone is not None

    def _require_grace_over(self) -> None:
        left_s = self._books_from_s - time.monotonic()
        if left_s > 0:
            raise LedgerBusyError(
                f"the ledger's actor was restarted and has forgotten all bookings; it books again in {left_s:.1f} s, "
                f"when their holders have stopped"
            )


class RayLedger:
    """The ledger of the cluster that this process is connected to (``ray.init``), made by whoever asks first.

    It can be pickled, so tasks and actors can be given it. A timeline describes one machine, so a cluster has one
    ledger for each node that plans run on: give them names of their own.
    """

    epoch_times = True

    def __init__(self, name: str = NAME, *, namespace: str = NAMESPACE, grace_ms: int = GRACE_MS) -> None:
        """Finds or makes the actor.

        Args:
            name: of the actor.
            namespace: of Ray, in which the name counts.
            grace_ms: how long a restarted actor books nothing: as long as the leases that are in use.

        Raises:
            MissingExtraError: Ray is not installed.
            RayNotConnectedError: this process is connected to no cluster.
        """
        self._ray = connected_ray("RayLedger")
        self._made_by = (name, namespace, grace_ms)
        actor = self._ray.remote(LedgerActor).options(
            name=name,
            namespace=namespace,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=1000,
        )
        self._actor = actor.remote(grace_ms)

    def __reduce__(self) -> tuple[Any, ...]:
        name, namespace, grace_ms = self._made_by
        return _again, (name, namespace, grace_ms)

    def snapshot(self) -> LedgerSnapshot:
        return self._call("snapshot")  # type: ignore[no-any-return]

    def book(
        self, reservations: Sequence[Reservation], *, expected_version: int, terms: BookingTerms = NO_TERMS
    ) -> str:
        held = tuple(reservations)
        return str(self._call("book", held, expected_version=expected_version, terms=_of_here(terms)))

    def book_alone(self, decide: Decision, *, terms: BookingTerms = NO_TERMS) -> str:
        """As in every ledger, but within two seconds: whoever is slower decides again, and at last is refused.

        Raises:
            LedgerConflictError: it took too long five times.
        """
        tries = 0
        while True:
            token, snapshot = self._ask(self._actor.begin_alone)
            try:
                reservations = tuple(decide(snapshot))
            except BaseException:
                self._ask(self._actor.end_alone, token, None, terms)
                raise
            try:
                return str(self._ask(self._actor.end_alone, token, reservations, _of_here(terms)))
            except LedgerConflictError:
                tries += 1
                if tries == MAX_TRIES:
                    raise

    def extend(
        self, booking_id: str, *, lease_ms: int | None = None, step: int | None = None, end_ms: int | None = None
    ) -> Booking:
        return self._call("extend", booking_id, lease_ms=lease_ms, step=step, end_ms=end_ms)  # type: ignore[no-any-return]

    def release(self, booking_id: str, *, step: int | None = None) -> None:
        self._call("release", booking_id, step=step)

    def cancel(self, booking_id: str) -> bool:
        return bool(self._call("cancel", booking_id))

    def booking(self, booking_id: str) -> Booking:
        return self._call("booking", booking_id)  # type: ignore[no-any-return]

    def bookings(self) -> tuple[Booking, ...]:
        return self._call("bookings")  # type: ignore[no-any-return]

    def set_quota(self, tenant: str, quota: Quota | None) -> None:
        self._call("set_quota", tenant, quota)

    def enqueue(self, *, priority: int = 0, tenant: str = "", lease_ms: int = WAITING_LEASE_MS) -> str:
        holder = this_process()
        return str(self._call("enqueue", priority=priority, tenant=tenant, lease_ms=lease_ms, holder=holder))

    def keep_place(self, ticket_id: str, *, lease_ms: int = WAITING_LEASE_MS) -> int:
        return int(self._call("keep_place", ticket_id, lease_ms=lease_ms))

    def leave(self, ticket_id: str) -> bool:
        return bool(self._call("leave", ticket_id))

    def waiting(self) -> tuple[Ticket, ...]:
        return self._call("waiting")  # type: ignore[no-any-return]

    def end(self) -> None:
        """Ends the actor for all; the next ``RayLedger`` of the name begins anew."""
        self._ray.kill(self._actor, no_restart=True)

    def _call(self, method: str, *args: Any, **arguments: Any) -> Any:
        return self._ask(self._actor.call, method, *args, **arguments)

    def _ask(self, method: Any, *args: Any, **arguments: Any) -> Any:
        """The answer, or what the ledger raised, as it raised it."""
        try:
            return self._ray.get(method.remote(*args, **arguments))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise LedgerActorError(
                f"the ledger's actor {self._made_by[0]!r} does not answer, so what was asked may not have been done: "
                f"{first_line(error)}"
            ) from error


def _again(name: str, namespace: str, grace_ms: int) -> RayLedger:
    return RayLedger(name, namespace=namespace, grace_ms=grace_ms)


def _of_here(terms: BookingTerms) -> BookingTerms:
    """With this process as the holder, not the actor's."""
    return terms if terms.holder is not None else replace(terms, holder=this_process())


def _was_restarted() -> bool:
    import ray

    return bool(ray.get_runtime_context().was_current_actor_reconstructed)
