"""What was measured of one tool, at one size, in one configuration; and what the numbers come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tomas_router.schema.profiling import InputSize, ProfileRow

GIB, MIB_PER_GIB = 2**30, 1024

Status = Literal["ok", "failed", "crashed", "timed_out", "out_of_memory", "unavailable"]


class Run(BaseModel):
    """One timed call."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    latency_ms: float = Field(ge=0)
    cpu_ms: float = Field(ge=0, description="CPU time of the process and of its children that had ended")


class Measurement(BaseModel):
    """The runs of one cell of the table, or why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tool: str
    input_size: InputSize
    configuration: str = Field(description="as on the command line, for example cpu_core=2")
    cpu_core: int = Field(ge=1)
    gpu_sm: float = Field(ge=0, le=100)
    status: Status
    detail: str = Field(default="", description="why it is not ok")
    runs: tuple[Run, ...] = Field(default=(), description="in order, without the warm-up")
    peak_bytes: int = Field(default=0, ge=0, description="resident, of the process and its children, warm-up included")
    gpu_peak_bytes: int = Field(default=0, ge=0, description="memory on the GPU")
    gpu_memory_of: Literal["none", "process", "device"] = Field(
        default="none", description="device: NVML did not list the process, so all that the GPU's use rose by counts"
    )
    others_busy_cores: float = Field(default=0, ge=0, description="what the rest of the host used meanwhile")

    @property
    def key(self) -> tuple[str, str, str]:
        """Which cell of the table this is."""
        return self.tool, self.input_size, self.configuration

    @property
    def latencies_ms(self) -> list[float]:
        """Of the runs, ascending."""
        return sorted(run.latency_ms for run in self.runs)

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return median(self.latencies_ms)

    @property
    def spread(self) -> float:
        """Distance of the quartiles relative to the median; 0.1 means that half of the runs lie within 10 %."""
        return (quantile(self.latencies_ms, 0.75) - quantile(self.latencies_ms, 0.25)) / self.p50_ms

    @property
    def cores_used(self) -> float:
        """CPU time over latency: near 1 in every configuration says that the tool uses one core."""
        return sum(run.cpu_ms for run in self.runs) / max(sum(run.latency_ms for run in self.runs), 1e-9)

    def row(self, headroom: float) -> ProfileRow | None:
        """The row of the profile; None without measured runs.

        Args:
            headroom: share that is added to the peaks of memory, since the next run may need a little more.
        """
        if self.status != "ok":
            return None
        return ProfileRow(
            tool=self.tool,
            input_size=self.input_size,
            cpu_core=self.cpu_core,
            cpu_mem_gb=whole_mib(self.peak_bytes * (1 + headroom)),
            gpu_sm=self.gpu_sm,
            gpu_mem_gb=whole_mib(self.gpu_peak_bytes * (1 + headroom)),
            latency_ms=max(round(self.p50_ms, 3), 0.001),
        )


def quantile(ascending: Sequence[float], share: float) -> float:
    """Linear between the neighbours, as numpy's default."""
    place = share * (len(ascending) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)


def whole_mib(amount_bytes: float) -> float:
    """GiB, rounded up to whole MiB and to what six decimals can say."""
    return math.ceil(math.ceil(amount_bytes / GIB * MIB_PER_GIB) / MIB_PER_GIB * 1e6) / 1e6
