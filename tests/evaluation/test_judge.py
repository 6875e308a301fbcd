from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tomas_router.datasets.oracle import label
from tomas_router.datasets.rows import Row, Step
from tomas_router.errors import TomasRouterError
from tomas_router.evaluation.asking import Settings
from tomas_router.evaluation.curves import curve_of, shuffled, zeroed
from tomas_router.evaluation.evaluate import save
from tomas_router.evaluation.grids import markdown, show
from tomas_router.evaluation.judge import judge
from tomas_router.evaluation.report import OURS, Report, SourceReport
from tomas_router.evaluation.sources import EvalSource
from tomas_router.planner.decoding import RawPlan, StepProposal, ToolChoice
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest

pytest.importorskip("sklearn")
pytestmark = pytest.mark.m4

T_INF_MS = 500
REGISTRY = ToolRegistry.from_tools(
    [
        {"name": "stt_gpu", "desc": "Writes down speech, on a GPU.", "tags": ["group:stt"]},
        {"name": "stt_cpu", "desc": "Writes down speech, on a CPU.", "tags": ["group:stt"]},
        {"name": "translate", "desc": "Turns text into another language."},
    ]
)


def profile(tool: str, cpu: float, sm: float, latency: float) -> ProfileRow:
    return ProfileRow(
        tool=tool, input_size="small", cpu_core=cpu, cpu_mem_gb=0.1, gpu_sm=sm, gpu_mem_gb=sm / 50, latency_ms=latency
    )


PROFILING = ProfilingTable.from_rows(
    [profile("stt_gpu", 0.1, 5, 1000), profile("stt_cpu", 0.1, 0, 3000), profile("translate", 0.05, 0, 400)]
)
TEXTS = ["transcribe and translate", "write down the talk in French", "subtitles in Thai"] * 4
STEPS = (Step("stt_gpu", (), "small", "stt"), Step("translate", (0,), "small"))
ROWS = (
    *(Row(id=f"r{i}", instruction=text, steps=STEPS, split="val") for i, text in enumerate(TEXTS)),
    Row(id="n", instruction="hello there", steps=(), needs_tool=False, split="val"),
)
SOURCE = EvalSource("own_test", ROWS, ROWS, REGISTRY, PROFILING, edges_known=True, call_order=False)


class OracleRouter:
    """Answers with the oracle's plan for the curve it is given: perfect, but misled by a false curve."""

    def __init__(self, wrong: str | None = None, fails: bool = False) -> None:
        self._wrong = wrong
        self._fails = fails

    def propose(self, request: PlanRequest, registry: object, profiling: object, timeline: SystemTimeline) -> RawPlan:
        row, found = self._solve(request, timeline)
        if not row.steps:
            return RawPlan((), "not_needed", 0.1, 0.0)
        steps = []
        for k, tool in enumerate(found.tools):
            config = found.allocations[k] if found.allocations else None
            five = (0.05, 0.1, 0.0, 0.0, 400.0)
            if config is not None:
                c = config.config
                five = (c.cpu_core, c.cpu_mem_gb, c.gpu_sm, c.gpu_mem_gb, float(config.latency_ms))
            choice = ToolChoice(REGISTRY.index(tool), 0.9, 0.0)
            steps.append(StepProposal((choice,), (3.0, 0.0, 0.0), five, row.steps[k].depends_on))
        return RawPlan(tuple(steps), None, 0.9, -0.1)

    def plan_with_proposals(
        self, request: PlanRequest, registry: object, profiling: object, timeline: SystemTimeline
    ) -> tuple[ToolPlan, RawPlan]:
        plan = self.plan(request, registry, profiling, timeline)
        return plan, self.propose(request, registry, profiling, timeline)

    def plan(self, request: PlanRequest, registry: object, profiling: object, timeline: SystemTimeline) -> ToolPlan:
        if self._fails:
            raise TomasRouterError("out of order")
        row, found = self._solve(request, timeline)
        common = {
            "timeline_id": "t", "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:01:00Z",
            "t_inf_ms": T_INF_MS, "gate_confidence": 0.5, "model": "oracle",
        }  # fmt: skip
        if not row.steps:
            return ToolPlan(status="no_tool", reason="not_needed", **common)
        placed = found.allocations
        steps = []
        for k, tool in enumerate(found.tools):
            named = self._wrong or tool
            steps.append(
                {
                    "id": f"s{k + 1}", "tool_id": REGISTRY.index(named), "tool_name": named, "input_size": "small",
                    "resource_config": placed[k].config if placed else None,
                    "expected_latency_ms": float(placed[k].latency_ms) if placed else None,
                    "start_ms": placed[k].start_ms if placed else None,
                    "depends_on": [f"s{d + 1}" for d in row.steps[k].depends_on],
                    "confidence": 0.9, "source": "profiled" if placed else None,
                }
            )  # fmt: skip
        status = {"status": "planned"} if placed else {"status": "infeasible", "reason": "no room"}
        return ToolPlan.model_validate({**common, **status, "steps": steps})

    def _solve(self, request: PlanRequest, timeline: SystemTimeline) -> tuple[Row, object]:
        row = next(r for r in ROWS if r.id == request.id)
        return row, label(row, REGISTRY, PROFILING, timeline, T_INF_MS)


