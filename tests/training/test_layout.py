import pytest

pytest.importorskip("torch")

from tomas_router.training.layout import lay_out

pytestmark = pytest.mark.m4


def test_layout_when_lengths_differ_places_every_slot_behind_its_own_task() -> None:
    # V = 2 virtual tokens, tasks of 3 and 1 tokens (S = 3), plans of 1 and 2 tools (K = 2)
    layout = lay_out([3, 1], [1, 2], virtual_tokens=2)
    plan, slot, config, tool = 5, 6, 7, 9  # behind [V | S]: special tokens 5..8, tools from 9
    assert layout.source_BT[0, :10].tolist() == [0, 1, 2, 3, 4, plan, slot, tool, config, slot]
    assert layout.source_BT[1].tolist() == [0, 1, 2, plan, slot, tool, config, slot, tool + 1, config, slot]
    assert layout.mask_BT.sum(1).tolist() == [10, 11]
    assert layout.gate_pos_B.tolist() == [4, 2]
    assert layout.slot_pos_BK1.tolist() == [[6, 9, 0], [4, 7, 10]]
    assert layout.step_pos_BK.tolist() == [[8, 0], [6, 9]]
