"""Four bits a weight on disk, eight while running: how layers are rounded so that both fit.

A weight is ``number * step * channel``: a number of 4 bits (-7 to 7), a small whole step (1 to 9) for each block of 32
inputs, and one scale for an output channel. ``number * step`` has 7 bits, so the products are those of ``int8`` graphs;
engines multiply the two once (``schema.packed_layers``). Training can round alike (``training.rounding``).

N outputs, K inputs, B blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 32
NUMBER_LIMIT = 7
STEP_LIMIT = 9
"""``NUMBER_LIMIT * STEP_LIMIT`` = 63, the largest weight of an ``int8`` graph (see ``export.quantize``)."""
SMALLER_STEPS = (-1, 0, 1, 2)
"""Steps tried around the smallest that clips nothing: clipping the largest weight may cost less than coarse steps."""
SMALLEST_SCALE = 1e-12
ACTIVATION_LIMIT = 127


@dataclass(frozen=True)
class Packed:
    """A rounded matrix."""

    numbers_NK: Tensor  # whole numbers, -7 to 7
    steps_NB: Tensor  # whole numbers, 1 to 9
    channel_N: Tensor

    def product(self) -> Tensor:
        """(N, K) whole numbers, -63 to 63."""
        return self.numbers_NK * self.steps_NB.repeat_interleave(BLOCK, dim=-1)

    def weight(self) -> Tensor:
        """(N, K) as the graph multiplies it."""
        return self.product() * self.channel_N.unsqueeze(-1)


def packable(inputs: int) -> bool:
    """Whether a matrix with so many inputs divides into blocks."""
    return inputs % BLOCK == 0


def pack(weight_NK: Tensor) -> Packed:
    """Rounds a matrix (..., N, K), or several of one shape. What is rounded already hardly moves.

    Raises:
        ValueError: K is no multiple of ``BLOCK``.
    """
    if not packable(weight_NK.shape[-1]):
        raise ValueError(f"the number of inputs must be a multiple of {BLOCK}, got {weight_NK.shape[-1]}")
    blocks = weight_NK.float().unflatten(-1, (-1, BLOCK))
    peak_NB = blocks.abs().amax(-1)
    channel_N = (peak_NB.amax(-1) / (NUMBER_LIMIT * STEP_LIMIT)).clamp(min=SMALLEST_SCALE)
    unit = blocks / channel_N[..., None, None]
    widest_NB = (peak_NB / channel_N[..., None] / NUMBER_LIMIT - 1e-3).ceil().clamp(1, STEP_LIMIT)
    steps_NB, least_NB = widest_NB, torch.full_like(widest_NB, torch.inf)
    for less in SMALLER_STEPS:
        tried_NB = (widest_NB - less).clamp(1, STEP_LIMIT)
        error_NB = (_numbers(unit, tried_NB) * tried_NB[..., None] - unit).square().sum(-1)
        steps_NB = torch.where(error_NB < least_NB, tried_NB, steps_NB)
        least_NB = torch.minimum(error_NB, least_NB)
    # The widest block sets the scale, so it keeps its step: else a second rounding would find another scale.
    steps_NB = torch.where(peak_NB == peak_NB.amax(-1, keepdim=True), STEP_LIMIT, steps_NB)
    return Packed(_numbers(unit, steps_NB).flatten(-2), steps_NB, channel_N)


def rounded_rows(activation: Tensor) -> Tensor:
    """(..., C) with each row rounded to 8 bits, as graphs do while running."""
    scale = (activation.abs().amax(-1, keepdim=True) / ACTIVATION_LIMIT).clamp(min=SMALLEST_SCALE)
    return (activation / scale).round() * scale


def _numbers(unit: Tensor, steps_NB: Tensor) -> Tensor:
    return (unit / steps_NB[..., None]).round().clamp(-NUMBER_LIMIT, NUMBER_LIMIT)
