"""Texts through frozen text layers, each computed once.

B texts, S tokens, D model width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tomas_router.model.backbone import QwenBackbone

CHUNK_TOKENS = 4096


class TextStates:
    """States of texts by their token ids, kept in half precision; for as long as the text layers do not change."""

    def __init__(self, backbone: QwenBackbone, max_tokens: int = 2_500_000) -> None:
        self._backbone, self._room = backbone, max_tokens
        self._known: dict[tuple[int, ...], Tensor] = {}

    def __len__(self) -> int:
        return len(self._known)

    @torch.no_grad()
    def __call__(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """(B, S) ids and mask to (B, S, D); 0 where padded."""
        lengths = mask_BS.sum(1).tolist()
        keys = [tuple(ids[:length]) for ids, length in zip(ids_BS.tolist(), lengths, strict=True)]
        found = self._compute([key for key in dict.fromkeys(keys) if key not in self._known])
        table = self._backbone.embedding_table.weight
        out_BSD = torch.zeros(*ids_BS.shape, table.shape[1], dtype=table.dtype, device=table.device)
        for row, key in enumerate(keys):
            states = self._known[key] if key in self._known else found[key]
            out_BSD[row, : len(key)] = states.to(device=out_BSD.device, dtype=out_BSD.dtype)
        return out_BSD

    def _compute(self, missing: list[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
        """States of new texts, and what of them no longer fits is returned without being kept."""
        extra: dict[tuple[int, ...], Tensor] = {}
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
                (self._known if kept else extra)[key] = states[row, : len(key)].to(torch.float16).clone()
        return extra
