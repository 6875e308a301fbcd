"""Any sequence of uses gives the answers of a plain reference that was written without either ledger's code."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.runtime.ledgers import NOON_MS, HandClock, in_a_file, in_memory
from tomas_router.runtime.ledger import BookingTerms, LeaseLostError, Ledger, LedgerConflictError, Reservation

pytestmark = pytest.mark.m3

Piece = tuple[int, int, int]  # start and end after noon, milli-cores
PIECES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(0, 5)).map(lambda p: (p[0], p[0] + p[1], p[2])),
    min_size=1,
    max_size=3,
)


@dataclass
class Reference:
    """Bookings as plain lists; ``alive`` ones count."""

    version: int = 0
    alive: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def pass_time(self, now: int) -> None:
        lost = [name for name, until in self.until.items() if name in self.alive and until <= now]
        for name in lost:
            self.drop(name)
        self.version += 1 if lost else 0

    def drop(self, name: str) -> None:
        del self.alive[name]
        self.gone.add(name)

    def pieces(self) -> list[Piece]:
        return [(p[0], p[1], p[2]) for steps in self.alive.values() for _, p in sorted(steps.items())]


class LedgersAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.ledgers: list[Ledger] = [in_memory(path, self.clock), in_a_file(path, self.clock)]
        self.onlooker = in_a_file(path, self.clock)  # another object on the same file
        self.model = Reference()
        self.names: dict[str, list[str]] = {}  # the reference's name: the name in each ledger

    def teardown(self) -> None:
        for ledger in (self.ledgers[1], self.onlooker):
            ledger.close()  # type: ignore[attr-defined]
        self.folder.cleanup()

    @rule(ms=st.integers(0, 15))
    def wait(self, ms: int) -> None:
        self.clock.now_ms += ms

    @rule(pieces=PIECES, lease=st.none() | st.integers(1, 30), behind=st.sampled_from([0, 0, 0, 1]))
    def book(self, pieces: list[Piece], lease: int | None, behind: int) -> None:
        now = self.clock.now_ms - NOON_MS
        self.model.pass_time(now)
        reservations = [Reservation(NOON_MS + s, NOON_MS + e, (c, 0, 0, 0)) for s, e, c in pieces]
        made = []
        for ledger in self.ledgers:
            version = ledger.snapshot().version - behind
            try:
                made.append(ledger.book(reservations, expected_version=version, terms=BookingTerms(lease_ms=lease)))
            except LedgerConflictError:
                made.append("")
        assert [bool(m) for m in made] == [not behind] * 2
        if behind:
            return
        name = f"b{len(self.names)}"
        self.names[name] = made
        self.model.alive[name] = {i: list(p) for i, p in enumerate(pieces)}
        self.model.until[name] = now + lease if lease is not None else max(e for _, e, _ in pieces)
        self.model.version += 1

    @precondition(lambda self: self.names)
    @rule(data=st.data(), lease=st.integers(1, 30))
    def heartbeat(self, data: st.DataObject, lease: int) -> None:
        name = self.some(data)
        if self.all_do(name, "extend", lease_ms=lease):
            self.model.until[name] = max(self.model.until[name], self.clock.now_ms - NOON_MS + lease)

    @precondition(lambda self: self.names)
    @rule(data=st.data(), end=st.integers(0, 80))
    def run_late(self, data: st.DataObject, end: int) -> None:
        name = self.some(data)
        step = data.draw(st.sampled_from(sorted(self.model.alive.get(name, {0: []}))))
        if self.all_do(name, "extend", step=step, end_ms=NOON_MS + end):
            piece = self.model.alive[name][step]
            self.model.version += end > piece[1]
            piece[1] = max(piece[1], end)
            self.model.until[name] = max(self.model.until[name], end)

    @precondition(lambda self: self.names)
    @rule(data=st.data(), whole=st.booleans())
    def release(self, data: st.DataObject, whole: bool) -> None:
        name = self.some(data)
        step = data.draw(st.sampled_from(sorted(self.model.alive.get(name, {0: []}))))
        if self.all_do(name, "release", **({} if whole else {"step": step})):
            self.model.alive[name].pop(step)
            if whole or not self.model.alive[name]:
                self.model.drop(name)
            self.model.version += 1

    @invariant()
    def all_see_the_same(self) -> None:
        self.model.pass_time(self.clock.now_ms - NOON_MS)
        for ledger in (*self.ledgers, self.onlooker):
            seen = ledger.snapshot()
            held = [(r.start_ms - NOON_MS, r.end_ms - NOON_MS, r.demand[0]) for r in seen.reservations]
            assert held == self.model.pieces()
            assert seen.version == self.model.version
            assert len(ledger.bookings()) == len(self.model.alive)

    def some(self, data: st.DataObject) -> str:
        self.model.pass_time(self.clock.now_ms - NOON_MS)
        return data.draw(st.sampled_from(sorted(self.names)))

    def all_do(self, name: str, what: str, **arguments: int) -> bool:
        """Whether the booking still counted; both ledgers must say what the reference says."""
        said = []
        for ledger, booking_id in zip(self.ledgers, self.names[name], strict=True):
            try:
                getattr(ledger, what)(booking_id, **arguments)
                said.append(True)
            except LeaseLostError:
                said.append(False)
        assert said == [name in self.model.alive] * 2
        return said[0]


TestLedgersAgree = LedgersAgree.TestCase
TestLedgersAgree.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)
