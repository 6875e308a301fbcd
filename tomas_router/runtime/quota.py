"""The most that one tenant may hold."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True)
class Quota:
    """Shares of what the curve has at each moment, before anybody books; whole percent, 0 to 100."""

    cpu_percent: int = 100
    cpu_mem_percent: int = 100
    gpu_percent: int = 100
    gpu_mem_percent: int = 100

    def __post_init__(self) -> None:
        for field, value in zip(fields(self), self.percents, strict=True):
            if not 0 <= value <= 100 or value != int(value):
                raise ValueError(f"{field.name} must be a whole number from 0 to 100, got {value}")

    @property
    def percents(self) -> tuple[int, int, int, int]:
        """In the order of ``Reservation.demand``."""
        cpu, cpu_mem, gpu, gpu_mem = astuple(self)
        return cpu, cpu_mem, gpu, gpu_mem
