"""Right panel: what the hidden states decide.

B requests, N candidate tools, K plan slots, D model width, Q key width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_SIZES = 3
NUM_TARGETS = 5  # cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms


class StateNorm(nn.Module):
    """Hidden states as all heads read them: each dimension shifted and scaled to mean 0 and deviation 1, once.

    A language model's states share a large common component in a few huge dimensions. A fresh linear layer sees little
    else, and steps large enough for the rest make it swing.
    """

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(d_model))
        self.register_buffer("std_D", torch.ones(d_model))

    @torch.no_grad()
    def fit(self, hidden_XD: Tensor) -> None:
        """Takes mean and deviation from a sample (X, D) of states."""
        std_D = hidden_XD.std(0)
        self.mean_D.copy_(hidden_XD.mean(0))
        self.std_D.copy_(std_D.clamp(min=1e-3 * float(std_D.max())))

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return (hidden - self.mean_D) / self.std_D


class TokenGate(nn.Module):
    """One logit a position: > 0 begins a tool plan, < 0 goes on with text."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.score = nn.Linear(d_model, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) to (...)."""
        logit: Tensor = self.score(hidden).squeeze(-1)
        return logit


class ToolClassifier(nn.Module):
    """Points at tools: a slot's query against the tools' keys, with END as one more key.

    Keys come from the tools' own vectors, so a tool added at run time can be chosen without training.
    """

    def __init__(self, d_model: int, d_temporal: int, d_key: int) -> None:
        super().__init__()
        self.key = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, d_key))
        self.set_key = nn.Linear(d_model, d_key, bias=False)
        nn.init.zeros_(self.set_key.weight)  # set attention begins as a no-op
        self.slot_query = nn.Linear(d_model, d_key)
        self.task_query = nn.Linear(d_model, d_key)
        self.curve_query = nn.Linear(d_temporal, d_key)
        self.query_norm = nn.LayerNorm(d_key)
        self.key_norm = nn.LayerNorm(d_key)
        self.end_Q = nn.Parameter(torch.randn(d_key) * 0.02)
        self.end_bias = nn.Parameter(torch.zeros(()))
        self.scale = nn.Parameter(torch.tensor(d_key**-0.5))
        self.prior_weight = nn.Parameter(torch.tensor(0.5))
        self.repeat_bias = nn.Parameter(torch.tensor(-1.0))  # a tool may be used twice, but seldom is

    def base_key(self, v_toolaware: Tensor) -> Tensor:
        """(..., D) to keys (..., Q), independent of the other candidates."""
        key: Tensor = self.key(v_toolaware)
        return key

    def set_delta(self, h_toolset: Tensor) -> Tensor:
        """(..., D) to what set attention adds to the keys (..., Q)."""
        delta: Tensor = self.set_key(h_toolset)
        return delta

    def query(self, slot_BKD: Tensor, task_BD: Tensor, v_temporal_BE: Tensor) -> Tensor:
        """Slot states, pooled task and curve to queries (B, K, Q)."""
        request_BQ = self.task_query(task_BD) + self.curve_query(v_temporal_BE)
        query: Tensor = self.query_norm(self.slot_query(slot_BKD) + request_BQ.unsqueeze(1))
        return query

    def forward(self, query_BKQ: Tensor, key_BNQ: Tensor, prior_BN: Tensor, used_BKN: Tensor) -> Tensor:
        """Logits (B, K, N + 1); the last is END.

        ``prior_BN`` is the retrieval similarity of request and tool: it carries the words they share, so that the
        pointer only has to learn what words do not say. ``used_BKN`` marks tools that earlier steps have chosen.
        """
        tools = torch.einsum("bkq,bnq->bkn", query_BKQ, self.key_norm(key_BNQ)) * self.scale
        tools = tools + self.repeat_bias * used_BKN.to(tools.dtype)
        end = torch.einsum("bkq,q->bk", query_BKQ, self.key_norm(self.end_Q)) * self.scale + self.end_bias
        return torch.cat([tools + self.prior_weight * prior_BN.unsqueeze(1), end.unsqueeze(-1)], dim=-1)


class DependencyHead(nn.Module):
    """Biaffine score that a step consumes an earlier step's output."""

    def __init__(self, d_model: int, d_hidden: int) -> None:
        super().__init__()
        self.later = nn.Linear(d_model, d_hidden)
        self.earlier = nn.Linear(d_model, d_hidden)
        self.pair = nn.Parameter(torch.randn(d_hidden, d_hidden) * d_hidden**-0.5)
        self.earlier_bias = nn.Linear(d_hidden, 1)
        self.adjacent = nn.Parameter(torch.zeros(1))

    def forward(self, steps_BKD: Tensor) -> Tensor:
        """Step states (B, K, D) to (B, K, K); entry [k, j], j < k: step k depends on step j."""
        later = torch.nn.functional.gelu(self.later(steps_BKD))
        earlier = torch.nn.functional.gelu(self.earlier(steps_BKD))
        score = torch.einsum("bkh,hi,bji->bkj", later, self.pair, earlier) * later.shape[-1] ** -0.5
        steps = torch.arange(steps_BKD.shape[1], device=steps_BKD.device)
        next_to = (steps[:, None] - steps[None, :] == 1).to(score.dtype)
        logits: Tensor = score + self.earlier_bias(earlier).transpose(1, 2) + self.adjacent * next_to
        return logits


class ResourceRegressor(nn.Module):
    """Input-size bucket, and the scaled demand and latency of the chosen tool under the curve."""

    def __init__(self, d_model: int, d_temporal: int, d_hidden: int) -> None:
        super().__init__()
        self.size = nn.Linear(d_model, NUM_SIZES)
        width = 2 * d_model + d_temporal + NUM_SIZES
        self.trunk = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, d_hidden),
            nn.GELU(),
            nn.Linear(d_hidden, d_hidden),
            nn.GELU(),
        )
        self.target = nn.Linear(d_hidden, NUM_TARGETS)

    def size_logits(self, step: Tensor) -> Tensor:
        """(..., D) to (..., 3)."""
        logits: Tensor = self.size(step)
        return logits

    def forward(self, step: Tensor, v_toolaware: Tensor, v_temporal: Tensor, size_probs: Tensor) -> Tensor:
        """Step state (..., D), chosen tool (..., D), curve (..., E), size (..., 3) to scaled targets (..., 5)."""
        targets: Tensor = self.target(self.trunk(torch.cat([step, v_toolaware, v_temporal, size_probs], dim=-1)))
        return targets
