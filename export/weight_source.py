"""Where the weights of an export come from, one tensor at a time: a checkpoint on disk, a model in memory, or chance.

Names are a Qwen2 model's: ``layers.3.self_attn.q_proj.weight``, ``norm.weight``, ``embed_tokens.weight``, and
``lm_head.weight``, which is the token table where the two are tied.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import Qwen2Config

PREFIX = "backbone.lm.model."
LM_HEAD = "lm_head.weight"
TABLE = "embed_tokens.weight"


class WeightSource(Protocol):
    """Tensors of the backbone by name."""

    def read(self, name: str) -> Tensor:
        """The tensor, on the processor, in the precision it is stored in."""
        ...


class CheckpointWeights:
    """A checkpoint directory; what is not asked for never enters memory."""

    def __init__(self, directory: Path, tied: bool) -> None:
        self._files = {PREFIX: safe_open(str(directory / "model.safetensors"), framework="pt")}
        self._head = None if tied else safe_open(str(directory / "lm_head.safetensors"), framework="pt")

    def read(self, name: str) -> Tensor:
        if name == LM_HEAD and self._head is not None:
            tensor: Tensor = self._head.get_tensor(f"backbone.lm.{LM_HEAD}")
            return tensor
        stored: Tensor = self._files[PREFIX].get_tensor(PREFIX + (TABLE if name == LM_HEAD else name))
        return stored


class ModelWeights:
    """A Qwen2 model in memory."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._state = model.state_dict()

    def read(self, name: str) -> Tensor:
        return self._state[name if name == LM_HEAD else f"model.{name}"].detach().cpu()


class RandomWeights:
    """Numbers of a fresh model's size, for timing. All layers hold the same ones, so a file stores them once.

    A loaded graph still has every layer's weights at their own addresses, so that reading them costs what it would.
    """

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
        return torch.randn(self._shape(name), generator=generator) * self._config.initializer_range

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
