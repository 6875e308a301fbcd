import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tomas_router.config import BackboneConfig
from tomas_router.model.backbone import PrefixCache, QwenBackbone, llama_to_qwen2

pytestmark = pytest.mark.m2
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}


@pytest.fixture
def backbone() -> QwenBackbone:
    torch.manual_seed(0)
    return QwenBackbone.from_config(BackboneConfig(source="random", sizes=SIZES)).eval()


def tool_prefix(backbone: QwenBackbone, virtual: torch.Tensor) -> PrefixCache:
    alone = backbone.encode_alone(virtual)
    return PrefixCache(alone.keys.permute(3, 1, 2, 0, 4), alone.values.permute(3, 1, 2, 0, 4))


def hidden_of(backbone: QwenBackbone, ids: list[int], prefix: PrefixCache | None) -> torch.Tensor:
    past = 0 if prefix is None else prefix.length
    mask = torch.ones(1, past + len(ids), dtype=torch.bool)
    positions = torch.arange(1, len(ids) + 1).unsqueeze(0)
    return backbone(backbone.embed(torch.tensor([ids])), mask, positions, prefix)[0]


@torch.no_grad()
def test_tool_prefix_when_permuted_changes_nothing(backbone: QwenBackbone) -> None:
    virtual = torch.randn(6, 32)
    one = hidden_of(backbone, [5, 6, 7], tool_prefix(backbone, virtual))
    two = hidden_of(backbone, [5, 6, 7], tool_prefix(backbone, virtual[[3, 5, 0, 1, 4, 2]]))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_prefix_when_present_changes_hidden_states_clearly(backbone: QwenBackbone) -> None:
    plain = hidden_of(backbone, [5, 6, 7], None)
    conditioned = hidden_of(backbone, [5, 6, 7], tool_prefix(backbone, torch.randn(6, 32)))
    assert (plain - conditioned).norm() / plain.norm() > 0.05


@torch.no_grad()
def test_masked_prefix_token_when_changed_has_no_influence(backbone: QwenBackbone) -> None:
    virtual = torch.randn(3, 32)
    embeds, positions = backbone.embed(torch.tensor([[5, 6]])), torch.tensor([[1, 2]])
    mask = torch.tensor([[True, True, False, True, True]])
    one, _ = backbone(embeds, mask, positions, tool_prefix(backbone, virtual))
    virtual[2] += 5.0
    two, _ = backbone(embeds, mask, positions, tool_prefix(backbone, virtual))
    torch.testing.assert_close(one, two)


@torch.no_grad()
def test_backbone_when_a_later_token_changes_earlier_states_stay(backbone: QwenBackbone) -> None:
    one, two = hidden_of(backbone, [5, 6, 7], None), hidden_of(backbone, [5, 6, 99], None)
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2], two[:, 2])


@torch.no_grad()
def test_backbone_when_fed_in_pieces_equals_one_pass(backbone: QwenBackbone) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    whole, _ = backbone(backbone.embed(ids), torch.ones(1, 4, dtype=torch.bool), torch.arange(4).unsqueeze(0))
    _, cache = backbone(
        backbone.embed(ids[:, :3]),
        torch.ones(1, 3, dtype=torch.bool),
        torch.arange(3).unsqueeze(0),
        None,
        True,
    )
    last, _ = backbone(backbone.embed(ids[:, 3:]), torch.ones(1, 4, dtype=torch.bool), torch.tensor([[3]]), cache, True)
    torch.testing.assert_close(last[:, 0], whole[:, 3], rtol=1e-4, atol=1e-5)


def test_generate_when_one_context_serves_many_prompts_equals_one_by_one(backbone: QwenBackbone) -> None:
    context = tool_prefix(backbone, torch.randn(4, 32) * 3)
    prompts = [[5, 6, 7], [9, 10]]
    together = backbone.generate(prompts, 6, context)
    assert together == [backbone.generate([p], 6, context)[0] for p in prompts]
    assert all(len(text) == 6 for text in together)


def test_generate_when_context_is_given_differs_from_baseline(backbone: QwenBackbone) -> None:
    virtual = torch.randn(4, 32) * 3
    prompts = [[i, i + 1, i + 2] for i in range(3, 40, 4)]
    baseline = backbone.generate(prompts, 6)
    conditioned = backbone.generate(prompts, 6, tool_prefix(backbone, virtual), virtual)
    assert sum(a != b for a, b in zip(baseline, conditioned, strict=True)) >= len(prompts) // 2


def test_llama_checkpoint_when_converted_gives_identical_logits() -> None:
    torch.manual_seed(0)
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert (llama_to_qwen2(llama).eval()(ids).logits - llama(ids).logits).abs().max() == 0.0


def test_num_layers_when_more_than_the_checkpoint_has_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 2, got 3"):
        QwenBackbone.from_config(BackboneConfig(source="random", sizes=SIZES, num_layers=3))


def test_saved_backbone_when_loaded_from_a_local_directory_is_the_same(backbone: QwenBackbone, tmp_path) -> None:  # type: ignore[no-untyped-def]
    backbone.lm.save_pretrained(tmp_path)
    loaded = QwenBackbone.from_config(BackboneConfig(source=str(tmp_path), num_layers=1)).eval()
    assert loaded.config.num_hidden_layers == 1
    assert torch.equal(loaded.embedding_table.weight, backbone.embedding_table.weight)


def both_ways(text_layers: int) -> tuple[QwenBackbone, QwenBackbone]:
    """The same weights, once whole and once split."""
    sizes = SIZES | {"num_hidden_layers": 4}
    made = []
    for lower in (0, text_layers):
        torch.manual_seed(0)
        config = BackboneConfig(source="random", sizes=sizes, text_layers=lower)
        made.append(QwenBackbone.from_config(config).eval())
    return made[0], made[1]


@torch.no_grad()
@pytest.mark.parametrize("text_layers", [1, 3])
def test_text_layers_when_nothing_conditions_compute_what_the_whole_model_does(text_layers: int) -> None:
    whole, split = both_ways(text_layers)
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 4, 0, 0]]), torch.tensor([[True] * 4, [True, True, False, False]])
    torch.testing.assert_close(split.text_hidden(ids, mask)[mask], whole.text_hidden(ids, mask)[mask])
    assert split.config.num_hidden_layers == 4 - text_layers
    assert whole.generate([[5, 6, 7]], 6) == split.generate([[5, 6, 7]], 6)


@torch.no_grad()
def test_text_states_when_text_goes_on_behind_a_cache_are_the_same() -> None:
    _, split = both_ways(2)
    ids, mask = torch.tensor([[5, 6, 7, 8, 9]]), torch.ones(1, 5, dtype=torch.bool)
    at_once = split.text_states(ids, mask)
    first, cache = split.run_text(split.embed(ids[:, :3]), mask[:, :3], torch.arange(3).unsqueeze(0), None, True)
    rest, _ = split.run_text(split.embed(ids[:, 3:]), mask, torch.arange(3, 5).unsqueeze(0), cache, True)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), at_once)


def test_text_layers_when_none_is_left_above_is_refused() -> None:
    with pytest.raises(ValueError, match="less than the 2 layers"):
        QwenBackbone.from_config(BackboneConfig(source="random", sizes=SIZES, text_layers=2))
