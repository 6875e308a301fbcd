"""A tiny random router for tests of the torch side; the packaged tokenizer belongs to it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tomas_router.config import BackboneConfig, ModelConfig, RunConfig, ToolConfig, TrainConfig
from tomas_router.shipped import model_dir

if TYPE_CHECKING:
    from tomas_router.training.checkpoint import Checkpoint, Statistics

SIZES = {
    "vocab_size": 49152,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
BACKBONE = BackboneConfig(source="random", sizes=SIZES, text_layers=1)
TOKENIZER = model_dir() / "tokenizer.json"


TIED = BackboneConfig(source="random", sizes=SIZES | {"tie_word_embeddings": True}, text_layers=1)


def model_config(backbone: BackboneConfig = BACKBONE) -> ModelConfig:
    return ModelConfig(name="tiny", backbone=backbone, tool=ToolConfig(d_resource=8))


def run_config(**train: object) -> RunConfig:
    settings = {"mixture": {"own": 1.0}, "steps": 4, "batch_size": 8, "pool_size": 12, "learning_rate": 1e-3} | train
    return RunConfig(model=model_config(), train=TrainConfig.model_validate(settings))


@cache
def statistics() -> Statistics:
    """Scalers of the shipped data, fitted once for all tests of a process."""
    from tomas_router.training.loop import fit_statistics

    return fit_statistics(run_config())


def save_tiny_checkpoint(directory: Path, backbone: BackboneConfig = BACKBONE) -> Checkpoint:
    import torch

    from tomas_router.model.tomas_model import TOMASLLMModel
    from tomas_router.training.checkpoint import load_checkpoint, save_checkpoint

    torch.manual_seed(0)
    model = TOMASLLMModel.from_config(model_config(backbone))
    save_checkpoint(directory, model, statistics(), TOKENIZER, [])
    return load_checkpoint(directory)
