"""Amounts in the units of schedulers, always rounded up: a step never asks for less than its plan holds for it.

A guard of 1e-6 of the finer unit keeps binary noise, such as 1000 * 0.07, from asking for one more.
"""

from __future__ import annotations

import math

GUARD = 1e-6
MIB_PER_GIB = 1024
RAY_STEPS = 10_000
"""Ray counts in steps of 0.0001."""


def milli(amount: float) -> int:
    """Thousandths, as in Kubernetes' ``1500m``."""
    return _up(1000 * amount)


def mib(gib: float) -> int:
    """Whole MiB."""
    return _up(MIB_PER_GIB * gib)


def percent(share: float) -> int:
    """Whole percent."""
    return _up(share)


def whole(amount: float) -> int:
    """Whole cores, and threads on them; at least one."""
    return max(_up(amount), 1)


def ten_thousandths(amount: float) -> float:
    """To Ray's precision."""
    return _up(RAY_STEPS * amount) / RAY_STEPS


def seconds(ms: float) -> int:
    """Whole seconds."""
    return _up(ms / 1000)


def _up(amount: float) -> int:
    return math.ceil(amount - GUARD)
