"""Losses of the plan heads.

Cross-entropy for tools (END included), gate and size; Huber for resources and latency; a penalty for asking more than
the curve offers; binary cross-entropy for dependencies; contrastive cross-entropy for retrieval. The explanation's
language-model loss is computed apart (``training.explanation``) because it alone needs the LM head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tomas_router.model.tomas_model import Decisions
from tomas_router.training.tensors import Targets

DEFAULT_WEIGHTS = {
    "tool": 1.0,
    "gate": 0.5,
    "size": 0.3,
    "resource": 0.5,
    "latency": 0.25,
    "over_allocation": 0.25,
    "depends": 0.5,
    "retrieval": 0.2,
    "explanation": 0.3,
}


def plan_losses(decisions: Decisions, targets: Targets) -> dict[str, Tensor]:
    """Every loss that this batch has labels for, each a scalar mean."""
    losses = {"gate": F.binary_cross_entropy_with_logits(decisions.gate_B, targets.gate_B)}
    if (targets.tool_BK1 >= 0).any():
        losses["tool"] = F.cross_entropy(
            decisions.tool_logits_BKN.flatten(0, 1), targets.tool_BK1.flatten(), ignore_index=-100
        )
    if (targets.size_BK >= 0).any():
        losses["size"] = F.cross_entropy(
            decisions.size_logits_BK3.flatten(0, 1), targets.size_BK.flatten(), ignore_index=-100
        )
    known = ~targets.scaled_BK5.isnan().any(-1)
    if known.any():
        predicted, true = decisions.targets_BK5[known], targets.scaled_BK5[known]
        losses["resource"] = F.huber_loss(predicted[:, :4], true[:, :4])
        losses["latency"] = F.huber_loss(predicted[:, 4], true[:, 4])
        losses["over_allocation"] = _over_allocation(decisions.targets_BK5, targets, known)
    if targets.depends_mask_BKK.any():
        losses["depends"] = F.binary_cross_entropy_with_logits(
            decisions.depends_BKK[targets.depends_mask_BKK], targets.depends_BKK[targets.depends_mask_BKK]
        )
    wanted = targets.retrieval_BN.any(1)
    if wanted.any():
        log_probs = decisions.retrieval_logits_BN[wanted].log_softmax(-1)
        share = targets.retrieval_BN[wanted].to(log_probs.dtype)
        losses["retrieval"] = -((log_probs * share).sum(-1) / share.sum(-1)).mean()
    return losses


def _over_allocation(scaled_BK5: Tensor, targets: Targets, known_BK: Tensor) -> Tensor:
    """Mean squared excess of the demand over what is free when the decision is made.

    Steps whose own label exceeds it (they start later, when more is free) are allowed up to their label.
    """
    limit_BK4 = torch.maximum(targets.free_scaled_B4.unsqueeze(1), targets.scaled_BK5[..., :4])
    excess = F.relu(scaled_BK5[..., :4] - limit_BK4)[known_BK]
    return excess.pow(2).mean()


def total(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Weighted sum; a name without a weight counts as in ``DEFAULT_WEIGHTS``."""
    merged = DEFAULT_WEIGHTS | weights
    terms = [merged[name] * loss for name, loss in losses.items()]
    return torch.stack(terms).sum()
