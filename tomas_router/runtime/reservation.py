"""One piece of the machine for one piece of time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reservation:
    """``demand`` is taken on ``[start_ms, end_ms)``.

    Times are on the ledger's clock: the timeline's own for timelines without an epoch, else epoch milliseconds. Plans
    that share a ledger must share that choice.
    """

    start_ms: int
    end_ms: int
    demand: tuple[int, int, int, int]  # milli-cores, MiB, 0.1 % SM, MiB
    tool: str = ""
    """What runs, with version and schema hash where they are known; for people who look at the ledger."""

    def __post_init__(self) -> None:
        if self.end_ms <= self.start_ms:
            raise ValueError(f"end_ms must lie after start_ms {self.start_ms}, got {self.end_ms}")
        if min(self.demand) < 0:
            raise ValueError(f"demand must be >= 0 in every resource, got {self.demand}")
