"""Where a run stands in its schedule of learning rates: by its steps or, under a time budget, by the clock.

Whichever is ahead counts. A run that is done with its steps before its time therefore computes what it would without a
clock, and one that is not still ends with a small learning rate, warmed up and rounded for a fair part of its time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LOWEST_RATE = 0.03
"""Of the peak; what the decay ends with."""
WARMUP_SHARE = 0.2
"""Of the time, after which a run is warm in any case; more where ``warmup_steps`` are a larger share of ``steps``."""
ROUND_SHARE = 0.3
"""Of the time, after which layers are rounded in any case; more where ``round_from`` is a larger share of ``steps``."""


@dataclass
class Schedule:
    """The rate of every step of a run of ``steps`` steps, which a clock may hasten.

    ``share`` (0 to 1) is how much of the schedule the clock had behind it when step ``at`` began. Without a clock the
    steps from there on take equal parts of what was left.
    """

    steps: int
    warmup_steps: int
    round_from: int | None = None
    share: float = 0.0
    at: int = 0

    def warmth(self, step: int) -> float:
        """Share of the learning rate, 0 to 1, that warming up allows step ``step`` (from 0)."""
        hastened = self._hastened(step)
        warm = (step + 1) / max(1, self.warmup_steps)
        if hastened is not None:
            warm = max(warm, hastened / max(WARMUP_SHARE, self.warmup_steps / self.steps))
        return min(1.0, warm)

    def decay(self, step: int) -> float:
        """Share of the learning rate that the decay leaves step ``step``: a cosine from 1 to ``LOWEST_RATE``."""
        hastened = self._hastened(step)
        place = step if hastened is None else min(self.steps, max(step, hastened * self.steps))
        return max(0.5 * (1.0 + math.cos(math.pi * place / self.steps)), LOWEST_RATE)

    def rounds(self, step: int) -> bool:
        """Whether layers compute as a packed export rounds them."""
        if self.round_from is None:
            return False
        hastened = self._hastened(step)
        by_clock = hastened is not None and hastened >= max(ROUND_SHARE, self.round_from / self.steps)
        return step >= self.round_from or by_clock

    def done(self, step: int) -> float:
        """Share of the schedule, 0 to 1, that lies behind when step ``step`` begins."""
        return min(1.0, max(step / self.steps, self._hastened(step) or 0.0))

    def _hastened(self, step: int) -> float | None:
        """Share of the schedule by the clock; None where it is not ahead of the steps."""
        if self.share * self.steps <= self.at:
            return None
        return self.share + (1.0 - self.share) * (step - self.at) / max(1, self.steps - self.at)
