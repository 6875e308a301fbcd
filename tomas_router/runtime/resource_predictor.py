"""The window of remaining resources that a decision has to work with.

B times of decision, G GPUs (one curve each), T = 96 samples. Nothing can start before the decision is made, so the
window begins at T_inf and ends at the horizon. Samples are the lower envelope of the curve, so a short dip is never
averaged away; feasibility never uses them, only the original breakpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomas_router.runtime.timeline import SystemTimeline

Float = NDArray[np.float32]

WINDOW_POINTS = 96
MIN_WINDOW_MS = 1000


@dataclass(frozen=True)
class RemainingWindow:
    """One window; the fields of ``planner.engine.CurveWindow``."""

    series_GT4: Float  # physical units: cpu_cores, cpu_mem_gb, gpu_sm, gpu_mem_gb
    log_horizon: float  # natural log of the window's length in seconds, >= 0


@dataclass(frozen=True)
class RemainingWindows:
    """The windows of several decision times."""

    series_BGT4: Float
    log_horizon_B: Float


class ResourcePredictor:
    """Cuts timelines at T_inf. Without a timeline ``SystemTimeline.default()`` is read: an idle machine."""

    def __init__(self, timeline: SystemTimeline | Sequence[SystemTimeline] | None = None) -> None:
        """Args: timeline: one curve, or one curve per GPU of the same machine (they repeat its CPU columns)."""
        if timeline is None:
            timeline = SystemTimeline.default()
        self._timelines = (timeline,) if isinstance(timeline, SystemTimeline) else tuple(timeline)
        if not self._timelines:
            raise ValueError("timeline must hold at least one curve, got an empty sequence")

    def window(self, t_inf_ms: float) -> RemainingWindow:
        """The window that begins at ``t_inf_ms``.

        Behind its end a strict curve has nothing left (zeros), a held one its last row; the window is then one second.
        """
        start = math.ceil(t_inf_ms)
        end = max(max(t.end_ms for t in self._timelines), start + MIN_WINDOW_MS)
        series = np.stack([_samples(t, start, end) for t in self._timelines])
        return RemainingWindow(series, math.log((end - start) / 1000))

    def windows(self, t_inf_ms_B: Sequence[float] | NDArray[np.floating]) -> RemainingWindows:
        """One window per time of decision."""
        cut = [self.window(float(t)) for t in t_inf_ms_B]
        horizons = np.array([w.log_horizon for w in cut], dtype=np.float32)
        return RemainingWindows(np.stack([w.series_GT4 for w in cut]), horizons)


def _samples(timeline: SystemTimeline, start_ms: int, end_ms: int) -> Float:
    """(T, 4) lower envelope."""
    return timeline.lower_envelope(start_ms, end_ms, WINDOW_POINTS).astype(np.float32)
