"""User tasks: token embeddings, pooling, and the cheap retrieval vector.

B requests, S task tokens, D backbone width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pooling = Literal["mean", "max", "cls", "last"]


class TaskEmbedding(nn.Module):
    """Looks token ids up in the backbone's embedding table (shared, never copied)."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self._table = [table]  # a list, so that the table is no second parameter of this module

    def forward(self, token_ids_BS: Tensor) -> Tensor:
        """(B, S) ids to (B, S, D)."""
        embedded: Tensor = self._table[0](token_ids_BS)
        return embedded


class UserTaskEncoder(nn.Module):
    """Pools the states of a task to one vector: ``mean``, ``max``, ``cls`` (first) or ``last`` real token."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        if pooling not in ("mean", "max", "cls", "last"):
            raise ValueError(f"pooling must be mean, max, cls or last, got {pooling!r}")
        self.pooling = pooling

    def forward(self, states_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """(B, S, D) and mask (True = real token, at least one a row) to (B, D). Padding has no influence."""
        weight_BS1 = mask_BS.to(states_BSD.dtype).unsqueeze(-1)
        if self.pooling == "mean":
            return (states_BSD * weight_BS1).sum(1) / weight_BS1.sum(1)
        if self.pooling == "max":
            return states_BSD.masked_fill(~mask_BS.unsqueeze(-1), torch.finfo(states_BSD.dtype).min).amax(1)
        position_S = torch.arange(mask_BS.shape[1], device=mask_BS.device)
        if self.pooling == "cls":
            index_B = torch.where(mask_BS, position_S, mask_BS.shape[1]).amin(1)
        else:
            index_B = torch.where(mask_BS, position_S, -1).amax(1)
        return states_BSD[torch.arange(states_BSD.shape[0], device=index_B.device), index_B]


class RetrievalEncoder(nn.Module):
    """Weighted token embeddings, and the text layers' states where there are any, projected to the unit sphere.

    Ranks thousands of tools by one matrix product before tools and task have met. Tools and tasks share it.
    """

    def __init__(self, vocab_size: int, d_model: int, d_retrieval: int, reads_states: bool = False) -> None:
        super().__init__()
        self.reads_states = reads_states
        self.log_weight = nn.Embedding(vocab_size, 1)
        nn.init.zeros_(self.log_weight.weight)
        self.project = nn.Linear(d_model, d_retrieval, bias=False)
        self.project_states = nn.Linear(d_model, d_retrieval) if reads_states else None

    def forward(self, embedded_BSD: Tensor, states_BSD: Tensor, token_ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """Token embeddings and states (both B, S, D), ids and mask to unit vectors (B, d_retrieval)."""
        weight_BS1 = self.log_weight(token_ids_BS).exp() * mask_BS.to(embedded_BSD.dtype).unsqueeze(-1)
        weight_BS1 = weight_BS1 / weight_BS1.sum(1, keepdim=True).clamp(min=1e-6)
        vector_BE = self.project((embedded_BSD * weight_BS1).sum(1))
        if self.project_states is not None:
            vector_BE = vector_BE + self.project_states((unit_rms(states_BSD) * weight_BS1).sum(1))
        return F.normalize(vector_BE, dim=-1)


def unit_rms(states: Tensor) -> Tensor:
    """(..., D) scaled to a root mean square of 1: a text's first token is a hundred times as large as the others."""
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6)
