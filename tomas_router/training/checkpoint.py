"""Checkpoints: weights as safetensors, everything else as JSON, so that loading runs no code.

A checkpoint directory holds ``model.safetensors``, ``config.yaml``, ``statistics.json``, ``tokenizer.json``, after
training with LoRA ``lora.safetensors`` and, while training goes on, ``optimizer.pt`` and ``progress.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from tomas_router.config import ModelConfig
from tomas_router.errors import UntrainedModelError
from tomas_router.features.curve import CurveScaler
from tomas_router.features.known_tools import KnownTools
from tomas_router.features.request_words import RequestWords
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler
from tomas_router.model.backbone import QwenBackbone
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.planner.engine import Calibration
from tomas_router.schema.registry import ToolSpec
from tomas_router.training.lora import is_adapter, load_lora, merge_lora, plain_name, save_lora

TRAINED_ON = "trained_on.json"
TRAINING = "training.json"
LM_HEAD = "backbone.lm.lm_head.weight"


@dataclass(frozen=True)
class Statistics:
    """Numbers that were fitted, not trained, and belong to the weights."""

    rows: RowScaler
    curves: CurveScaler
    calibration: Calibration

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Statistics:
        """The inverse of ``to_json``."""
        rows, curves = data["rows"], data["curves"]
        return cls(
            RowScaler(rows["mode"], tuple(rows["offset"]), tuple(rows["scale"])),
            CurveScaler(curves["mode"], tuple(curves["offset"]), tuple(curves["scale"])),
            Calibration(**data["calibration"]),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A trained model ready for evaluation or export."""

    model: TOMASLLMModel
    config: ModelConfig
    statistics: Statistics
    tokenizer: TextTokenizer
    tokenizer_path: Path
    trained_on: tuple[str, ...] | None = None
    """Names of the sources whose tools training showed, those of earlier runs included; None where nobody noted it."""
    known_tools: KnownTools | None = None
    """Their tools, likewise."""


def save_checkpoint(
    directory: Path, model: TOMASLLMModel, statistics: Statistics, tokenizer_path: Path, tool_names: list[str]
) -> None:
    """Writes weights, sizes, statistics and tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {plain_name(k): v.contiguous() for k, v in model.state_dict().items() if not is_adapter(k)}
    save_file({k: v for k, v in tensors.items() if k != LM_HEAD}, directory / "model.safetensors")
    save_lora(model, directory)
    data = describe_model(model, tool_names)
    if not data["tied"]:
        save_file({LM_HEAD: tensors[LM_HEAD]}, directory / "lm_head.safetensors")
    (directory / "config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(data, default=str))))
    save_statistics(directory, statistics)
    if tokenizer_path.resolve() != (directory / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer_path, directory / "tokenizer.json")


def save_statistics(directory: Path, statistics: Statistics) -> None:
    """Writes the fitted numbers alone."""
    (directory / "statistics.json").write_text(json.dumps(statistics.to_json(), indent=1))


def describe_model(model: TOMASLLMModel, tool_names: Sequence[str]) -> dict[str, Any]:
    """What ``build_model`` needs, in plain JSON types but for a few values of the backbone's configuration."""
    return {
        "model": model.config.model_dump(mode="json"),
        "backbone": model.backbone.config.to_dict(),
        "tool_names": list(tool_names),
        "tied": bool(model.backbone.config.tie_word_embeddings),
    }


def build_model(description: dict[str, Any], device: str = "cpu") -> tuple[ModelConfig, TOMASLLMModel]:
    """The network of a description, its weights not yet loaded."""
    config = ModelConfig.model_validate(description["model"])
    upper = description["backbone"]  # text layers are apart from it (see QwenBackbone)
    layers = upper["num_hidden_layers"] + config.backbone.text_layers
    backbone_config = Qwen2Config(**upper | {"num_hidden_layers": layers, "layer_types": None})
    backbone_config._attn_implementation = config.backbone.attn_implementation
    with torch.device(device):
        backbone = QwenBackbone(Qwen2ForCausalLM(backbone_config), config.backbone.text_layers)
        return config, TOMASLLMModel(config, backbone, description["tool_names"])


