"""Text to token ids with the `tokenizers` library (no transformers, no torch)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


class TextTokenizer:
    """A byte-level BPE tokenizer read from ``tokenizer.json``.

    Special tokens that the file may declare are switched off: what a user types is always plain text.
    """

    def __init__(self, tokenizer: Tokenizer, content_sha256: str) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.content_sha256 = content_sha256
        self.vocab_size: int = tokenizer.get_vocab_size()

    @classmethod
    def load(cls, path: str | Path) -> TextTokenizer:
        """Reads ``tokenizer.json``."""
        data = Path(path).read_bytes()
        return cls(Tokenizer.from_buffer(data), hashlib.sha256(data).hexdigest())

    def encode(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Token ids; a text over ``max_tokens`` keeps its first two thirds and its last third.

        Requests often put the question last, so cutting only the end would lose it.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return middle_cut(ids, max_tokens)

    def encode_batch(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(N, L) ids padded with 0 on the right and their mask (True = real token); cut at the end."""
        encoded = [e.ids[:max_tokens] for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        return pad(encoded)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ordinary token ids."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


def middle_cut(ids: list[int], max_tokens: int | None) -> list[int]:
    """Keeps the head and the tail of a list that is too long."""
    if max_tokens is None or len(ids) <= max_tokens:
        return ids
    tail = max_tokens // 3
    return ids[: max_tokens - tail] + ids[len(ids) - tail :]


def pad(sequences: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(N, L) int64 padded with 0 on the right, and the mask of real entries; L is at least 1."""
    length = max((len(s) for s in sequences), default=1) or 1
    ids = np.zeros((len(sequences), length), dtype=np.int64)
    mask = np.zeros((len(sequences), length), dtype=bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = True
    return ids, mask
