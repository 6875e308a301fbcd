"""Every case of the allocation problem's reference page, from the curve's file to the answer."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.planner.independent_checker import Run, violations
from tests.shared_resources import ABSENT, SHARED
from tomas_router.errors import InfeasibleError
from tomas_router.planner import Allocation, NoProfileError, ResourceOption, StepDemand, allocate, allocate_plan
from tomas_router.planner.allocator import DEFAULT_LIMITS, GREEDY
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.runtime.timeline import SystemTimeline

pytestmark = pytest.mark.m3

FILE = SHARED / "hard_cases.json"
COLUMNS = "time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb"
CP_SAT_ALONE = SearchLimits(budget_ms=0.0, exact_ms=60_000.0)


def cases(kind: str) -> list[Any]:
    if not FILE.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=ABSENT))]
    found = json.loads(FILE.read_text(encoding="utf-8"))[kind]
    assert found, "an empty list would prove nothing"
    return [pytest.param(case, id=case["id"]) for case in found]


def timeline_of(case: dict[str, Any], folder: Path) -> SystemTimeline:
    """The curve by the way that outside data enters: a file."""
    path, width = folder / "timeline.csv", len(case["timeline"][0])
    lines = [",".join(COLUMNS.split(",")[:width]), *(",".join(map(str, row)) for row in case["timeline"])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return SystemTimeline.from_csv(path, tail=case.get("tail"), horizon_ms=case["horizon_ms"])


def options_of(case: dict[str, Any]) -> list[ResourceOption]:
    return [ResourceOption(**row) for row in case["profile"]]


def check(case: dict[str, Any], placed: list[Allocation], depends_on: list[tuple[int, ...]], hold: bool) -> None:
    runs = [
        Run(a.start_ms, a.end_ms, (a.config.cpu_core, a.config.cpu_mem_gb, a.config.gpu_sm, a.config.gpu_mem_gb))
        for a in placed
    ]
    horizon = None if hold else case["horizon_ms"]
    release = case.get("release_ms", 0)
    assert violations(case["timeline"], runs, horizon_ms=horizon, depends_on=depends_on, release_ms=release) == []


@pytest.mark.parametrize("case", cases("single"))
def test_single_step_of_the_reference_page_has_the_expected_answer(case: dict[str, Any], tmp_path: Path) -> None:
    expected = case["expect"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if expected is None:
            with pytest.raises(InfeasibleError) as infeasible:
                allocate(options_of(case), timeline_of(case, tmp_path), case["release_ms"])
            assert infeasible.value.shortfalls
            return
        if expected in ("ValueError", "NoProfileError, not a silent default"):
            with pytest.raises(ValueError if expected == "ValueError" else NoProfileError):
                allocate(options_of(case), timeline_of(case, tmp_path), case["release_ms"])
            return
        placed = allocate(options_of(case), timeline_of(case, tmp_path), case["release_ms"])
    told = " ".join(str(warning.message) for warning in caught)
    if isinstance(expected, dict):
        assert (placed.option_index, placed.start_ms, placed.end_ms) == tuple(expected.values())
        assert placed.beyond_horizon == (case.get("flag") == "beyond_horizon")
        check(case, [placed], [()], hold=case["tail"] == "hold")
    elif expected == "policy: hold + flag":
        assert placed.beyond_horizon
    elif expected == "clamp to 0 + warn":
        assert "-3" in told
        assert (placed.start_ms, placed.end_ms) == (0, 1000)  # ends where the clamped piece begins
    else:
        assert expected.startswith("warn: "), expected
        assert expected.split()[-1] in told


@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, CP_SAT_ALONE], ids=["multi-start", "cp-sat"])
@pytest.mark.parametrize("case", cases("multi"))
def test_plan_of_the_reference_page_has_the_expected_makespan(
    case: dict[str, Any], limits: SearchLimits, tmp_path: Path
) -> None:
    before = [tuple(a for a, b in case["deps"] if b == step) for step in range(case["steps"])]
    steps = [StepDemand(options_of(case), b) for b in before]
    timeline = timeline_of(case, tmp_path)
    if case.get("expect") == "ValueError":
        with pytest.raises(ValueError, match="cycle"):
            allocate_plan(steps, timeline, limits=limits)
        return
    placed = allocate_plan(steps, timeline, limits=limits)
    assert max(a.end_ms for a in placed) == case["expect_makespan"]
    check(case, list(placed), before, hold=False)
    if "greedy_makespan" in case:
        assert max(a.end_ms for a in allocate_plan(steps, timeline, limits=GREEDY)) == case["greedy_makespan"]