def load_checkpoint(directory: str | Path, device: str = "cpu") -> Checkpoint:
    """Rebuilds the model from a checkpoint directory.

    Raises:
        UntrainedModelError: The directory holds no trained heads.
    """
    directory = Path(directory)
    weights = directory / "model.safetensors"
    if not weights.exists():
        raise UntrainedModelError(
            f"{directory} holds no trained heads (model.safetensors is missing); "
            "train them with: tomas train --config configs/embedded.yaml --out DIR"
        )
    data = yaml.safe_load((directory / "config.yaml").read_text())
    _, model = build_model(data, device)
    state = merge_lora(_read(directory, data["tied"], device), directory, device)
    missing = [k for k in model.load_state_dict(state, strict=False).missing_keys if k != LM_HEAD]
    if missing:
        raise UntrainedModelError(
            f"{weights} lacks {len(missing)} tensors, first {missing[0]}; it is from another version"
        )
    model.backbone.lm.tie_weights()
    return _around(model, directory)


def load_panels(directory: Path, model: TOMASLLMModel) -> Checkpoint:
    """Gives a network its panels' weights and leaves its backbone alone, whose weights never enter memory.

    Raises:
        UntrainedModelError: The checkpoint lacks a tensor of the panels.
    """
    wanted = [name for name in model.state_dict() if not name.startswith("backbone.")]
    with safe_open(directory / "model.safetensors", framework="pt") as stored:
        missing = sorted(set(wanted) - set(stored.keys()))
        if missing:
            raise UntrainedModelError(
                f"{directory} lacks {len(missing)} tensors, first {missing[0]}; it is from another version"
            )
        model.load_state_dict({name: stored.get_tensor(name) for name in wanted}, strict=False)
    return _around(model, directory)


def _around(model: TOMASLLMModel, directory: Path) -> Checkpoint:
    statistics = Statistics.from_json(json.loads((directory / "statistics.json").read_text()))
    path = directory / "tokenizer.json"
    tokenizer = TextTokenizer.load(path)
    return Checkpoint(
        model.eval(), model.config, statistics, tokenizer, path, read_trained_on(directory), KnownTools.read(directory)
    )


def restore(directory: Path, model: TOMASLLMModel, device: str = "cpu") -> None:
    """Gives a model that is built already the weights of a checkpoint, its LoRA apart where the model has one."""
    tied = bool(model.backbone.config.tie_word_embeddings)
    stored = _read(directory, tied, device) | load_lora(directory, device)
    wanted = [name for name in model.state_dict() if not (tied and name == LM_HEAD)]
    model.load_state_dict({name: stored[plain_name(name)] for name in wanted}, strict=False)
    model.backbone.lm.tie_weights()


def _read(directory: Path, tied: bool, device: str) -> dict[str, Tensor]:
    state = load_file(directory / "model.safetensors", device=device)
    return state if tied else state | load_file(directory / "lm_head.safetensors", device=device)


def write_trained_on(directory: Path, names: Iterable[str], before: tuple[str, ...] | None = ()) -> None:
    """Notes which sources a model has met.

    Args:
        directory: The checkpoint.
        names: Sources of this run.
        before: Those of the model that the run began with; () for none. None, not known, leaves all unknown.
    """
    if before is not None:
        (directory / TRAINED_ON).write_text(json.dumps(sorted({*names, *before})) + "\n", encoding="utf-8")


def write_known_tools(
    directory: Path, tools: Iterable[ToolSpec], words: RequestWords, before: KnownTools | None
) -> None:
    """Notes which tools a model has met, and how they were asked for.

    Args:
        directory: The checkpoint.
        tools: Those that this run showed.
        words: Of its requests.
        before: Those of the model that the run began with. None, not known, leaves all unknown.
    """
    if before is not None:
        KnownTools.of(tools, words).over(before).write(directory)


def write_ending(directory: Path, record: Mapping[str, Any]) -> None:
    """Notes how many steps a model was trained for and why that ended (``Trainer.ending``)."""
    (directory / TRAINING).write_text(json.dumps(record) + "\n", encoding="utf-8")


def read_trained_on(directory: Path) -> tuple[str, ...] | None:
    """What ``write_trained_on`` noted; None where nothing was."""
    path = directory / TRAINED_ON
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
