"""Fits the few numbers that turn logits into decisions, on validation rows.

Temperature by likelihood, tools counting by the sources' weights in training; gate and dependency thresholds by
balanced accuracy; the abstain threshold as high as it may be while nearly every right first tool of every source is
still given, whatever its weight: confidence is low where tools were never trained on, and there it refuses first.
Sources whose requests all need a tool say nothing about the gate, and the others count alike, whatever their size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tomas_router.planner.engine import Calibration
from tomas_router.training.batches import NO_AUGMENTATION, BatchSampler
from tomas_router.training.loop import Trainer
from tomas_router.training.sources import GATE_ONLY, load_sources

Float = NDArray[np.float64]
ROWS_PER_SOURCE = 192
KEPT_SHARE = 0.98
"""Of the right first tools; the rest is what it costs to say "no tool fits" when none does. It buys little: nearly all
that is refused for want of a tool is refused by END (docs/experiments.md, section 6)."""
LEAST_ROWS = 40
"""Right first tools that a source must have to bound the abstain threshold."""
GATE_PRICE = 0.02
"""Balanced accuracy that each logit of the gate's threshold must earn: few validation rows need no tool, and bare short
commands, which have the smallest logits of those that do, are rare among the others."""


@torch.no_grad()
def calibrate(trainer: Trainer) -> Calibration:
    """Runs the validation rows of every source."""
    trainer.model.eval()
    found = _collect(trainer)
    temperature = fit_temperature(*found.weighted())
    return Calibration(
        temperature=temperature,
        min_confidence=lowest_cut_keeping(KEPT_SHARE, _right_confidences(found, temperature)),
        gate_threshold=best_common_threshold([_by_label(*pair) for pair in found.gates.values()], GATE_PRICE),
        depends_threshold=best_threshold(*_by_label(found.depends, found.depends_true)),
        twin_margin=float(2.0 * temperature),
    )


class _Collected:
    """Raw logits of first slots, gates and dependency pairs, with their labels."""

    def __init__(self) -> None:
        self.logits: list[Float] = []
        self.targets: list[int] = []
        self.sources: list[str] = []  # of each first slot
        self.counts: list[bool] = []  # whether a first slot lies within its source's weight
        self.gates: dict[str, tuple[list[float], list[bool]]] = {}  # by source
        self.depends: list[float] = []
        self.depends_true: list[bool] = []

    def weighted(self) -> tuple[list[Float], list[int]]:
        """First slots in the proportion of the sources' weights."""
        chosen = [i for i, counts in enumerate(self.counts) if counts]
        return [self.logits[i] for i in chosen], [self.targets[i] for i in chosen]


def _collect(trainer: Trainer) -> _Collected:
    collected = _Collected()
    sources = load_sources(list(trainer.train_config.mixture), trainer.train_config.data_dirs, "val")
    mixture = trainer.train_config.mixture
    for name, source in sources.items():
        room = round(ROWS_PER_SOURCE * mixture[name] / max(mixture.values()))
        sampler = BatchSampler(
            {name: source}, {name: 1.0}, 64, 200, trainer.config.model.max_prefix_tools, 0, augmentation=NO_AUGMENTATION
        )
        for start in range(0, min(len(source.rows), ROWS_PER_SOURCE), 64):
            batch = sampler.batch(source, source.rows[start : start + 64])
            ready = trainer.ready_batch(batch)
            (_, _, decisions), targets = trainer.decide(ready), ready.targets
            gate, gate_true = collected.gates.setdefault(name, ([], []))
            gate += decisions.gate_B.tolist()
            gate_true += (targets.gate_B > 0.5).tolist()
            pairs = targets.depends_mask_BKK
            collected.depends += decisions.depends_BKK[pairs].tolist()
            collected.depends_true += (targets.depends_BKK[pairs] > 0.5).tolist()
            if name == GATE_ONLY:
                continue  # it has no tools of its own
            known = (targets.tool_BK1[:, 0] >= 0).nonzero()[:, 0].tolist()
            for place, b in enumerate(known):
                collected.logits.append(decisions.tool_logits_BKN[b, 0].double().cpu().numpy())
                collected.targets.append(int(targets.tool_BK1[b, 0]))
                collected.sources.append(name)
                collected.counts.append(start + place < room)
    return collected


def fit_temperature(logits: list[Float], targets: list[int]) -> float:
    """The temperature of highest likelihood on a grid from 0.5 to 4."""

    def loss(temperature: float) -> float:
        losses = []
        for z, target in zip(logits, targets, strict=True):
            scaled = z / temperature
            peak = scaled.max()
            losses.append(peak + np.log(np.exp(scaled - peak).sum()) - scaled[target])
        return float(np.mean(losses))

    return _argmin(loss, np.geomspace(0.5, 4.0, 43))


def best_threshold(positive: Float, negative: Float) -> float:
    """The cut of highest balanced accuracy, in the middle of the best plateau; 0 when a class is missing."""
    return best_common_threshold([(positive, negative)])


def best_common_threshold(groups: list[tuple[Float, Float]], price: float = 0.0) -> float:
    """One cut for several groups of (positive, negative), by mean balanced accuracy; needs both classes in a group.

    ``price`` is what a cut loses for each unit that it lies away from 0.
    """
    groups = [(positive, negative) for positive, negative in groups if len(positive) and len(negative)]
    if not groups:
        return 0.0
    cuts = np.unique(np.concatenate([values for group in groups for values in group]))
    cuts = np.concatenate([[cuts[0] - 1e-3], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1e-3]])
    score = np.array([sum((p > c).mean() + (n <= c).mean() for p, n in groups) for c in cuts]) / (2 * len(groups))
    score -= price * np.abs(cuts)
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def _by_label(values: list[float], labels: list[bool]) -> tuple[Float, Float]:
    array, true = np.array(values, dtype=np.float64), np.array(labels, dtype=bool)
    return array[true], array[~true]


def cut_keeping(share: float, values: Float) -> float:
    """The highest cut that at least ``share`` of the values reach; 0 without values."""
    return float(np.quantile(values, 1.0 - share, method="lower")) if len(values) else 0.0


def lowest_cut_keeping(share: float, groups: list[Float]) -> float:
    """The highest cut that keeps ``share`` of every group of ``LEAST_ROWS`` values, or of all if none is so large."""
    large = [values for values in groups if len(values) >= LEAST_ROWS]
    return min(cut_keeping(share, values) for values in large or [np.concatenate([np.zeros(0), *groups])])


def _right_confidences(found: _Collected, temperature: float) -> list[Float]:
    """By source, the probability of the likeliest tool, END competing, wherever it is the right one."""
    confidences: dict[str, list[float]] = {}
    for logits, target, source in zip(found.logits, found.targets, found.sources, strict=True):
        scaled = logits / temperature
        probabilities = np.exp(scaled - scaled.max())
        if int(probabilities.argmax()) == target < len(probabilities) - 1:
            confidences.setdefault(source, []).append(probabilities[target] / probabilities.sum())
    return [np.array(values, dtype=np.float64) for values in confidences.values()]


def _argmin(function: Callable[[float], float], grid: Float) -> float:
    return float(min(grid, key=function))
