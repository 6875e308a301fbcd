from __future__ import annotations

from pathlib import Path

from tomas_router.executors.execution import ExecutionReport, StepReport
from tomas_router.executors.recording import append_run, recorded_run
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.recorded_run import read_runs

CONFIG = {"cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0}


def _plan() -> ToolPlan:
    steps = [
        {
            "id": f"s{number}", "tool_id": number, "tool_name": name, "input_size": "small", "resource_config": CONFIG,
            "expected_latency_ms": 50, "start_ms": 400 + 100 * number, "depends_on": depends, "confidence": 0.9,
            "source": "profiled",
        }
        for number, name, depends in ((1, "ocr", []), (2, "translate", ["s1"]))
    ]  # fmt: skip
    return ToolPlan.model_validate(
        {
            "status": "planned", "timeline_id": "t", "created_at": "2026-01-01T00:00:00Z", "model": "m",
            "expires_at": "2026-01-01T01:00:00Z", "t_inf_ms": 500, "gate_confidence": 1.0, "steps": steps,
        }
    )  # fmt: skip


def test_recorded_run_when_a_plan_was_run_reads_back_with_its_latencies(tmp_path: Path) -> None:
    report = ExecutionReport(
        (StepReport("s1", "ocr", "done", 500, 580), StepReport("s2", "translate", "done", 580, 600))
    )
    for _ in range(2):
        append_run(tmp_path / "runs.jsonl", recorded_run("Read it.", _plan(), report))
    runs, log = read_runs(tmp_path / "runs.jsonl", {"ocr", "translate"})
    assert not log.findings
    assert len(runs) == 2
    assert [(s.tool, s.latency_ms, s.depends_on) for s in runs[0].steps] == [
        ("ocr", 80.0, ()), ("translate", 20.0, (0,)),
    ]  # fmt: skip


def test_recorded_run_when_a_step_failed_teaches_nothing_and_simulated_steps_measure_nothing() -> None:
    failed = (StepReport("s1", "ocr", "done", 500, 580), StepReport("s2", "translate", "failed", 580, 590, "no"))
    run = recorded_run("Read it.", _plan(), ExecutionReport(failed))
    assert run.wanted is None
    assert [step.latency_ms for step in run.steps] == [80.0, None]
    simulated = (StepReport("s1", "ocr", "simulated", 0, 50), StepReport("s2", "translate", "simulated", 50, 60))
    for report in (ExecutionReport(simulated), None):
        run = recorded_run("Read it.", _plan(), report)
        assert [step.latency_ms for step in run.steps] == [None, None]
        assert run.wanted == run.steps
