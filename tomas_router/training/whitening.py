"""Data-dependent initialisation: fresh projections see standardised inputs.

Hidden states of a language model share a large common component (a few huge dimensions, the same for every text).
Left in, it makes all tools look alike to a fresh linear layer, and training spends hundreds of steps removing it.
Folding mean and standard deviation of real inputs into the layer's weights removes it before the first step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def standardise_inputs(linear: nn.Linear, inputs_XD: Tensor) -> None:
    """Draws the layer anew so that it acts on ``(x - mean) / std`` of the given sample (X, D)."""
    mean_D = inputs_XD.mean(0)
    std_D = inputs_XD.std(0).clamp(min=1e-3 * float(inputs_XD.std()))
    fresh = torch.empty_like(linear.weight)
    nn.init.orthogonal_(fresh)
    linear.weight.copy_(fresh / std_D)
    if linear.bias is not None:
        linear.bias.copy_(-(linear.weight @ mean_D))
