"""Scores a checkpoint on held-out requests in a few lines, for training to report what it achieved."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tomas_router.evaluation.asking import Settings
from tomas_router.evaluation.judge import judge
from tomas_router.evaluation.report import OURS
from tomas_router.evaluation.scores import TITLES
from tomas_router.evaluation.sources import load_source
from tomas_router.planner.planner import Planner

MEASURES = ("node_f1", "exact", "top1", "edge_f1", "gate")


def measure(checkpoint: object, path: Path) -> dict[str, float]:
    """Shares from 0 to 1 by the measure's title, of what the rows of split ``val`` allow to measure."""
    engine = import_module("tomas_router.engines.torch_engine").TorchEngine(checkpoint)
    ours = judge(load_source(path), Planner(engine), Settings(baselines=False)).methods[OURS]
    return {TITLES[name]: ours[name].value for name in MEASURES if name in ours}
