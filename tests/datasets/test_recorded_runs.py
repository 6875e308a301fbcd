from __future__ import annotations

import pytest

from tomas_router.datasets.recorded_runs import observed_profile, rows_of_runs
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.recorded_run import RecordedRun

CONFIG = {"cpu_core": 2, "cpu_mem_gb": 1.0, "gpu_sm": 0, "gpu_mem_gb": 0}
ROW = {"tool": "ocr", "input_size": "small", **CONFIG, "latency_ms": 100.0}


def _step(**fields: object) -> dict[str, object]:
    return {"tool": "ocr", "input_size": "small", "resource_config": CONFIG, **fields}


def _run(*steps: dict[str, object], instruction: str = "Read it.", **fields: object) -> RecordedRun:
    return RecordedRun.model_validate({"instruction": instruction, "steps": steps, **fields})


def test_rows_when_runs_are_corrected_teach_the_correction_and_skip_failures() -> None:
    rows = rows_of_runs(
        [
            _run(_step(), _step(tool="translate", depends_on=[0])),
            _run(_step(), instruction="Thanks!", corrected_steps=[]),
            _run(_step(status="failed"), instruction="Broken."),
            _run(_step(), instruction="Two.", corrected_steps=[{"tool": "b", "depends_on": [1]}, {"tool": "a"}]),
        ]
    )
    assert [row.instruction for row in rows] == ["Read it.", "Thanks!", "Two."]
    assert [(s.tool, s.depends_on, s.input_size) for s in rows[0].steps] == [
        ("ocr", (), "small"), ("translate", (0,), "small"),
    ]  # fmt: skip
    assert [row.needs_tool for row in rows] == [True, False, True]
    assert [(step.tool, step.depends_on) for step in rows[2].steps] == [("a", ()), ("b", (0,))]  # in call order


def test_rows_when_a_request_was_recorded_twice_keep_the_last_word() -> None:
    corrected = _run(_step(), corrected_steps=[{"tool": "translate"}])
    failed = _run(_step(status="failed"))
    (row,) = rows_of_runs([_run(_step()), corrected, failed])
    assert [step.tool for step in row.steps] == ["translate"]


@pytest.mark.parametrize(("latencies", "expected"), [([400], 100.0), ([400, 50], 100.0), ([400, 50, 300], 300.0)])
def test_profile_when_runs_were_seen_takes_their_median_once_they_are_enough(
    latencies: list[float], expected: float
) -> None:
    runs = [_run(_step(latency_ms=latency)) for latency in latencies]
    (row,) = observed_profile(runs, ProfilingTable.from_rows([ROW])).all_rows
    assert row.latency_ms == expected
    assert row.config.model_dump() == CONFIG


def test_profile_when_a_configuration_is_new_gets_a_row_and_keeps_the_others() -> None:
    faster = CONFIG | {"cpu_core": 4}
    runs = [_run(_step(latency_ms=60, resource_config=faster)), _run(_step(latency_ms=70, resource_config=faster))]
    rows = observed_profile(runs, ProfilingTable.from_rows([ROW])).all_rows
    assert [(row.cpu_core, row.latency_ms) for row in rows] == [(2, 100.0), (4, 65.0)]
    assert [row.latency_ms for row in observed_profile(runs).all_rows] == [65.0]


def test_profile_when_memory_was_exceeded_is_raised_and_never_lowered() -> None:
    before = ProfilingTable.from_rows([ROW])
    (low,) = observed_profile([_run(_step(peak_mem_gb=0.2, latency_ms=5))], before).all_rows
    assert low.cpu_mem_gb == 1.0
    died = _run(_step(status="failed", peak_mem_gb=1.23456, latency_ms=5))
    (high,) = observed_profile([died, died, died], before).all_rows
    assert high.cpu_mem_gb == 1.235
    assert high.latency_ms == 100.0  # a step that failed early was not fast
    assert not observed_profile([died]).all_rows


def test_profile_when_two_rows_become_one_configuration_keeps_the_slower() -> None:
    roomy = ROW | {"cpu_mem_gb": 1.5, "latency_ms": 90.0}
    run = _run(_step(peak_mem_gb=1.5))
    (row,) = observed_profile([run], ProfilingTable.from_rows([ROW, roomy])).all_rows
    assert (row.cpu_mem_gb, row.latency_ms) == (1.5, 100.0)
