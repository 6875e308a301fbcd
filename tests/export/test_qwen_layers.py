from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.qwen_layers import Qwen2Layers
from export.smoothing import recorded_peaks, smoothed
from tomas_router.config import BackboneConfig
from tomas_router.model.backbone import PrefixCache, QwenBackbone

pytestmark = pytest.mark.m4
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}


@pytest.fixture(scope="module")
def backbone() -> QwenBackbone:
    torch.manual_seed(0)
    model = QwenBackbone.from_config(BackboneConfig(source="random", sizes=SIZES)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return model


@torch.no_grad()
def test_layers_when_behind_a_masked_cache_equal_transformers(backbone: QwenBackbone) -> None:
    layers, embeds = Qwen2Layers(backbone, 64), torch.randn(2, 5, 32)
    positions = torch.arange(1, 6).repeat(2, 1)
    keys, values = torch.randn(2, 2, 2, 7, 8), torch.randn(2, 2, 2, 7, 8)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 2:4], mask[1, 11] = False, False
    expected, cache = backbone(embeds, mask, positions, PrefixCache(keys, values), want_cache=True)
    hidden, present = layers(embeds, mask, positions, [(keys[:, y], values[:, y]) for y in range(2)])
    torch.testing.assert_close(hidden[0], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(hidden[1, :4], expected[1, :4], rtol=1e-4, atol=1e-4)  # the last token is padding
    assert cache is not None
    torch.testing.assert_close(present[1][0][0], cache.keys[0, 1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_layers_when_tokens_stand_alone_equal_transformers(backbone: QwenBackbone) -> None:
    virtual = torch.randn(6, 32)
    expected = backbone.encode_alone(virtual)
    keys, values = Qwen2Layers(backbone, 64).alone(virtual)
    torch.testing.assert_close(keys, expected.keys[:, :, :, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values, expected.values[:, :, :, 0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_smoothing_when_applied_changes_no_output_and_flattens_activations(backbone: QwenBackbone) -> None:
    embeds, positions = torch.randn(1, 9, 32), torch.arange(9).unsqueeze(0)
    mask = torch.ones(1, 9, dtype=torch.bool)
    first_norm = backbone.lm.model.layers[0].input_layernorm.weight
    kept, first_norm[3] = first_norm[3].clone(), 40.0  # one channel with huge activations
    with recorded_peaks(backbone.lm.model.layers) as before:
        expected, _ = backbone(embeds, mask, positions)
    body = smoothed(backbone.lm.model, before)
    with recorded_peaks(body.layers) as after:
        body(inputs_embeds=embeds, position_ids=positions)
    hidden, _ = Qwen2Layers(backbone, 64, body)(embeds, mask, positions)
    first_norm[3] = kept
    torch.testing.assert_close(hidden, expected, rtol=1e-3, atol=1e-3)
    spread = [peaks[0, "attention"].max() / peaks[0, "attention"].median() for peaks in (before, after)]
    assert spread[1] < 0.6 * spread[0]
