"""A run that must be over, its model written, after so many minutes: ``tomas train --max-minutes``.

The first process decides before each step, from what steps, validation and checkpoints took so far: what is left of the
schedule is spread over what is left of the time, and enough time is kept for what comes after the last step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import TypeVar

T = TypeVar("T")

RECENT_STEPS = 20
"""The longest of so many steps is what the next one may take: batches differ."""
REHEARSED_AT = 0.1
"""Share of the schedule at which a run validates and saves, to know how long that takes."""
UNKNOWN_SHARE = 0.25
"""Of all the time is kept for the end until that is known."""
CAUTION = 1.25
"""Times what the end should take is kept for it."""
CALIBRATION_SHARE = 0.12
"""Of all the time is kept for calibrating, which asks source after source while there is time, and then fits."""
FITTING = 0.35
"""Times what asking took is what fitting takes; two minutes after eight were measured on two cores."""
SPARE_S = 2.0
"""Kept beside that, for the program to end."""
VALIDATION, CHECKPOINT = "validation", "checkpoint"


@dataclass(frozen=True)
class Orders:
    """What all processes do about the next step."""

    stop: bool
    """Before the step."""
    share: float
    """Of the schedule that the clock has behind it (``Schedule.share``)."""
    validate: bool
    """After the step."""
    save: bool
    """After the step."""

    def to_numbers(self) -> list[float]:
        """As they travel."""
        return [float(value) for value in astuple(self)]

    @classmethod
    def from_numbers(cls, numbers: list[float]) -> Orders:
        """The inverse of ``to_numbers``."""
        stop, share, validate, save = numbers
        return cls(bool(stop), share, bool(validate), bool(save))


class TimeBudget:
    """The time of a run, as the first process sees it."""

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic, *, calibrates: bool = True) -> None:
        """Starts the clock.

        Args:
            minutes: For everything from now on, up to the written model.
            now: A clock, in seconds.
            calibrates: Whether the model is calibrated at the end, for which time is kept.
        """
        self.minutes, self._now = minutes, now
        self._calibration_s = CALIBRATION_SHARE * 60.0 * minutes if calibrates else 0.0
        self._started = now()
        self._longest: dict[str, float] = {}
        self._steps: deque[float] = deque(maxlen=RECENT_STEPS)
        self._asked: float | None = None
        self._warm = False

    @property
    def spent_s(self) -> float:
        """Seconds since the clock was started."""
        return self._now() - self._started

    @property
    def reserve_s(self) -> float:
        """Seconds kept for what follows the last step: state, validation, the model (as a state) and calibration."""
        if len(self._longest) < 2:
            return UNKNOWN_SHARE * 60.0 * self.minutes
        known_s = self._longest[VALIDATION] + 2.0 * self._longest[CHECKPOINT]
        return CAUTION * known_s + self._calibration_s + SPARE_S

    def while_time_is_left(self, items: Iterable[T]) -> Iterator[T]:
        """The items, the first in any case, as long as there is time to ask the next one and to fit afterwards."""
        began, last_s = self._now(), 0.0
        for place, item in enumerate(items):
            asked_s = self._now() - began
            if place and self.spent_s + last_s + FITTING * (asked_s + last_s) + SPARE_S > 60.0 * self.minutes:
                return
            yield item
            last_s = self._now() - began - asked_s

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Notes how long the block takes: ``VALIDATION`` or ``CHECKPOINT``."""
        began = self._now()
        yield
        self._longest[what] = max(self._longest.get(what, 0.0), self._now() - began)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Notes how long a step takes, its batches included."""
        began = self._now()
        yield
        if self._warm:  # the first step also loads what the next ones find
            self._steps.append(self._now() - began)
        self._warm = True

    def orders(self, share: float, validation_due: bool, checkpoint_due: bool) -> Orders:
        """What to do about the next step.

        Args:
            share: Of the schedule that lay behind when this was asked last.
            validation_due: Whether the configuration wants a validation after the step; left out where time is short.
            checkpoint_due: The same of a checkpoint.
        """
        now, end = self._now(), self._started + 60.0 * self.minutes - self.reserve_s
        before = now if self._asked is None else self._asked
        self._asked = now
        if now > before:  # an equal part of what was left of the schedule for each second of what was left of the time
            share += (1.0 - share) * min(1.0, (now - before) / max(end - before, 1e-9))
        step_s = max(self._steps, default=0.0)
        if now + step_s > end:
            return Orders(True, share, False, False)
        validate = self._has_time(VALIDATION, validation_due, share, end - now - step_s)
        taken = self._longest.get(VALIDATION, 0.0) if validate else 0.0
        save = self._has_time(CHECKPOINT, checkpoint_due, share, end - now - step_s - taken)
        return Orders(False, share, validate, save)

    def _has_time(self, what: str, due: bool, share: float, left_s: float) -> bool:
        if what not in self._longest:
            return due or share >= REHEARSED_AT
        return due and self._longest[what] <= left_s
