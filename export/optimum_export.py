"""From a checkpoint directory to artifacts of layout ``optimum``, in the memory of the largest tensor.

A checkpoint with LoRA is merged on the way: each weight meets its two low-rank matrices when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from transformers import Qwen2Config

from export.fused_qwen2 import Precision
from export.host_memory import MemoryNeed, check_memory, free_memory, gib, memory_need
from export.optimum_artifacts import OptimumJob, Report, bare_panels, write_optimum_artifacts
from export.optimum_parity import check_optimum_parity
from export.parity import ParityReport
from export.replaced import replaced
from export.weight_only import FORMATS
from export.weight_source import CheckpointWeights
from tomas_router.config import ModelConfig
from tomas_router.engines.optimum_engine import OptimumEngine
from tomas_router.errors import UntrainedModelError
from tomas_router.schema.manifest import Quantisation
from tomas_router.training.checkpoint import Checkpoint, load_checkpoint, load_panels


@dataclass(frozen=True)
class Described:
    """What a checkpoint directory says of itself."""

    config: ModelConfig
    backbone: Qwen2Config
    tied: bool


def describe(directory: Path) -> Described:
    """Reads sizes, no weights.

    Raises:
        UntrainedModelError: The directory holds no trained heads.
    """
    path = directory / "config.yaml"
    if not path.exists() or not (directory / "model.safetensors").exists():
        raise UntrainedModelError(
            f"{directory} holds no trained heads (model.safetensors is missing); "
            "train them with: tomas train --config configs/default.yaml --out DIR"
        )
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Described(ModelConfig.model_validate(data["model"]), Qwen2Config(**data["backbone"]), data["tied"])


def export_optimum(
    directory: Path,
    out: Path,
    precision: Precision,
    quantisation: Quantisation = "none",
    *,
    parity: bool = True,
    report: Report = lambda _: None,
) -> ParityReport | None:
    """Writes the artifacts of a checkpoint to ``out``, replacing what is there.

    Args:
        directory: What training wrote.
        out: Appears, or is replaced, when everything succeeded.
        precision: Of the backbone.
        quantisation: Of its layers' weights: ``none``, ``int8`` or ``int4``.
        parity: Whether to compare the result with the checkpoint, which takes the memory of the whole model.
        report: Told what is being done, first how much memory it takes.

    Raises:
        UntrainedModelError: The directory holds no trained heads.
        HostMemoryError: Less memory is free than the export needs.
        ParityError: The artifacts do not agree with the checkpoint; ``out`` is left as it was.
        ValueError: The checkpoint has text layers or a name table.
    """
    described = describe(directory)
    levels = ("none", *FORMATS)
    if quantisation not in levels:
        raise ValueError(f"--quantize {quantisation} belongs to layout 'embedded'; 'optimum' has {', '.join(levels)}")
    need = memory_need(described.config, described.backbone, precision, parity=parity, rounds=quantisation != "none")
    report(_said(need))
    check_memory(need, free_memory())
    panels = load_panels(directory, bare_panels(described.config, described.backbone))
    with replaced(out) as fresh:
        write_optimum_artifacts(_job(directory, described, panels, precision, quantisation), fresh, report)
        return _compared(directory, fresh, precision, report) if parity else None


def _said(need: MemoryNeed) -> str:
    parity = f", {gib(need.parity)} while parity is checked" if need.parity else ""
    return f"needs up to {gib(need.export)} of host memory{parity}; {gib(free_memory())} are free"


def _job(
    directory: Path, described: Described, panels: Checkpoint, precision: Precision, quantisation: Quantisation
) -> OptimumJob:
    weights = CheckpointWeights(directory, described.tied)
    return OptimumJob(panels, weights, precision, weights.fingerprint(), quantisation=quantisation)


def _compared(directory: Path, fresh: Path, precision: Precision, report: Callable[[str], None]) -> ParityReport:
    report("checking parity with the checkpoint")
    found = check_optimum_parity(load_checkpoint(directory), OptimumEngine.load(fresh, verify="always"), precision)
    found.write(fresh)
    return found
