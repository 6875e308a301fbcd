import pytest

torch = pytest.importorskip("torch")

from tomas_router.config import TemporalConfig
from tomas_router.encoders.task_encoder import RetrievalEncoder, UserTaskEncoder
from tomas_router.encoders.temporal_encoder import TemporalEncoder

pytestmark = pytest.mark.m2


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("pooling", "expected"), [("mean", 2.0), ("max", 3.0), ("cls", 1.0), ("last", 3.0)])
def test_task_pooling_when_padded_reads_real_tokens_only(pooling: str, expected: float) -> None:
    states = torch.tensor([1.0, 2.0, 3.0, 99.0]).reshape(1, 4, 1)
    mask = torch.tensor([[True, True, True, False]])
    assert UserTaskEncoder(pooling)(states, mask).item() == expected


def test_task_pooling_when_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="median"):
        UserTaskEncoder("median")  # type: ignore[arg-type]


@pytest.mark.parametrize("reads_states", [False, True])
def test_retrieval_vector_when_tokens_are_reordered_or_padded_stays_and_has_unit_norm(reads_states: bool) -> None:
    encoder = RetrievalEncoder(10, 6, 4, reads_states)
    ids, order = torch.tensor([[3, 1, 4, 0]]), torch.tensor([2, 0, 1, 3])
    embedded, states = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    mask = torch.tensor([[True, True, True, False]])
    one = encoder(embedded, states, ids, mask)
    torch.testing.assert_close(encoder(embedded[:, order], states[:, order], ids[:, order], mask), one)
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(1))
    other = encoder(embedded, states + torch.randn_like(states), ids, mask)
    assert bool((other - one).abs().max() > 1e-3) is reads_states


def test_retrieval_vector_when_one_token_is_huge_is_not_drowned_by_it() -> None:
    encoder = RetrievalEncoder(10, 6, 4, reads_states=True)
    ids, mask = torch.tensor([[3, 1, 4]]), torch.ones(1, 3, dtype=torch.bool)
    embedded, states = torch.randn(1, 3, 6), torch.randn(1, 3, 6)
    larger = states.clone()
    larger[:, 0] *= 1000.0
    one, two = (encoder(embedded, s, ids, mask) for s in (states, larger))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_temporal_encoder_when_given_a_batch_returns_b_by_256() -> None:
    out = TemporalEncoder(TemporalConfig())(torch.randn(5, 2, 96, 4), torch.randn(5, 1))
    assert out.shape == (5, 256)


def test_temporal_encoder_when_gpus_are_permuted_stays() -> None:
    encoder = TemporalEncoder(TemporalConfig()).eval()
    series, horizon = torch.randn(1, 3, 96, 4), torch.zeros(1, 1)
    torch.testing.assert_close(encoder(series[:, [2, 0, 1]], horizon), encoder(series, horizon), rtol=1e-4, atol=1e-5)


def test_temporal_encoder_when_curve_or_horizon_changes_answers_differently() -> None:
    encoder = TemporalEncoder(TemporalConfig()).eval()
    series, horizon = torch.zeros(1, 1, 96, 4), torch.zeros(1, 1)
    plain = encoder(series, horizon)
    dip = series.clone()
    dip[:, :, 40:60, 2] = -2.0
    assert not torch.allclose(encoder(dip, horizon), plain)
    assert not torch.allclose(encoder(series, horizon + 1), plain)
