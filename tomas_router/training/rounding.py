"""Rounds layers in the forward pass as ``export --quantize packed`` will, so that training makes up for it.

Weights go to 4 bits in blocks, the rows that meet them to 8 bits (``tomas_router.model.packing``); gradients pass as if
nothing was rounded (straight-through estimator, arXiv:1308.3432). The unrounded weights are what is trained, and what a
run goes on from; the finished model gets the rounded ones, without which it is worse (docs/experiments.md, section 12).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from tomas_router.model.packing import pack, packable, rounded_rows

READERS_OF_NORMS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
"""Matrices that read a norm's output, which is rounded once for all of them; the others round what they read."""


class LayerRounding:
    """Rounds the matrices of some layers once it is switched on; ``refresh`` follows every change of the weights."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.on = False
        self._linears: dict[tuple[int, ...], list[nn.Linear]] = defaultdict(list)
        self._change: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        for layer in layers:
            self._watch(layer)

    def refresh(self) -> None:
        """Rounds the weights as they are now."""
        if self.on:
            with torch.no_grad():
                for linears in self._linears.values():
                    weights = torch.stack([linear.weight for linear in linears])
                    changes = pack(weights).weight() - weights
                    self._change |= {id(linear): change for linear, change in zip(linears, changes, strict=True)}

    def remove(self) -> None:
        """The layers are as they were before; afterwards this object does nothing."""
        self.on = False
        for handle in self._handles:
            handle.remove()
        for linear in chain.from_iterable(self._linears.values()):
            del linear.forward  # the instance's; the class's own is behind it
        self._linears.clear()
        self._change.clear()

    def settle(self) -> None:
        """The matrices become what the layers compute with, where that is on: a finished model is its rounded weights.

        Rounding them once more, at export, hardly moves them.
        """
        if self.on:
            with torch.no_grad():
                for linear in chain.from_iterable(self._linears.values()):
                    linear.weight += self._change[id(linear)]
            self.refresh()

    def _watch(self, layer: nn.Module) -> None:
        for name, module in layer.named_modules():
            if name.endswith("layernorm"):
                self._handles.append(module.register_forward_hook(lambda _, __, output: self._rounded(output)))
            elif isinstance(module, nn.Linear) and packable(module.in_features):
                module.forward = self._product(module)  # type: ignore[method-assign, assignment]
                self._linears[tuple(module.weight.shape)].append(module)
                if not name.endswith(READERS_OF_NORMS):
                    hook = module.register_forward_pre_hook(lambda _, inputs: (self._rounded(inputs[0]),))
                    self._handles.append(hook)

    def _product(self, linear: nn.Linear) -> Callable[[Tensor], Tensor]:
        def product(x: Tensor) -> Tensor:
            weight = linear.weight + self._change[id(linear)] if self.on else linear.weight
            return F.linear(x, weight, linear.bias)

        return product

    def _rounded(self, activation: Any) -> Any:
        if not self.on:
            return activation
        return activation + (rounded_rows(activation) - activation).detach()
