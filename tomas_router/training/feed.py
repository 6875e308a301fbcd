"""Batches prepared ahead of the training loop, by worker processes when there are any."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.training.batches import BatchSampler
from tomas_router.training.checkpoint import Statistics
from tomas_router.training.tensors import Limits, Prepared, to_tensors

AHEAD = 4
"""Batches that each worker keeps ready."""


@dataclass(frozen=True)
class Feed(Dataset[Prepared]):
    """The batch of every number, on the CPU; holds no model, so that worker processes stay small."""

    sampler: BatchSampler
    tokenizer: TextTokenizer
    statistics: Statistics
    limits: Limits

    def __getitem__(self, number: int) -> Prepared:
        rows, curves = self.statistics.rows, self.statistics.curves
        return to_tensors(self.sampler.draw(number), self.tokenizer, rows, curves, self.limits)

    def batches(self, numbers: Sequence[int], workers: int) -> Generator[Prepared]:
        """The batches of these numbers in order, whatever the number of workers."""
        if workers == 0:
            yield from (self[number] for number in numbers)
            return
        torch.multiprocessing.set_sharing_strategy("file_system")  # else every tensor in flight is an open file
        yield from DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            collate_fn=_unchanged,
            prefetch_factor=AHEAD,
            worker_init_fn=_one_thread,
        )


def _unchanged(prepared: Any) -> Any:
    return prepared


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
