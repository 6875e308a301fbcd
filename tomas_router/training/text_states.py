"""What frozen layers make of texts, each text computed once.

N tools, B texts, L or S tokens, D model width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tomas_router.model.backbone import QwenBackbone
from tomas_router.model.tomas_model import TOMASLLMModel

CHUNK_TOKENS = 4096
ROOM_BYTES = 3 * 2**30

Key = tuple[int, ...]


class TextStates:
    """States of texts by their token ids, kept in half precision; for as long as the text layers do not change."""

    def __init__(self, backbone: QwenBackbone, max_tokens: int | None = None) -> None:
        table = backbone.embedding_table.weight
        self._backbone = backbone
        self._room = ROOM_BYTES // (2 * table.shape[1]) if max_tokens is None else max_tokens
        # A backbone in bfloat16 may hold states that float16 cannot.
        self._kept_dtype = torch.bfloat16 if table.dtype is torch.bfloat16 else torch.float16
        self._known: dict[Key, Tensor] = {}

    def __len__(self) -> int:
        return len(self._known)

    @torch.no_grad()
    def __call__(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """(B, S) ids and mask to (B, S, D); 0 where padded."""
        keys = _keys(ids_BS, mask_BS)
        found = self._compute([key for key in dict.fromkeys(keys) if key not in self._known])
        table = self._backbone.embedding_table.weight
        out_BSD = torch.zeros(*ids_BS.shape, table.shape[1], device=table.device)
        for row, key in enumerate(keys):
            states = self._known[key] if key in self._known else found[key]
            out_BSD[row, : len(key)] = states.to(device=out_BSD.device, dtype=out_BSD.dtype)
        return out_BSD

    def _compute(self, missing: list[Key]) -> dict[Key, Tensor]:
        """States of new texts, and what of them no longer fits is returned without being kept."""
        extra: dict[Key, Tensor] = {}
        device = self._backbone.embedding_table.weight.device
        missing.sort(key=len)
        start = 0
        while start < len(missing):
            stop = start + 1
            while stop < len(missing) and len(missing[stop]) * (stop + 1 - start) <= CHUNK_TOKENS:
                stop += 1
            part, start = missing[start:stop], stop
            longest = len(part[-1])
            ids = np.zeros((len(part), longest), dtype=np.int64)
            mask = np.zeros((len(part), longest), dtype=bool)
            for row, key in enumerate(part):
                ids[row, : len(key)], mask[row, : len(key)] = key, True
            states = self._backbone.text_states(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
            for row, key in enumerate(part):
                kept = self._room >= len(key)
                self._room -= len(key) if kept else 0
                (self._known if kept else extra)[key] = states[row, : len(key)].to(self._kept_dtype).clone()
        return extra


class ToolTexts:
    """Tool texts after all layers, pooled to one vector each; for as long as the whole backbone does not change.

    Nothing conditions a tool's text, so in mode ``heads`` each wording of each tool passes the layers once a run.
    """

    def __init__(self, model: TOMASLLMModel, max_texts: int | None = None) -> None:
        self._model = model
        self._room = ROOM_BYTES // (8 * model.backbone.config.hidden_size) if max_texts is None else max_texts
        self._known: dict[Key, Tensor] = {}

    def __len__(self) -> int:
        return len(self._known)

    @torch.no_grad()
    def __call__(self, ids_NL: Tensor, mask_NL: Tensor, states_NLD: Tensor | None = None) -> Tensor:
        """(N, L) ids and mask, and what the text layers say of them where that is known, to (N, 2 D)."""
        keys = _keys(ids_NL, mask_NL)
        missing = [row for row, key in enumerate(keys) if key not in self._known]
        fresh: dict[Key, Tensor] = {}
        if missing:
            ids_ML, mask_ML = ids_NL[missing], mask_NL[missing]
            states_MLD = None if states_NLD is None else states_NLD[missing]
            for row, pooled in zip(missing, self._model.pooled_tool_texts(ids_ML, mask_ML, states_MLD), strict=True):
                (self._known if len(self._known) < self._room else fresh)[keys[row]] = pooled.clone()
        return torch.stack([self._known[key] if key in self._known else fresh[key] for key in keys])


def _keys(ids_BS: Tensor, mask_BS: Tensor) -> list[Key]:
    lengths = mask_BS.sum(1).tolist()
    return [tuple(ids[:length]) for ids, length in zip(ids_BS.tolist(), lengths, strict=True)]
