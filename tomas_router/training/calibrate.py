"""Fits the few numbers that turn logits into decisions, on validation rows.

Temperature by likelihood; gate and dependency thresholds by balanced accuracy; the abstain threshold so that a request
whose right tool is absent is told apart from one whose tool is there. Sources whose requests all need a tool say
nothing about the gate, and the others count alike, whatever their size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tomas_router.planner.engine import Calibration
from tomas_router.training.batches import NO_AUGMENTATION, Augmentation, BatchSampler
from tomas_router.training.loop import Trainer
from tomas_router.training.sources import GATE_ONLY, load_sources

Float = NDArray[np.float64]
ROWS_PER_SOURCE = 192


@torch.no_grad()
def calibrate(trainer: Trainer) -> Calibration:
    """Runs the validation rows of every source twice: as they are, and with the right tools taken away."""
    trainer.model.eval()
    present = _collect(trainer, NO_AUGMENTATION)
    absent = _collect(trainer, Augmentation(0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    temperature = fit_temperature(present.logits, present.targets)
    return Calibration(
        temperature=temperature,
        min_confidence=best_threshold(
            np.array([_best_tool(z, temperature) for z in present.logits]),
            np.array([_best_tool(z, temperature) for z in absent.logits]),
        ),
        gate_threshold=best_common_threshold([_by_label(*pair) for pair in present.gates.values()]),
        depends_threshold=best_threshold(*_by_label(present.depends, present.depends_true)),
        twin_margin=float(2.0 * temperature),
    )


class _Collected:
    """Raw logits of first slots, gates and dependency pairs, with their labels."""

    def __init__(self) -> None:
        self.logits: list[Float] = []
        self.targets: list[int] = []
        self.gates: dict[str, tuple[list[float], list[bool]]] = {}  # by source
        self.depends: list[float] = []
        self.depends_true: list[bool] = []


def _collect(trainer: Trainer, augmentation: Augmentation) -> _Collected:
    collected = _Collected()
    sources = load_sources(list(trainer.train_config.mixture), trainer.train_config.data_dirs, "val")
    for name, source in sources.items():
        sampler = BatchSampler(
            {name: source}, {name: 1.0}, 64, 200, trainer.config.model.max_prefix_tools, 0, augmentation=augmentation
        )
        for start in range(0, min(len(source.rows), ROWS_PER_SOURCE), 64):
            batch = sampler.batch(source, source.rows[start : start + 64])
            tensors, forcing, targets = trainer.tensors_of(batch)
            decisions = trainer.model(trainer.encoded(tensors), forcing)
            gate, gate_true = collected.gates.setdefault(name, ([], []))
            gate += decisions.gate_B.tolist()
            gate_true += (targets.gate_B > 0.5).tolist()
            pairs = targets.depends_mask_BKK
            collected.depends += decisions.depends_BKK[pairs].tolist()
            collected.depends_true += (targets.depends_BKK[pairs] > 0.5).tolist()
            if name == GATE_ONLY:
                continue
            for b in (targets.tool_BK1[:, 0] >= 0).nonzero()[:, 0].tolist():
                collected.logits.append(decisions.tool_logits_BKN[b, 0].double().numpy())
                collected.targets.append(int(targets.tool_BK1[b, 0]))
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


def best_common_threshold(groups: list[tuple[Float, Float]]) -> float:
    """One cut for several groups of (positive, negative), by mean balanced accuracy; needs both classes in a group."""
    groups = [(positive, negative) for positive, negative in groups if len(positive) and len(negative)]
    if not groups:
        return 0.0
    cuts = np.unique(np.concatenate([values for group in groups for values in group]))
    cuts = np.concatenate([[cuts[0] - 1e-3], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1e-3]])
    score = np.array([sum((p > c).mean() + (n <= c).mean() for p, n in groups) for c in cuts])
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def _by_label(values: list[float], labels: list[bool]) -> tuple[Float, Float]:
    array, true = np.array(values, dtype=np.float64), np.array(labels, dtype=bool)
    return array[true], array[~true]


def _best_tool(logits: Float, temperature: float) -> float:
    """Probability of the most likely tool, END competing."""
    scaled = logits / temperature
    probs = np.exp(scaled - scaled.max())
    return float(probs[:-1].max() / probs.sum())


def _argmin(function: Callable[[float], float], grid: Float) -> float:
    return float(min(grid, key=function))
