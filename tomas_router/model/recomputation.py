"""Gradient checkpointing: layers forget their activations and compute them again in the backward pass.

transformers' own switch drops the cache that a layer is given. Here the prefix is that cache, so each layer gets its
part of it as plain tensors, and a layer that is computed twice appends to it once.

B requests, T tokens, H key/value heads, P prefix tokens, C head width, D model width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache


def recompute_layers(layers: nn.ModuleList) -> None:
    """Turns it on for these decoder layers, in training passes only; names of parameters stay as they are."""
    for layer in layers:
        layer.forward = _recomputed(layer, layer.forward)  # type: ignore[method-assign]


class _OneLayer:
    """The part of a cache that one layer reads and extends."""

    def __init__(self, keys: Tensor | None, values: Tensor | None) -> None:
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, T, C) behind those of the prefix: (B, H, P + T, C)."""
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], dim=2)
        self.values = values if self.values is None else torch.cat([self.values, values], dim=2)
        return self.keys, self.values


def _recomputed(layer: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(hidden_BTD: Tensor, past_key_values: DynamicCache | None = None, **options: Any) -> Tensor:
        if not (layer.training and torch.is_grad_enabled()):
            return forward(hidden_BTD, past_key_values=past_key_values, **options)
        if past_key_values is None:
            return checkpoint(forward, hidden_BTD, use_reentrant=False, **options)
        index: int = layer.self_attn.layer_idx  # type: ignore[assignment,union-attr]
        keys, values = _part(past_key_values, index)

        def once(hidden: Tensor, keys: Tensor | None, values: Tensor | None) -> tuple[Tensor, ...]:
            part = _OneLayer(keys, values)
            output = forward(hidden, past_key_values=part, **options)
            assert part.keys is not None
            assert part.values is not None
            return output, part.keys, part.values

        output, longer_keys, longer_values = checkpoint(once, hidden_BTD, keys, values, use_reentrant=False)
        seen = 0 if keys is None else keys.shape[2]
        past_key_values.update(longer_keys[:, :, seen:], longer_values[:, :, seen:], index)
        return output

    return run


def _part(cache: DynamicCache, index: int) -> tuple[Tensor | None, Tensor | None]:
    """What a layer finds in the cache; nothing where it is the first to write."""
    if index >= len(cache.layers) or not cache.layers[index].is_initialized:
        return None, None
    return cache.layers[index].keys, cache.layers[index].values
