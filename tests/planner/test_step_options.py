from __future__ import annotations

from typing import Any

import pytest

from tomas_router.planner.decoding import StepProposal, ToolChoice
from tomas_router.planner.step_options import ToolOption, are_twins, predicted_option, step_options
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry, ToolSpec

pytestmark = pytest.mark.m3

REGISTRY = ToolRegistry.from_tools(
    [
        {"name": "stt_gpu", "desc": "speech to text", "tags": ["group:stt"]},
        {"name": "stt_cpu", "desc": "speech to text", "tags": ["group:stt"]},
        {"name": "sum_a", "desc": "summarise", "output_types": ["summary"]},
        {"name": "sum_b", "desc": "summarise", "output_types": ["summary"]},
        {"name": "plain", "desc": "no tag, no type"},
    ]
)


def rows(tool: str, *sizes: str, count: int = 1) -> list[dict[str, Any]]:
    return [
        {"tool": tool, "input_size": size, "cpu_core": i + 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0,
         "latency_ms": 100.0}
        for size in sizes
        for i in range(count)
    ]  # fmt: skip


def proposal(*choices: tuple[str, float], resources: tuple[float, ...] = (1.2, 3.1, 0, 0, 733)) -> StepProposal:
    chosen = tuple(ToolChoice(REGISTRY.index(name), 0.5, margin) for name, margin in choices)
    return StepProposal(chosen, (0.0, 1.0, 0.0), resources, ())  # type: ignore[arg-type]


def offered(step: StepProposal, size: str, *profile: dict[str, Any], margin: float = 2.0) -> list[tuple[str, str]]:
    options = step_options(step, size, REGISTRY, ProfilingTable.from_rows(profile), margin)  # type: ignore[arg-type]
    return [(REGISTRY.names[o.choice.tool], o.source) for o in options]


def test_profiled_tool_offers_exactly_its_rows_of_the_size() -> None:
    profile = rows("plain", "small", "medium", count=3)
    assert offered(proposal(("plain", 0)), "medium", *profile) == [("plain", "profiled")] * 3


def test_missing_size_takes_the_next_larger_profiled_one() -> None:
    options = step_options(
        proposal(("plain", 0)), "small", REGISTRY, ProfilingTable.from_rows(rows("plain", "large", count=2)), 2.0
    )
    assert [(o.source, o.option.cpu_core) for o in options] == [("profiled", 1), ("profiled", 2)]


def test_tool_profiled_only_at_smaller_sizes_is_predicted() -> None:
    assert offered(proposal(("plain", 0)), "large", *rows("plain", "small", "medium")) == [("plain", "predicted")]


def test_tool_without_profile_is_predicted_and_rounded_up() -> None:
    (option,) = step_options(proposal(("plain", 0)), "medium", REGISTRY, None, 2.0)
    assert isinstance(option, ToolOption)
    o = option.option
    assert (o.cpu_core, o.cpu_mem_gb, o.gpu_sm, o.gpu_mem_gb, o.latency_ms) == (1.5, 3.25, 0.0, 0.0, 740)
    assert option.source == "predicted"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ((0, 0, 0, 0, 0), (0.5, 0.25, 0.0, 0.0, 10)),  # nothing runs on nothing
        ((2.0, 4.0, 40.0, 6.0, 100), (2.0, 4.0, 40.0, 6.0, 100)),  # whole steps stay
        ((2.01, 4.01, 41.0, 6.01, 101), (2.5, 4.25, 45.0, 6.25, 110)),
        ((1, 1, 4.9, 0.7, 50), (1.0, 1.0, 0.0, 0.0, 50)),  # a whiff of GPU is noise
        ((1, 1, 99.0, 3, 50), (1.0, 1.0, 100.0, 3.0, 50)),
    ],
)
def test_predictions_are_rounded_up_to_configurable_steps(
    resources: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    o = predicted_option(resources)
    assert (o.cpu_core, o.cpu_mem_gb, o.gpu_sm, o.gpu_mem_gb, o.latency_ms) == pytest.approx(expected)


def test_twins_within_the_margin_join_with_their_rows() -> None:
    profile = [*rows("stt_gpu", "medium"), *rows("stt_cpu", "medium", count=2)]
    step = proposal(("stt_gpu", 0), ("stt_cpu", 1.9), ("plain", 0.1))
    assert offered(step, "medium", *profile) == [
        ("stt_gpu", "profiled"), ("stt_cpu", "profiled"), ("stt_cpu", "profiled"),
    ]  # fmt: skip
    assert offered(step, "medium", *profile, margin=1.5) == [("stt_gpu", "profiled")]


def test_twin_without_rows_is_never_taken_on_a_prediction_for_another_tool() -> None:
    step = proposal(("stt_gpu", 0), ("stt_cpu", 0.1))
    assert offered(step, "medium") == [("stt_gpu", "predicted")]
    assert offered(step, "medium", *rows("stt_cpu", "medium")) == [("stt_gpu", "predicted"), ("stt_cpu", "profiled")]


def test_untagged_tools_with_the_same_output_are_twins_within_a_quarter_of_the_margin() -> None:
    a, b = REGISTRY["sum_a"], REGISTRY["sum_b"]
    assert are_twins(a, b, 0.5, 2.0)
    assert not are_twins(a, b, 0.6, 2.0)


def test_tools_that_declare_nothing_are_never_twins() -> None:
    one, two = ToolSpec(name="a", desc="d"), ToolSpec(name="b", desc="d")
    assert not are_twins(one, two, 0.0, 2.0)


def test_tagged_tool_has_twins_in_its_group_only() -> None:
    untagged = ToolSpec(name="x", desc="d", output_types=("text",))
    tagged = ToolSpec(name="y", desc="d", output_types=("text",), tags=("group:g",))
    assert not are_twins(tagged, untagged, 0.0, 2.0)
    assert not are_twins(tagged, ToolSpec(name="z", desc="d", tags=("group:h",)), 0.0, 2.0)
