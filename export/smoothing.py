"""Moves the peaks of activations into weights before both are rounded (SmoothQuant, arXiv:2211.10438).

A few channels of a language model's activations are many times larger than the rest and would take the whole range of
an 8-bit row. Dividing a channel by s and multiplying the weights that read it by s changes nothing in float; the
division is folded into the norm (or the product) before it. s_j = peak_j ** 0.5 / widest_weight_j ** 0.5.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

SHARE = 0.5
"""How much of the difficulty the weights take; 0.3 and 0.7 were measured and are worse."""
SMALLEST = 1e-5

Peaks = dict[tuple[int, str], Tensor]


@contextmanager
def recorded_peaks(layers: Iterable[Any]) -> Iterator[Peaks]:
    """Largest absolute activation of every channel that reaches a layer's matrices while the block runs."""
    peaks: Peaks = {}

    def record(key: tuple[int, str]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            peak_C = inputs[0].detach().abs().flatten(0, -2).amax(0)
            peaks[key] = torch.maximum(peaks[key], peak_C) if key in peaks else peak_C

        return hook

    handles = []
    for index, layer in enumerate(layers):
        readers = {"attention": layer.self_attn.q_proj, "mlp": layer.mlp.gate_proj, "down": layer.mlp.down_proj}
        handles += [module.register_forward_pre_hook(record((index, name))) for name, module in readers.items()]
    try:
        yield peaks
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def smoothed(body: Any, peaks: Peaks) -> Any:
    """A copy of a Qwen2 model that computes the same with flatter activations."""
    body = copy.deepcopy(body)
    for index, layer in enumerate(body.layers):
        attention, mlp = layer.self_attn, layer.mlp
        readers = [attention.q_proj, attention.k_proj, attention.v_proj]
        layer.input_layernorm.weight.div_(_scale_readers(readers, peaks[index, "attention"]))
        layer.post_attention_layernorm.weight.div_(_scale_readers([mlp.gate_proj, mlp.up_proj], peaks[index, "mlp"]))
        mlp.up_proj.weight.div_(_scale_readers([mlp.down_proj], peaks[index, "down"]).unsqueeze(1))
    return body


def _scale_readers(readers: list[nn.Linear], peak_C: Tensor) -> Tensor:
    """Multiplies the readers' columns by s and returns s, whose geometric mean is 1."""
    widest_C = torch.stack([reader.weight.abs().amax(0) for reader in readers]).amax(0)
    log_C = SHARE * peak_C.clamp(min=SMALLEST).log() - (1 - SHARE) * widest_C.clamp(min=SMALLEST).log()
    scale_C = (log_C - log_C.mean()).exp()
    for reader in readers:
        reader.weight.mul_(scale_C)
    return scale_C
