"""Where the weights of an export come from, one tensor at a time: a checkpoint on disk, or chance.

Names are a Qwen2 model's: ``layers.3.self_attn.q_proj.weight``, ``norm.weight``, ``embed_tokens.weight``, and
``lm_head.weight``, which is the token table where the two are tied.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import Qwen2Config

from tomas_router.schema.file_check import file_sha256
from tomas_router.training.lora import HIGH, LOW, load_lora, lora_scale, merged_weight

PREFIX = "backbone.lm.model."
LM_HEAD = "lm_head.weight"
TABLE = "embed_tokens.weight"
BLOCK = 1 << 20
"""Random numbers that are drawn for a tensor; seconds matter where a billion are needed."""


class WeightSource(Protocol):
    """Tensors of the backbone by name."""

    layers_alike: bool
    """Whether all layers hold the same numbers, so that one of them says it all."""

    def read(self, name: str) -> Tensor:
        """The tensor, on the processor, in the precision it is stored in."""
        ...


class CheckpointWeights:
    """A checkpoint directory; what is not asked for never enters memory. LoRA is merged tensor by tensor."""

    layers_alike = False

    def __init__(self, directory: Path, tied: bool) -> None:
        self._files = [directory / "model.safetensors"] + ([] if tied else [directory / "lm_head.safetensors"])
        stored = [safe_open(str(path), framework="pt") for path in self._files]
        self._place = {name: file for file in stored for name in file.keys()}  # noqa: SIM118  # no mapping
        self._tied = tied
        self._lora = load_lora(directory)
        self._scale = lora_scale(directory) if self._lora else 0.0

    def read(self, name: str) -> Tensor:
        name = self._stored_name(name)
        weight: Tensor = self._place[name].get_tensor(name)
        layer = name.removesuffix(".weight")
        if layer + LOW not in self._lora:
            return weight
        return merged_weight(weight, self._lora[layer + LOW], self._lora[layer + HIGH], self._scale)

    def _stored_name(self, name: str) -> str:
        if name != LM_HEAD:
            return PREFIX + name
        return f"{PREFIX}{TABLE}" if self._tied else f"backbone.lm.{LM_HEAD}"

    def fingerprint(self) -> str:
        """Changes with any weight."""
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(file_sha256(path).encode())
        for name, tensor in sorted(self._lora.items()):
            digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
        return f"checkpoint-{digest.hexdigest()[:16]}"


class RandomWeights:
    """Numbers of a fresh model's size, repeated block by block, for timing.

    All layers hold the same ones, so a file stores them once.

    A loaded graph still has every layer's weights at their own addresses, so that reading them costs what it would.
    """

    layers_alike = True

    def __init__(self, config: Qwen2Config, seed: int = 0) -> None:
        self._config, self._seed = config, seed
        self._last: tuple[str, Tensor] | None = None

    def read(self, name: str) -> Tensor:
        name = re.sub(r"^layers\.\d+\.", "layers.0.", name)
        name = TABLE if name == LM_HEAD else name
        if self._last is None or self._last[0] != name:
            self._last = name, self._made(name)
        return self._last[1]

    def _made(self, name: str) -> Tensor:
        if "norm" in name:
            return torch.ones(self._config.hidden_size)
        generator = torch.Generator().manual_seed(self._seed + sum(name.encode()))
        shape = self._shape(name)
        count = math.prod(shape)
        block = torch.randn(min(count, BLOCK), generator=generator) * self._config.initializer_range
        return block.repeat(-(-count // len(block)))[:count].view(shape)

    def _shape(self, name: str) -> tuple[int, ...]:
        config = self._config
        d_model, inner = config.hidden_size, config.intermediate_size
        width = getattr(config, "head_dim", None) or d_model // config.num_attention_heads
        query, kv = config.num_attention_heads * width, config.num_key_value_heads * width
        part = name.rsplit(".", 2)[-2]
        rows, columns = {
            "embed_tokens": (config.vocab_size, d_model),
            "q_proj": (query, d_model),
            "k_proj": (kv, d_model),
            "v_proj": (kv, d_model),
            "o_proj": (d_model, query),
            "gate_proj": (inner, d_model),
            "up_proj": (inner, d_model),
            "down_proj": (d_model, inner),
        }[part]
        return (rows,) if name.endswith("bias") else (rows, columns)
