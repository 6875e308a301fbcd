"""Resource options as integers, and what they cost.

K options, R = 4 resources. Demands are rounded up to milli-cores, MiB, 0.1 % SM and MiB, latencies to whole ms; a
guard of 1e-6 of the physical unit keeps 0.1 + 0.2 from asking for more than 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tomas_router.errors import TomasRouterError
from tomas_router.runtime.residual import STEPS_PER_UNIT
from tomas_router.schema.profiling import NUMBERS

Int = NDArray[np.int64]
Demand = tuple[int, int, int, int]

ROUNDING_GUARD = 1e-6
MAX_LATENCY_MS = 10**15
MAX_DEMAND = 10**12

# Cost of a run is latency * sum(demand / weight) with weights 64 cores, 384 GiB, 100 % and 20 GiB. Over the common
# denominator 49,152,000 the weights become these whole numbers, so equal costs compare equal.
COST_FACTORS = (768, 125, 49_152, 2_400)


class NoProfileError(TomasRouterError, ValueError):
    """There is nothing to choose from: no profile row for this tool and size."""


class Option(Protocol):
    """One way to run a step; profile rows and ``ResourceOption`` both are."""

    @property
    def cpu_core(self) -> float: ...
    @property
    def cpu_mem_gb(self) -> float: ...
    @property
    def gpu_sm(self) -> float: ...
    @property
    def gpu_mem_gb(self) -> float: ...
    @property
    def latency_ms(self) -> float: ...


@dataclass(frozen=True)
class ResourceOption:
    """A configuration and its latency, for steps that have no profile row."""

    cpu_core: float  # vCPU
    cpu_mem_gb: float  # GiB
    gpu_sm: float  # percent of one GPU
    gpu_mem_gb: float  # GiB
    latency_ms: float


@dataclass(frozen=True)
class IntegerOptions:
    """Options after rounding; row ``k`` is option ``k`` as given."""

    demand_KR: Int
    latency_K: Int

    @classmethod
    def of(cls, options: Sequence[Option]) -> IntegerOptions:
        """Rounds options up.

        Raises:
            NoProfileError: ``options`` is empty.
            ValueError: a demand is negative or not finite, or a latency is not positive; names option and field.
        """
        if not options:
            raise NoProfileError("no resource option to choose from: the tool has no profile row for this input size")
        values = np.array(
            [(o.cpu_core, o.cpu_mem_gb, o.gpu_sm, o.gpu_mem_gb, o.latency_ms) for o in options], dtype=np.float64
        )
        _check(values)
        demand = np.ceil((values[:, :4] - ROUNDING_GUARD) * STEPS_PER_UNIT)
        latency = np.maximum(np.ceil(values[:, 4] - ROUNDING_GUARD), 1)
        return cls(np.maximum(demand, 0).astype(np.int64), latency.astype(np.int64))

    def __len__(self) -> int:
        return len(self.latency_K)

    def demand(self, index: int) -> Demand:
        """Demand of one option as plain integers."""
        cpu, memory, sm, gpu_memory = self.demand_KR[index].tolist()
        return cpu, memory, sm, gpu_memory

    def cost(self, index: int) -> int:
        """Cost of one option; a Python integer, so that it cannot overflow."""
        cpu, memory, sm, gpu_memory = self.demand(index)
        a, b, c, d = COST_FACTORS
        return int(self.latency_K[index]) * (a * cpu + b * memory + c * sm + d * gpu_memory)


def _check(values_K5: NDArray[np.float64]) -> None:
    limits = np.array([MAX_DEMAND] * 4 + [MAX_LATENCY_MS], dtype=np.float64)
    good = (values_K5 >= 0) & (values_K5 <= limits)  # NaN compares false
    good[:, 4] &= values_K5[:, 4] > 0
    if good.all():
        return
    row, column = np.argwhere(~good)[0].tolist()
    expected = "a finite number > 0" if column == 4 else "a finite number >= 0"
    raise ValueError(f"option {row}: {NUMBERS[column]} must be {expected}, got {float(values_K5[row, column])}")
