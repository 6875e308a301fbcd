"""A profile that learns from what tools really took.

For every tool, size and configuration that ran it keeps the last runs, and offers a row with

* latency: the upper quantile of the runs, with room while they are few;
* memory: of the amounts that nineteen in twenty of the remembered runs would have fitted, the one that would have
  wasted least, a failure priced as the memory that it held in vain; a run that died for want of memory says only
  that the need is larger, and the next one gets twice.

(Sizey, arXiv 2407.16353: a high quantile plus an offset that knows failures; retry bigger; learn with every run.)
Rows of the profile it begins with stay as they are until a configuration has run often enough to replace its row.

Its rows are for the next plan, so they are upper bounds that fall again. Two other rules take whole records at once
and never lower memory: ``datasets.recorded_runs`` writes medians, which the network is trained on, and
``langgraph.observed_profile`` high quantiles of calls inside one warm process, where failures say nothing of memory.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tomas_router.schema.profiling import InputSize, ProfileRow, ProfilingTable

if TYPE_CHECKING:
    from tomas_router.schema.plan import PlanStep

Outcome = Literal["done", "out_of_memory"]

REMEMBERED_RUNS = 64
LATENCY_QUANTILE = 0.9
MAX_FAILING_SHARE = 0.05
"""Of the remembered runs; a failure costs time, which GiB-hours do not see."""
HEADROOM = 0.4
"""Share added to what one run took; falls with the root of their number. One run says little of the next."""
RETRY_FACTOR = 2.0
"""After a run that died for want of memory the next one gets so many times what it had."""
RUNS_TO_REPLACE_A_ROW = 3
CHANGE_WORTH_A_TABLE = 0.05
"""Smaller changes make no new table, so that encoded tools stay in their cache."""


@dataclass(frozen=True)
class ObservedRun:
    """What one run took, and what it had been given."""

    tool: str
    input_size: InputSize
    cpu_core: float
    gpu_sm: float
    reserved_cpu_mem_gb: float
    reserved_gpu_mem_gb: float
    expected_latency_ms: float
    latency_ms: float
    """Until it ended, or died."""
    cpu_mem_gb: float | None = None
    """Peak of host memory; None: not measured."""
    gpu_mem_gb: float | None = None
    outcome: Outcome = "done"
    lacked: Literal["cpu_mem_gb", "gpu_mem_gb"] = "cpu_mem_gb"
    """Which memory ran out; only read when the outcome says so."""

    def __post_init__(self) -> None:
        for name in ("latency_ms", "expected_latency_ms"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"observed run of {self.tool}: {name} must be > 0 and finite, got {getattr(self, name)}"
                )
        for name in ("cpu_core", "gpu_sm", "reserved_cpu_mem_gb", "reserved_gpu_mem_gb", "cpu_mem_gb", "gpu_mem_gb"):
            amount = getattr(self, name)
            if amount is not None and not 0 <= amount < math.inf:
                raise ValueError(f"observed run of {self.tool}: {name} must be >= 0 and finite, got {amount}")

    @classmethod
    def of(
        cls,
        step: PlanStep,
        latency_ms: float,
        cpu_mem_gb: float | None = None,
        gpu_mem_gb: float | None = None,
        outcome: Outcome = "done",
        lacked: Literal["cpu_mem_gb", "gpu_mem_gb"] = "cpu_mem_gb",
    ) -> ObservedRun:
        """The run of a planned step.

        Raises:
            ValueError: The step was not placed.
        """
        config = step.resource_config
        if config is None or step.expected_latency_ms is None:
            raise ValueError(f"{step.id} ({step.tool_name}) has no resource_config: only placed steps can be observed")
        return cls(
            step.tool_name,
            step.input_size,
            config.cpu_core,
            config.gpu_sm,
            config.cpu_mem_gb,
            config.gpu_mem_gb,
            step.expected_latency_ms,
            latency_ms,
            cpu_mem_gb,
            gpu_mem_gb,
            outcome,
            lacked,
        )


_Key = tuple[str, InputSize, float, float]
"""Tool, size, cores, share of a GPU."""


@dataclass
class _Memory:
    """What is known of one kind of memory of one configuration."""

    peaks: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED_RUNS))
    """(GiB, ms) of runs that ended well."""
    too_little_gib: float = 0.0
    """The largest amount that a run died with since one that needed more ended well."""
    reserved_gib: float = 0.0
    """What was reserved last; all there is to say where no peak was measured."""

    def learn(self, reserved_gib: float, peak_gib: float | None, latency_ms: float, died: bool) -> None:
        self.reserved_gib = reserved_gib
        if died:
            self.too_little_gib = max(self.too_little_gib, reserved_gib)
        elif peak_gib is not None:
            self.peaks.append((peak_gib, latency_ms))
            if peak_gib > self.too_little_gib:
                self.too_little_gib = 0.0

    def known_need_gib(self) -> float:
        """What a run certainly needed, without any room."""
        died_gib = math.nextafter(self.too_little_gib, math.inf) if self.too_little_gib else 0.0
        return max(died_gib, max((peak for peak, _ in self.peaks), default=0.0))

    def to_reserve_gib(self) -> float:
        """What the next run should get."""
        retry_gib = RETRY_FACTOR * self.too_little_gib
        if not self.peaks:
            return max(retry_gib, self.reserved_gib)
        return max(retry_gib, least_waste_gib(list(self.peaks)))


@dataclass
class _Runs:
    """What is known of one configuration of one tool at one size."""

    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_RUNS))
    expected_ms: float = 0.0
    """The longest that was expected, or lasted until it died: all there is to say before a run ends well."""
    cpu: _Memory = field(default_factory=_Memory)
    gpu: _Memory = field(default_factory=_Memory)

    def learn(self, run: ObservedRun) -> None:
        died = run.outcome == "out_of_memory"
        self.cpu.learn(run.reserved_cpu_mem_gb, run.cpu_mem_gb, run.latency_ms, died and run.lacked == "cpu_mem_gb")
        self.gpu.learn(run.reserved_gpu_mem_gb, run.gpu_mem_gb, run.latency_ms, died and run.lacked == "gpu_mem_gb")
        self.expected_ms = max(self.expected_ms, run.expected_latency_ms, run.latency_ms)
        if not died:
            self.latencies_ms.append(run.latency_ms)

    def row(self, key: _Key, measured: ProfileRow | None) -> ProfileRow:
        """The row to offer; a measured one is not lowered before enough runs ended well."""
        tool, size, cpu_core, gpu_sm = key
        latency_ms = upper_latency_ms(list(self.latencies_ms)) if self.latencies_ms else self.expected_ms
        cpu_gib, gpu_gib = self.cpu.to_reserve_gib(), self.gpu.to_reserve_gib()
        if measured is not None and len(self.latencies_ms) < RUNS_TO_REPLACE_A_ROW:
            slowest_ms = max(self.latencies_ms, default=0.0)
            latency_ms = _raised(measured.latency_ms, slowest_ms, latency_ms)
            cpu_gib = _raised(measured.cpu_mem_gb, self.cpu.known_need_gib(), cpu_gib)
            gpu_gib = _raised(measured.gpu_mem_gb, self.gpu.known_need_gib(), gpu_gib)
        return ProfileRow(
            tool=tool,
            input_size=size,
            cpu_core=cpu_core,
            cpu_mem_gb=round(cpu_gib, 6),
            gpu_sm=gpu_sm,
            gpu_mem_gb=round(gpu_gib, 6),
            latency_ms=latency_ms,
        )


class OnlineProfile:
    """A profiling table that is corrected by runs. Threads may share one.

    Give ``Planner.plan`` the object itself: it takes the table of the moment.
    """

    def __init__(self, base: ProfilingTable | None = None) -> None:
        """Begins with a measured profile, or with none.

        Args:
            base: rows that count until enough runs say otherwise.
        """
        self._table = base or ProfilingTable([])
        self._measured = dict(enumerate(self._table.all_rows))
        self._offered = dict(self._measured)
        self._runs: dict[int, _Runs] = {}
        self._lock = threading.Lock()

    def observe(self, run: ObservedRun) -> None:
        """Learns from one run."""
        key = (run.tool, run.input_size, run.cpu_core, run.gpu_sm)
        with self._lock:
            place = self._place(key, run)
            runs = self._runs.setdefault(place, _Runs())
            runs.learn(run)
            row, offered = runs.row(key, self._measured.get(place)), self._offered.get(place)
            if offered is None or _differs(offered, row):
                self._offered[place] = row
                self._table = ProfilingTable(self._offered.values())

    def table(self) -> ProfilingTable:
        """The rows of the moment; the same object until a row changes by more than noise."""
        with self._lock:
            return self._table

    def _place(self, key: _Key, run: ObservedRun) -> int:
        """Which row a run is about. Variants of one configuration differ in memory: the nearest is taken."""
        alike = [i for i, row in self._offered.items() if (row.tool, row.input_size, row.cpu_core, row.gpu_sm) == key]
        if not alike:
            return len(self._offered)

        def distance(i: int) -> float:
            row = self._offered[i]
            cpu = abs(row.cpu_mem_gb - run.reserved_cpu_mem_gb)
            return cpu + abs(row.gpu_mem_gb - run.reserved_gpu_mem_gb)

        return min(alike, key=distance)


def least_waste_gib(peaks: Sequence[tuple[float, float]]) -> float:
    """The amount of memory that would have wasted the fewest GiB-hours over these runs, and failed few of them.

    A run that fits wastes what it leaves idle. One that does not holds the amount until it dies, for half its time on
    average, and is then run again with the largest amount tried here. Amounts tried are the peaks that enough runs stay
    under, each with the headroom on top.

    Args:
        peaks: (GiB, ms) of at least one run.
    """
    room = 1 + HEADROOM / math.sqrt(len(peaks))
    ascending = sorted(peak * room for peak, _ in peaks)
    must_fit = math.ceil((1 - MAX_FAILING_SHARE) * len(peaks))
    largest = ascending[-1]

    def waste(amount: float) -> float:
        return sum(
            (amount - peak) * ms if peak <= amount else amount * ms / 2 + (largest - peak) * ms for peak, ms in peaks
        )

    return min(ascending[must_fit - 1 :], key=lambda amount: (waste(amount), -amount))


def upper_latency_ms(latencies_ms: Sequence[float]) -> float:
    """The conformal upper quantile; where runs are too few for it, the slowest with room on top."""
    ascending = sorted(latencies_ms)
    rank = math.ceil(LATENCY_QUANTILE * (len(ascending) + 1))
    if rank <= len(ascending):
        return ascending[rank - 1]
    return ascending[-1] * (1 + HEADROOM / math.sqrt(len(ascending)))


def _raised(measured: float, seen: float, learned: float) -> float:
    """The measured amount, unless a run took more: then what was learned of it."""
    return measured if seen <= measured else max(measured, learned)


def _differs(old: ProfileRow, new: ProfileRow) -> bool:
    """Whether an amount changed by more than noise."""
    pairs = [(getattr(old, name), getattr(new, name)) for name in ("cpu_mem_gb", "gpu_mem_gb", "latency_ms")]
    return any(abs(b - a) > CHANGE_WORTH_A_TABLE * max(a, b) for a, b in pairs)
