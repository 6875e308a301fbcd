from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tomas_router.evaluation.minilm import MiniLm, gelu, read_safetensors

pytestmark = pytest.mark.m4


def test_rows_when_compared_with_transformers_agree(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12
    )
    bert = transformers.BertModel(config, add_pooling_layer=False).eval()
    bert.save_pretrained(tmp_path)
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"[UNK]": 0, **{word: i for i, word in enumerate("abcdefg", start=1)}}, "[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = ["a b c", "g", "c b a z d e f", "a b c"]

    rows = MiniLm(tmp_path).rows(texts)

    for text, row in zip(texts, rows, strict=True):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            expected = bert(ids).last_hidden_state[0].mean(dim=0).numpy()
        # float32 over two layers; the erf approximation is good to 2e-7
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=2e-6)
    assert rows.shape == (4, 8)
    np.testing.assert_array_equal(rows[0], rows[3])


def test_gelu_when_compared_with_the_error_function_agrees() -> None:
    from math import erf

    x = np.linspace(-6, 6, 241, dtype=np.float32)
    exact = [0.5 * v * (1 + erf(v / 2**0.5)) for v in x.tolist()]
    np.testing.assert_allclose(gelu(x), exact, atol=1e-6)


def test_read_safetensors_when_tensors_differ_in_place_reads_each(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]},
        "ids": {"dtype": "I64", "shape": [1], "data_offsets": [16, 24]},
    }
    text = json.dumps(header).encode()
    values = np.array([1, 2, 3, 4], dtype="<f4").tobytes() + np.array([7], dtype="<i8").tobytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)
    tensors = read_safetensors(path)
    assert set(tensors) == {"a", "b"}
    assert tensors["b"].tolist() == [[3.0, 4.0]]
