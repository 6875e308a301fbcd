"""Which slice of a GPU holds a step: NVIDIA's MIG profiles, by what their names say.

``3g.40gb`` has 3 of the GPU's slices and 40 GB of its memory. The names round memory to whole gigabytes, so one of
them is not counted on. https://docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-mig-profiles.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tomas_router.schema.profiling import ResourceConfig
from tomas_router.targets.exported import TargetError

H100_80GB = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
SLICES = 7
"""Of most GPUs with MIG; the A30 and RTX cards have 4."""
NAME = re.compile(r"([1-7])g\.([0-9]+)gb")
GIB, GB = 2**30, 10**9


@dataclass(frozen=True)
class MigProfile:
    """A slice as its name describes it."""

    name: str
    slices: int
    memory_gb: int  # of 10^9 bytes, rounded

    @classmethod
    def of(cls, name: str) -> MigProfile:
        """Reads a name.

        Raises:
            TargetError: it is none.
        """
        match = NAME.fullmatch(name)
        if match is None:
            raise TargetError(f"a MIG profile must look like 3g.40gb, got {name!r}")
        return cls(name, int(match[1]), int(match[2]))

    def holds(self, config: ResourceConfig, slices_of_gpu: int) -> bool:
        """Whether a step fits: its share of SMs and its memory."""
        memory_gib = (self.memory_gb - 1) * GB / GIB
        return config.gpu_sm * slices_of_gpu <= 100 * self.slices and config.gpu_mem_gb <= memory_gib


def smallest_profile(config: ResourceConfig, offered: Sequence[str], slices_of_gpu: int = SLICES) -> str:
    """The profile with the fewest slices, then the least memory, that holds a step.

    Raises:
        TargetError: none does, or a name is wrong.
    """
    profiles = sorted((MigProfile.of(name) for name in offered), key=lambda p: (p.slices, p.memory_gb))
    for profile in profiles:
        if profile.holds(config, slices_of_gpu):
            return profile.name
    raise TargetError(
        f"no MIG profile of {', '.join(offered)} holds {config.gpu_sm:g} % of a GPU and {config.gpu_mem_gb:g} GiB; "
        f"a name's memory counts less 1 GB, for names are rounded"
    )