def test_judge_when_the_planner_is_perfect_gives_full_marks() -> None:
    report = judge(SOURCE, OracleRouter(), Settings())
    ours = report.methods[OURS]
    for name in (
        "node_f1",
        "link_f1",
        "edge_f1",
        "exact",
        "gate",
        "size",
        "tool",
        "tool_strict",
        "final_feasible",
        "parse",
    ):
        assert ours[name].value == pytest.approx(1.0), name
    assert report.counts["over_commits"] == report.counts["refused"] == 0
    assert report.counts["answered"] == len(ROWS)
    assert report.resources[OURS]["mape_latency_ms"].value == 0.0
    assert report.resources[OURS]["raw_feasible"].value == pytest.approx(1.0, abs=0.1)
    assert report.resources["mean row"]["mae_latency_ms"].value > 0
    placed = {name: cells["final_feasible"].value for name, cells in report.placements.items()}
    assert placed == {"ours": 1.0, "static": 1.0, "greedy": 1.0}  # one profile a tool, and the oracle's own tools
    assert report.placements["ours"]["makespan_ratio"].value == 1.0
    assert all(record.scores["node_f1"] == (pytest.approx(1.0), 1.0) for record in report.records[:-1])
    assert report.tool_errors["translate"]["mape_latency_ms"].value == 0.0
    assert report.by_steps[OURS]["2"]["exact"].value == 1.0
    assert set(report.methods) >= {"majority", "retrieval (BM25)", "nearest plan (TF-IDF)"}
    assert report.methods["nearest plan (TF-IDF)"]["tool"].value == pytest.approx(1.0)


def test_judge_when_the_curve_is_shuffled_or_empty_shows_the_loss() -> None:
    conditions = judge(SOURCE, OracleRouter(), Settings(baselines=False)).conditions
    assert set(conditions) == {"true", "another row's", "empty"}
    assert conditions["true"]["raw_twin_choice"].value == 1.0
    # Without a GPU in sight the oracle names the CPU twin; on these seeded curves that is often wrong.
    assert conditions["another row's"]["raw_twin_choice"].value < 1.0


def test_judge_when_a_twin_is_named_counts_up_to_twins_only() -> None:
    ours = judge(SOURCE, OracleRouter(wrong="stt_cpu"), Settings(baselines=False)).methods[OURS]
    assert ours["tool"].value == pytest.approx(0.5)  # speech right up to twins, translation wrong
    assert ours["tool_strict"].value < 0.5
    assert ours["node_f1"].value < 1.0


def test_judge_when_every_row_raises_scores_zero_and_goes_on() -> None:
    report = judge(SOURCE, OracleRouter(fails=True), Settings(baselines=False))
    ours = report.methods[OURS]
    assert all(ours[name].value == 0.0 for name in ("node_f1", "gate", "parse", "final_feasible"))
    assert report.counts["answered"] == 0


def test_curve_of_when_asked_twice_is_the_same_and_depends_on_row_and_seed() -> None:
    first = curve_of(ROWS[0], 0).timeline.timeline_id
    assert first == curve_of(ROWS[0], 0).timeline.timeline_id
    assert first != curve_of(ROWS[1], 0).timeline.timeline_id
    assert first != curve_of(ROWS[0], 1).timeline.timeline_id


def test_shuffled_when_there_are_several_gives_none_its_own() -> None:
    curves = [curve_of(row, 0).timeline for row in ROWS]
    assert all(a is not b for a, b in zip(curves, shuffled(curves, 0), strict=True))
    assert not np.any(zeroed(curves[0]).at([0.0, 1000.0]))


def test_report_when_saved_holds_json_and_markdown(tmp_path: Path) -> None:
    report = Report("toy", "val", 0, "tomas eval", [judge(SOURCE, OracleRouter(), Settings())])
    save(report, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    source = data["sources"][0]
    assert source["methods"]["ours"]["exact"] == {"value": 1.0, "low": 1.0, "high": 1.0, "rows": 12}
    text = (tmp_path / "report.md").read_text()
    assert "## own_test: 13 rows, 3 tools" in text
    assert "|measure, %|ours|" in text
    assert "plans that over-commit|0" in text
    printed = io.StringIO()
    show(report, Console(width=240, file=printed))
    assert "exact tools" in printed.getvalue()
    assert "does the curve matter?" in printed.getvalue()


def test_report_when_a_source_has_no_resources_shows_no_empty_tables() -> None:
    text = markdown(Report("toy", "val", 0, "x", [SourceReport("s", 1, 1)]))
    assert "resources" not in text
    assert "by kind" not in text


def test_judge_when_lists_are_wanted_asks_them_and_else_not() -> None:
    with_lists = judge(SOURCE, OracleRouter(), Settings(lists=True))
    # Three tools, two of them twins: too few for any list, so only the whole registry is left to count.
    assert with_lists.by_candidates[OURS]["3"]["node_f1"].rows == len(TEXTS)
    assert with_lists.likeness == "TF-IDF"
    without = judge(SOURCE, OracleRouter(), Settings())
    assert (without.lists, without.by_candidates, without.likeness) == ({}, {}, "")
