"""LoRA: low-rank matrices beside the backbone's attention and feed-forward layers learn, the layers themselves stay.

A checkpoint keeps both apart (``lora.safetensors``), so that a run can go on; whoever loads it to plan, to measure or
to export gets the merged layers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WEIGHTS, SETTINGS = "lora.safetensors", "lora.json"
LOW, HIGH = ".lora_A.default.weight", ".lora_B.default.weight"
BASE = ".base_layer."


def add_lora(backbone: nn.Module, rank: int, alpha: float, dropout: float) -> None:
    """Puts fresh matrices, which change nothing yet, beside every layer of ``TARGETS``; they alone train.

    Args:
        backbone: Changed in place.
        rank: Width of the matrices.
        alpha: Their product counts ``alpha / rank`` times.
        dropout: Share of their inputs that is dropped in training.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(TARGETS))
    inject_adapter_in_model(config, backbone)


def plain_name(name: str) -> str:
    """What a tensor of a backbone with LoRA is called in one without."""
    return name.replace(BASE, ".")


def is_adapter(name: str) -> bool:
    """Whether a tensor is one of the low-rank matrices."""
    return name.endswith((LOW, HIGH))


def save_lora(model: nn.Module, directory: Path) -> None:
    """Writes the matrices and how much they count; nothing where the model has none."""
    for stale in (WEIGHTS, SETTINGS):
        (directory / stale).unlink(missing_ok=True)  # of an earlier run, else they would be merged into this one
    adapters = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if is_adapter(name)}
    if not adapters:
        return
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "lora_A")]
    (scale,) = {layer.scaling["default"] for layer in layers}
    save_file(adapters, directory / WEIGHTS)
    (directory / SETTINGS).write_text(json.dumps({"scale": scale}) + "\n", encoding="utf-8")


def load_lora(directory: Path, device: str = "cpu") -> dict[str, Tensor]:
    """What ``save_lora`` wrote, by name; empty where it wrote nothing."""
    path = directory / WEIGHTS
    return load_file(path, device=device) if path.exists() else {}


@torch.no_grad()
def merge_lora(state: dict[str, Tensor], directory: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a checkpoint, its low-rank matrices added to the layers that they stand beside."""
    adapters = load_lora(directory, device)
    if not adapters:
        return state
    scale = lora_scale(directory)
    merged = dict(state)
    for name in adapters:
        if name.endswith(LOW):
            layer = name.removesuffix(LOW)
            weight = state[f"{layer}.weight"]
            merged[f"{layer}.weight"] = merged_weight(weight, adapters[name], adapters[layer + HIGH], scale)
    return merged


def merged_weight(weight: Tensor, low: Tensor, high: Tensor, scale: float) -> Tensor:
    """A layer's weight with what its low-rank matrices add, in float32; PEFT's ``merge_and_unload`` of one layer."""
    return weight.float() + scale * high.float() @ low.float()


def lora_scale(directory: Path) -> float:
    """How much the matrices of a checkpoint count."""
    scale: float = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))["scale"]
    return scale
