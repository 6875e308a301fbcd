from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tomas_router.model.packing import NUMBER_LIMIT, STEP_LIMIT, pack, rounded_rows
from tomas_router.training.rounding import LayerRounding

pytestmark = pytest.mark.m4


class Layer(nn.Module):
    """The parts of a language model's layer that are rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(64)
        self.q_proj = nn.Linear(64, 32)
        self.down_proj = nn.Linear(32, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.q_proj(self.input_layernorm(x)))


def layer() -> tuple[Layer, torch.Tensor]:
    torch.manual_seed(0)
    return Layer(), torch.randn(5, 64)


def test_pack_when_unpacked_has_few_values_and_stays_close() -> None:
    weight = torch.randn(3, 40, 96, generator=torch.Generator().manual_seed(0))
    packed = pack(weight)
    assert packed.numbers_NK.abs().max() == NUMBER_LIMIT
    assert packed.steps_NB.min() >= 1
    assert packed.steps_NB.max() <= STEP_LIMIT
    assert (packed.weight() - weight).norm() / weight.norm() < 0.12


def test_pack_when_done_twice_hardly_moves() -> None:
    once = pack(torch.randn(300, 576, generator=torch.Generator().manual_seed(1))).weight()
    assert (pack(once).weight() - once).norm() / once.norm() < 0.01


def test_pack_when_inputs_do_not_divide_says_so() -> None:
    with pytest.raises(ValueError, match="multiple of 32, got 33"):
        pack(torch.zeros(2, 33))


def test_pack_when_a_row_is_zero_gives_zero() -> None:
    assert (pack(torch.zeros(2, 64)).weight() == 0).all()


def test_rounding_when_off_changes_nothing() -> None:
    module, x = layer()
    plain = module(x)
    LayerRounding([module]).refresh()
    assert torch.equal(module(x), plain)


def test_rounding_when_on_computes_with_packed_weights_and_rounded_rows() -> None:
    module, x = layer()
    rounding = LayerRounding([module])
    rounding.on = True
    rounding.refresh()
    hidden = rounded_rows(module.input_layernorm.__class__.forward(module.input_layernorm, x))
    hidden = hidden @ pack(module.q_proj.weight).weight().T + module.q_proj.bias
    expected = rounded_rows(hidden) @ pack(module.down_proj.weight).weight().T + module.down_proj.bias
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


def test_rounding_when_trained_moves_the_unrounded_weights() -> None:
    module, x = layer()
    rounding = LayerRounding([module])
    rounding.on = True
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        rounding.refresh()
        loss = (module(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(module.q_proj.weight, pack(module.q_proj.weight).weight())


def test_rounding_when_settled_leaves_the_weights_that_were_computed_with() -> None:
    module, x = layer()
    rounding = LayerRounding([module])
    rounding.settle()
    before = module.q_proj.weight.clone()
    rounding.on = True
    rounding.refresh()
    rounded = module(x)
    rounding.settle()
    torch.testing.assert_close(module.q_proj.weight, pack(before).weight())
    assert not torch.equal(module.q_proj.weight, before)
    torch.testing.assert_close(module(x), rounded, atol=0.05, rtol=0.05)


def test_rounding_when_removed_leaves_the_layers_as_they_were() -> None:
    module, x = layer()
    plain = module(x)
    rounding = LayerRounding([module])
    rounding.on = True
    rounding.refresh()
    assert not torch.equal(module(x), plain)
    rounding.remove()
    assert torch.equal(module(x), plain)
    assert "forward" not in vars(module.q_proj)
    assert not module.input_layernorm._forward_hooks
    assert not module.down_proj._forward_pre_hooks
