from __future__ import annotations

import pytest

from tomas_router.evaluation.metrics import (
    absolute_percentage_error,
    aligned_steps,
    edge_f1,
    first_tool,
    is_exact,
    matched_steps,
    micro_f1,
    published_f1,
    same_tools,
    set_f1,
)
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape

pytestmark = pytest.mark.m4


def test_published_f1_when_one_of_three_is_wrong_is_two_thirds() -> None:
    assert published_f1(["a", "b", "x"], ["a", "b", "c"]) == pytest.approx(2 / 3)


def test_published_f1_when_lengths_differ_weighs_precision_and_recall() -> None:
    # precision 1/1, recall 1/3
    assert published_f1(["a"], ["a", "b", "c"]) == pytest.approx(0.5)


def test_published_f1_when_either_side_is_empty_is_zero() -> None:
    assert published_f1([], ["a"]) == published_f1(["a"], []) == published_f1([], []) == 0.0


def test_published_f1_when_a_tool_repeats_divides_by_list_length_as_their_code_does() -> None:
    assert published_f1(["a", "a"], ["a", "a"]) == pytest.approx(0.5)
    assert set_f1(["a", "a"], ["a", "a"]) == pytest.approx(1.0)


def test_is_exact_when_f1_misses_one_only_by_the_guard_counts() -> None:
    assert is_exact(published_f1(["a", "b"], ["b", "a"])) == 1.0
    assert is_exact(published_f1(["a", "b"], ["b"])) == 0.0


def test_links_when_steps_branch_are_tool_pairs() -> None:
    plan = PlanShape(("a", "b", "c"), ((), (0,), (0, 1)))
    assert plan.links() == (("a", "b"), ("a", "c"), ("b", "c"))
    assert PlanShape.chain(("a", "b", "c")).links() == (("a", "b"), ("b", "c"))


def test_edge_f1_when_a_tool_is_called_twice_tells_the_calls_apart() -> None:
    gold = PlanShape(("a", "a", "b"), ((), (), (0, 1)))
    half = PlanShape(("a", "a", "b"), ((), (), (1,)))
    assert half.edges() == {(("a", 1), ("b", 0))}
    assert edge_f1(half, gold) == pytest.approx(2 * 1 / 3)
    assert edge_f1(gold, gold) == 1.0


def test_edge_f1_when_the_gold_plan_is_parallel_rewards_no_edges_but_not_no_plan() -> None:
    parallel = PlanShape(("a", "b"), ((), ()))
    assert edge_f1(parallel, parallel) == 1.0
    assert edge_f1(PlanShape.chain(("a", "b")), parallel) == 0.0
    assert edge_f1(NO_PLAN, parallel) == 0.0


def test_same_tools_when_order_differs_is_right_but_counts_matter() -> None:
    assert same_tools(["b", "a"], ["a", "b"]) == 1.0
    assert same_tools(["a"], ["a", "a"]) == 0.0


def test_first_tool_when_nothing_was_planned_is_wrong() -> None:
    assert first_tool([], ["a"]) == 0.0
    assert first_tool(["a", "z"], ["a"]) == 1.0


def test_matched_steps_when_twins_are_alike_pairs_equal_names_first() -> None:
    def alike(step: int, tool: str) -> bool:
        return step == 0 and tool in {"stt_gpu", "stt_cpu"}

    assert matched_steps(["stt_cpu"], ["stt_gpu"]) == 0
    assert matched_steps(["stt_cpu"], ["stt_gpu"], alike) == 1
    # The one predicted stt_cpu belongs to the step that names it, not to its twin.
    assert matched_steps(["stt_cpu"], ["stt_gpu", "stt_cpu"], alike) == 1
    assert matched_steps(["stt_cpu", "stt_cpu"], ["stt_gpu", "stt_cpu"], alike) == 2


def test_aligned_steps_when_order_differs_pairs_each_step_once() -> None:
    assert aligned_steps(["b", "a", "a"], ["a", "b", "a", "a"]) == [(1, 0), (0, 1), (2, 2)]


def test_absolute_percentage_error_when_truth_is_zero_is_undefined() -> None:
    assert absolute_percentage_error(3.0, 4.0) == pytest.approx(0.25)
    assert absolute_percentage_error(3.0, 0.0) is None


def test_micro_f1_when_rows_are_pooled_is_the_f1_of_taskbench() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rows = [(["a", "b"], ["a", "c"]), ([], ["a"]), (["a", "a"], ["a"]), (["d"], [])]
    parts = [micro_f1(said, wanted) for said, wanted in rows]
    # Their code lays every row's union of items end to end and scores membership as a binary label.
    items = [(item in wanted, item in said) for said, wanted in rows for item in sorted({*said, *wanted})]
    expected = sklearn.f1_score([gold for gold, _ in items], [said for _, said in items])
    assert sum(total for total, _ in parts) / sum(weight for _, weight in parts) == pytest.approx(expected)
    assert micro_f1([], []) == (0, 0)
