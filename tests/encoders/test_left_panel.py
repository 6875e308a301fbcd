import pytest

torch = pytest.importorskip("torch")

from tomas_router.config import ToolConfig
from tomas_router.encoders.complete_tool_encoder import CompleteToolEncoder
from tomas_router.encoders.resource_mlp import ResourceMLP
from tomas_router.encoders.set_encoder import ToolAwareEmbedding, ToolSetEncoder
from tomas_router.encoders.tool_encoder import EmbeddingCache, NameTokenEncoder, TextToolEncoder
from tomas_router.errors import UnknownToolError

pytestmark = pytest.mark.m1
D = 32


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_resource_mlp_when_the_row_differs_gives_another_vector() -> None:
    mlp = ResourceMLP(8)
    mask = torch.ones(1, 1, dtype=torch.bool)
    small, large = torch.zeros(1, 1, 6), torch.ones(1, 1, 6)
    assert not torch.allclose(mlp(small, mask), mlp(large, mask))


def test_resource_mlp_when_rows_are_padded_or_permuted_gives_the_same_vector() -> None:
    mlp = ResourceMLP(8)
    rows = torch.randn(1, 3, 6)
    padded = torch.cat([rows, torch.randn(1, 2, 6)], dim=1)
    mask = torch.tensor([[True, True, True, False, False]])
    plain = mlp(rows, torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(mlp(padded, mask), plain)
    torch.testing.assert_close(mlp(rows[:, [2, 0, 1]], torch.ones(1, 3, dtype=torch.bool)), plain)


def test_resource_mlp_when_a_tool_has_no_rows_returns_the_learned_vector() -> None:
    mlp = ResourceMLP(8)
    with torch.no_grad():
        mlp.no_profile_E.copy_(torch.arange(8.0))
    out = mlp(torch.randn(2, 4, 6), torch.tensor([[False] * 4, [True] * 4]))
    torch.testing.assert_close(out[0], torch.arange(8.0))
    assert not torch.allclose(out[1], torch.arange(8.0))


def test_name_table_when_a_name_is_unknown_refuses_it_by_name() -> None:
    encoder = NameTokenEncoder(["resize", "crop"], 4, first_id=100)
    assert encoder.token_ids(["crop", "resize"]).tolist() == [101, 100]
    with pytest.raises(UnknownToolError, match="blur"):
        encoder.token_ids(["crop", "blur"])


def test_text_encoder_when_padding_changes_gives_the_same_vector() -> None:
    encoder = TextToolEncoder(D, 12)
    hidden = torch.randn(1, 5, D)
    padded = torch.cat([hidden, torch.randn(1, 3, D)], dim=1)
    mask = torch.tensor([[True] * 5 + [False] * 3])
    torch.testing.assert_close(encoder(padded, mask), encoder(hidden, torch.ones(1, 5, dtype=torch.bool)))


def test_embedding_cache_when_asked_again_encodes_only_what_is_missing() -> None:
    cache, asked = EmbeddingCache(), []

    def encode(missing: list[int]) -> torch.Tensor:
        asked.append(missing)
        return torch.tensor([[float(i)] for i in missing])

    cache.get_or_encode(["a", "b"], encode)
    again = cache.get_or_encode(["b", "c"], encode)
    assert asked == [[0, 1], [1]]
    assert again[:, 0].tolist() == [1.0, 1.0]


def test_tool_aware_split_when_concatenated_is_the_inverse() -> None:
    aware = ToolAwareEmbedding(20, 12, D)
    v_tool, v_resource = torch.randn(3, 20), torch.randn(3, 12)
    back = aware.split(aware(v_tool, v_resource))
    assert torch.equal(back[0], v_tool)
    assert torch.equal(back[1], v_resource)


def test_tool_aware_when_widths_do_not_add_up_names_them() -> None:
    with pytest.raises(ValueError, match=r"32, got 20 \+ 10"):
        ToolAwareEmbedding(20, 10, D)


def test_set_encoder_when_tools_are_permuted_permutes_its_output() -> None:
    encoder = ToolSetEncoder(D, 4).eval()
    tools, order = torch.randn(2, 6, D), torch.tensor([3, 0, 5, 1, 4, 2])
    mask = torch.ones(2, 6, dtype=torch.bool)
    torch.testing.assert_close(encoder(tools, mask)[:, order], encoder(tools[:, order], mask))


def test_set_encoder_when_a_masked_tool_changes_others_do_not() -> None:
    encoder = ToolSetEncoder(D, 4).eval()
    tools, mask = torch.randn(1, 4, D), torch.tensor([[True, True, True, False]])
    changed = tools.clone()
    changed[0, 3] += 10.0
    torch.testing.assert_close(encoder(tools, mask)[:, :3], encoder(changed, mask)[:, :3])


def test_complete_encoder_when_profile_rows_differ_gives_another_v_resource_and_the_same_v_tool() -> None:
    encoder = CompleteToolEncoder(ToolConfig(d_resource=8), D).eval()
    hidden, text_mask = torch.randn(1, 5, D), torch.ones(1, 5, dtype=torch.bool)
    row_mask = torch.ones(1, 1, dtype=torch.bool)
    one = encoder.aware.split(encoder.encode(hidden, text_mask, torch.zeros(1, 1, 6), row_mask))
    two = encoder.aware.split(encoder.encode(hidden, text_mask, torch.ones(1, 1, 6), row_mask))
    assert torch.equal(one[0], two[0])
    assert not torch.allclose(one[1], two[1])
