"""Training by several processes, one a GPU: ``accelerate launch -m tomas_router.training ...`` or ``torchrun``.

Every process holds the whole model and draws batches of its own; their gradients are averaged before each update. This
is done by hand, not by a wrapper around the model: a step calls the model in several ways, and a batch of one source
leaves parameters unused that a batch of another source trains.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one, which alone warms up, validates and writes."""
BUCKET_ELEMENTS = 64 * 2**20
"""Numbers that travel at once; few large messages cost less than many small ones."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; by default it is alone."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @classmethod
    def join(cls, device: str) -> Processes:
        """Meets the others that the launcher started; without a launcher there are none.

        Args:
            device: ``cpu``, where they speak gloo, or ``cuda``, where each takes the GPU of its number (nccl).
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device=device)
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
        on = "cpu" if state.device.type == "cpu" else str(state.device)  # safetensors knows no cpu:0
        return cls(state.process_index, state.num_processes, on)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Goes on when all processes are here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def leave(self) -> None:
        """Says goodbye to the others; the last thing a program does."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Gives every process the mean of all processes' gradients.

        A parameter that only some batches trained counts as zero in the others; one that none trained stays without
        gradient, as it does where one process trains.
        """
        if self.count == 1:
            return
        trained = self.sums(torch.tensor([float(p.grad is not None) for p in parameters])).tolist()
        for bucket in _buckets([p for p, times in zip(parameters, trained, strict=True) if times]):
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket])
            means = self._reduced(flat, "mean").split([p.numel() for p in bucket])
            for parameter, mean in zip(bucket, means, strict=True):
                parameter.grad = mean.view_as(parameter)

    @torch.no_grad()
    def share(self, model: nn.Module) -> None:
        """Gives every process the first one's parameters and buffers."""
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        for bucket in _buckets([*model.parameters(), *model.buffers()]):
            flat = torch.cat([tensor.flatten() for tensor in bucket]).to(self.device)
            parts = broadcast(flat).split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def first_says(self, numbers: Sequence[float]) -> list[float]:
        """The first process's numbers, in every process; as many everywhere.

        They travel between CPUs, so that no GPU has to finish what it was given.
        """
        if self.count == 1:
            return list(numbers)
        said = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.broadcast(said, 0, group=self._between_cpus)
        told: list[float] = said.tolist()
        return told

    @cached_property
    def _between_cpus(self) -> Any:
        return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)

    def sums(self, values: Tensor) -> Tensor:
        """The sum of all processes' values, on the CPU."""
        return values if self.count == 1 else self._reduced(values.to(self.device), "sum").cpu()

    def means(self, values: Mapping[str, Sequence[Tensor]], names: Iterable[str]) -> dict[str, float]:
        """The mean of each name's values over all processes; a name that none has is left out.

        ``names`` are all that any process may have: a batch of one source has losses that another lacks.
        """
        names = list(names)
        found = [[float(v) for v in values.get(name, ())] for name in names]
        table = self.sums(torch.tensor([[sum(v), len(v)] for v in found], dtype=torch.float64))
        return {name: total / count for name, (total, count) in zip(names, table.tolist(), strict=True) if count}

    def _reduced(self, tensor: Tensor, how: str) -> Tensor:
        from accelerate.utils import reduce

        reduced: Tensor = reduce(tensor, how)
        return reduced


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in groups of one type that are not much larger than ``BUCKET_ELEMENTS``."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for same in by_type.values():
        bucket: list[Tensor] = []
        for tensor in same:
            bucket.append(tensor)
            if sum(t.numel() for t in bucket) >= BUCKET_ELEMENTS:
                yield bucket
                bucket = []
        if bucket:
            yield bucket
