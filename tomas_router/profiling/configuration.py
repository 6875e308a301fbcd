"""The resource configurations under which tools are measured, and how they are written on a command line."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from tomas_router.profiling.tool import ProfiledToolError

SYNTAX = "cores, such as 2, or cpu_core=2,cpu_mem_gb=4,gpu_sm=100"


@dataclass(frozen=True)
class Configuration:
    """What a measured process may use.

    Raises:
        ProfiledToolError: A value is out of its range.
    """

    cpu_core: int = 1
    """Whole vCPU: a process is held to them by its affinity mask, which knows no parts."""
    cpu_mem_gb: float | None = None
    """Limit in GiB of resident memory, of the process and its children together; None: most of what is free."""
    gpu_sm: float = 0.0
    """Percent of one GPU; 0: no GPU is visible, below 100: held by CUDA MPS."""

    def __post_init__(self) -> None:
        if self.cpu_core < 1:
            raise ProfiledToolError(f"configuration: cpu_core must be >= 1, got {self.cpu_core}")
        if self.cpu_mem_gb is not None and not (0 < self.cpu_mem_gb < math.inf):
            raise ProfiledToolError(f"configuration: cpu_mem_gb must be > 0 and finite, got {self.cpu_mem_gb}")
        if not 0 <= self.gpu_sm <= 100:
            raise ProfiledToolError(f"configuration: gpu_sm must be from 0 to 100, got {self.gpu_sm}")

    def __str__(self) -> str:
        parts = [f"cpu_core={self.cpu_core}"]
        parts += [] if self.cpu_mem_gb is None else [f"cpu_mem_gb={self.cpu_mem_gb:g}"]
        parts += [] if self.gpu_sm == 0 else [f"gpu_sm={self.gpu_sm:g}"]
        return ",".join(parts)


def parse_configuration(text: str) -> Configuration:
    """Reads ``2`` or ``cpu_core=2,cpu_mem_gb=4,gpu_sm=100``.

    Raises:
        ProfiledToolError: The text is neither.
    """
    if text.isdecimal():
        return Configuration(int(text))
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, amount = part.partition("=")
        name = name.strip()
        if name not in {field.name for field in fields(Configuration)} or name in values:
            raise ProfiledToolError(f"configuration must be {SYNTAX}, got {text!r}")
        try:
            values[name] = float(amount)
        except ValueError:
            raise ProfiledToolError(f"configuration: {name} must be a number, got {amount!r}") from None
    cores = values.pop("cpu_core", 1.0)
    if not cores.is_integer():
        raise ProfiledToolError(f"configuration: cpu_core must be whole, got {cores:g}: affinity knows no parts")
    return Configuration(int(cores), **values)
