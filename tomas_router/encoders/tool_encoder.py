"""Tool identity to ``v_tool``, in two ways.

N tools, L text tokens, D backbone width, E = d_tool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tomas_router.errors import UnknownToolError

TextHidden = Callable[[Tensor, Tensor], Tensor]


class NameTokenEncoder(nn.Module):
    """Way 1: a table of names with contiguous ids behind the vocabulary.

    Knows exactly the names it was trained with; fast and small, but a new tool needs training.
    """

    def __init__(self, names: Sequence[str], d_tool: int, first_id: int) -> None:
        super().__init__()
        if len(set(names)) != len(names):
            raise ValueError("tool names must be unique")
        self.first_id = first_id
        self._row = {name: row for row, name in enumerate(names)}
        self.table = nn.Embedding(len(names), d_tool)

    def token_ids(self, names: Sequence[str]) -> Tensor:
        """(N,) ids in ``[first_id, first_id + number of names)``.

        Raises:
            UnknownToolError: A name the table was not trained with.
        """
        unknown = [name for name in names if name not in self._row]
        if unknown:
            raise UnknownToolError(
                f"the name-table encoder was not trained with {unknown}; use the text encoder or train again"
            )
        return torch.tensor([self.first_id + self._row[name] for name in names])

    def forward(self, token_ids_N: Tensor) -> Tensor:
        """Ids (N,) to v_tool (N, E)."""
        vectors: Tensor = self.table(token_ids_N - self.first_id)
        return vectors


class TextToolEncoder(nn.Module):
    """Way 2: name and description through the backbone's tokenizer, embeddings and (optionally) layers.

    Tools added at run time need no training. ``text_hidden`` maps (N, L) ids and mask to (N, L, D) hidden states;
    it is passed in because the backbone belongs to the model, not to this encoder.
    """

    def __init__(self, d_model: int, d_tool: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * d_model, d_tool)

    def forward(self, hidden_NLD: Tensor, mask_NL: Tensor) -> Tensor:
        """Hidden states of the text to v_tool (N, E): mean over real tokens beside the last real token."""
        vectors: Tensor = self.project(self.pool(hidden_NLD, mask_NL))
        return vectors

    @staticmethod
    def pool(hidden_NLD: Tensor, mask_NL: Tensor) -> Tensor:
        """(N, 2 D): mean over real tokens, and the last real token."""
        weight_NL1 = mask_NL.to(hidden_NLD.dtype).unsqueeze(-1)
        mean_ND = (hidden_NLD * weight_NL1).sum(1) / weight_NL1.sum(1).clamp(min=1.0)
        last_N = mask_NL.sum(1).long().clamp(min=1) - 1
        last_ND = hidden_NLD[torch.arange(hidden_NLD.shape[0], device=last_N.device), last_N]
        return torch.cat([mean_ND, last_ND], dim=-1)


class EmbeddingCache:
    """v_tool by content hash, so that an unchanged tool is encoded once per set of weights."""

    def __init__(self) -> None:
        self._vectors: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._vectors)

    def get_or_encode(self, keys: Sequence[str], encode: Callable[[list[int]], Tensor]) -> Tensor:
        """(N, E) in the order of ``keys``; ``encode`` receives the positions of the missing ones only."""
        missing = [i for i, key in enumerate(keys) if key not in self._vectors]
        if missing:
            for position, vector in zip(missing, encode(missing), strict=True):
                self._vectors[keys[position]] = vector.detach()
        return torch.stack([self._vectors[key] for key in keys])

    def clear(self) -> None:
        """Forgets everything; call it whenever weights changed."""
        self._vectors.clear()
