"""What of a model trains: ``train.mode``.

=========  =========================================  =================================================
mode       trains in the backbone                     computed once and remembered
=========  =========================================  =================================================
``heads``  nothing                                    text layers' states; tool texts after all layers
``upper``  the layers above ``backbone.text_layers``  text layers' states
``lora``   low-rank matrices beside all layers        nothing
``full``   all layers                                 nothing
=========  =========================================  =================================================

The panels around the backbone train in every mode.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tomas_router.config import TrainConfig
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.training.lora import add_lora


def set_mode(model: TOMASLLMModel, config: TrainConfig) -> None:
    """Readies a model for a run: what trains is marked and float32, and layers compute as the configuration says.

    Embeddings never train: they are shared with the LM head and most of the size.
    """
    backbone, mode = model.backbone, config.mode
    backbone.lm.requires_grad_(mode in ("upper", "full"))
    if backbone.text is not None:
        backbone.text.requires_grad_(mode == "full")
    backbone.embedding_table.requires_grad_(False)
    backbone.lm.lm_head.requires_grad_(False)
    if mode == "lora":
        add_lora(backbone, config.lora_rank, config.lora_alpha, config.dropout)
    elif config.dropout:
        add_dropout(model, config.dropout)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    backbone.autocast_dtype = torch.bfloat16 if config.precision == "bf16" else None
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape: half the time of a step on an H200
    if config.gradient_checkpointing:
        backbone.recompute()


def has_frozen_text(model: TOMASLLMModel, mode: str) -> bool:
    """Whether there are text layers and a text's states stay the same during the run."""
    return model.backbone.text is not None and mode in ("heads", "upper")


def add_dropout(model: TOMASLLMModel, share: float) -> None:
    """The Qwen2 layout has no dropout: hooks add it behind the blocks of layers that train, in training only."""

    def dropped(module: nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (F.dropout(output[0], share, module.training), *output[1:])
        return F.dropout(output, share, module.training)

    for name, module in model.backbone.named_modules():
        if name.endswith(("self_attn", "mlp")) and all(p.requires_grad for p in module.parameters()):
            module.register_forward_hook(dropped)


def build_optimizer(model: TOMASLLMModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a gentler rate for pre-trained layers; no decay for vectors (norms, biases, gains)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = config.learning_rate if name.startswith("backbone.") else config.head_learning_rate
        if name.startswith("backbone.text.") and config.text_learning_rate is not None:
            rate = config.text_learning_rate
        groups[rate, config.weight_decay if parameter.ndim > 1 else 0.0].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=(0.9, 0.98),
    )
