from __future__ import annotations

import json
from pathlib import Path

import pytest

from tomas_router.schema.recorded_run import RecordedRun, read_runs

CONFIG = {"cpu_core": 2, "cpu_mem_gb": 1.0, "gpu_sm": 0, "gpu_mem_gb": 0}
STEP = {"tool": "ocr", "input_size": "small", "resource_config": CONFIG, "latency_ms": 120.5}


def _problems(tmp_path: Path, *lines: object) -> list[str]:
    path = tmp_path / "runs.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    _, log = read_runs(path, {"ocr", "translate"})
    return [str(finding) for finding in log.errors]


def test_runs_when_sound_are_read_with_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps({"instruction": "Read it.", "steps": [STEP | {"peak_mem_gb": 0.7}]}) + "\n\n")
    (run,), log = read_runs(path, {"ocr"})
    assert not log.findings
    assert run.steps[0].latency_ms == 120.5
    assert run.steps[0].peak_mem_gb == 0.7


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "runs.jsonl:1: must be one JSON object a line"),
        ({"steps": []}, "runs.jsonl:1: instruction is missing"),
        ({"instruction": "x", "step": []}, "runs.jsonl:1: step is unknown"),
        ({"instruction": "x", "steps": [STEP | {"latency_ms": 0}]}, "runs.jsonl:1: steps[0].latency_ms must be > 0"),
        ({"instruction": "x", "steps": [STEP | {"tool": "fly"}]}, "steps[0].tool must be a tool of the registry, got"),
        (
            {"instruction": "x", "corrected_steps": [{"tool": "fly"}]},
            "corrected_steps[0].tool must be a tool of the registry, got 'fly'",
        ),
        (
            {"instruction": "x", "steps": [{"tool": "ocr", "latency_ms": 5}]},
            "steps[0] has latency_ms, so it needs input_size and resource_config: what was measured?",
        ),
        (
            {"instruction": "x", "steps": [{"tool": "ocr", "depends_on": [1]}]},
            "steps[0].depends_on must name other steps by position, got [1]",
        ),
        (
            {
                "instruction": "x",
                "corrected_steps": [{"tool": "ocr", "depends_on": [1]}, {"tool": "ocr", "depends_on": [0]}],
            },
            "corrected_steps must not depend on each other in a circle",
        ),
    ],
)
def test_runs_when_a_line_is_wrong_say_where_and_what_is_expected(tmp_path: Path, record: object, message: str) -> None:
    (problem,) = _problems(tmp_path, record)
    assert message in problem


def test_runs_when_several_lines_are_wrong_lists_all(tmp_path: Path) -> None:
    problems = _problems(tmp_path, {"steps": []}, {"instruction": "Read it."}, {"instruction": " "})
    assert [problem.split(":")[1] for problem in problems] == ["1", "3"]


def test_wanted_when_corrected_is_the_correction_and_when_failed_is_unknown() -> None:
    def run(**fields: object) -> RecordedRun:
        return RecordedRun.model_validate({"instruction": "x", "steps": [STEP]} | fields)

    done, failed = run(), run(steps=[STEP, STEP | {"status": "failed"}])
    assert done.wanted == done.steps
    assert failed.wanted is None
    assert run(corrected_steps=[]).wanted == ()
    corrected = run(steps=[STEP | {"status": "failed"}], corrected_steps=[{"tool": "translate"}]).wanted
    assert corrected is not None
    assert [step.tool for step in corrected] == ["translate"]


def test_runs_when_written_as_in_the_docs_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "own_tools.md").read_text(encoding="utf-8")
    block = page.partition("## Recorded runs")[2].partition("```json\n")[2].partition("```")[0]
    path = tmp_path / "runs.jsonl"
    path.write_text(block, encoding="utf-8")
    runs, log = read_runs(path, {"ocr", "translate"})
    assert not log.findings
    assert [None if run.wanted is None else len(run.wanted) for run in runs] == [1, 2, 0]
