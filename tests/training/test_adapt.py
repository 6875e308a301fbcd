from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests import tiny
from tomas_router.datasets.rows import Row, load_rows
from tomas_router.errors import DataValidationError
from tomas_router.features.known_tools import KnownTools
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import load_tool_registry
from tomas_router.training.__main__ import main
from tomas_router.training.adapt import adapt, checked_rows, enough, with_splits
from tomas_router.training.checkpoint import Checkpoint, load_checkpoint

TOOLS = [{"name": "water_plants", "desc": "Waters the plants."}, {"name": "feed_cat", "desc": "Feeds the cat."}]


def _write(folder: Path, tools: list[str]) -> tuple[Path, Path]:
    registry, requests = folder / "tools.json", folder / "requests.jsonl"
    registry.write_text(json.dumps(TOOLS))
    lines = [json.dumps({"instruction": f"Do job {i}.", "steps": [{"tool": tool}]}) for i, tool in enumerate(tools)]
    requests.write_text("\n".join(lines) + "\n")
    return registry, requests


def test_checked_rows_when_tools_are_unknown_lists_every_one(tmp_path: Path) -> None:
    registry, requests = _write(tmp_path, ["feed_cat"] * 10 + ["walk_dog", "wash_car"])
    with pytest.raises(DataValidationError) as caught:
        checked_rows(requests, load_tool_registry(registry))
    assert "requests.jsonl" in str(caught.value)
    assert "walk_dog" in str(caught.value)
    assert "wash_car" in str(caught.value)


def test_checked_rows_when_too_few_says_how_many_are_needed(tmp_path: Path) -> None:
    registry, requests = _write(tmp_path, ["feed_cat"] * 3)
    with pytest.raises(DataValidationError, match=r"requests\.jsonl: must hold at least 10 requests, got 3"):
        enough(checked_rows(requests, load_tool_registry(registry)), requests)


def test_with_splits_when_none_is_given_holds_out_a_fifth_and_keeps_given_ones() -> None:
    rows = [Row(str(i), f"job {i}", ()) for i in range(50)]
    assert sum(row.split == "val" for row in with_splits(rows, 7)) == 10
    given = [*rows[:3], Row("x", "job", (), split="test")]
    assert [row.split for row in with_splits(given, 7)] == ["train", "train", "train", "val"]


def test_adapt_when_run_trains_on_the_requests_and_measures_both_ends(tmp_path: Path) -> None:
    registry, requests = _write(tmp_path, ["feed_cat", "water_plants"] * 10)
    tiny.save_tiny_checkpoint(tmp_path / "start")
    asked: list[tuple[str, int]] = []

    def measure(checkpoint: Checkpoint, data: Path) -> dict[str, float]:
        weight = float(checkpoint.model.classifier.slot_query.weight.detach().abs().sum())
        asked.append((f"{weight:.6f}", sum(row.split == "val" for row in load_rows(data))))
        return {"node F1": 0.5}

    adapted = adapt(registry, requests, tmp_path / "run", measure, start=tmp_path / "start", steps=3, batch_size=8)
    assert adapted.held_out == 4
    assert [count for _, count in asked] == [4, 4]
    assert asked[0][0] != asked[1][0]  # the weights moved in between
    before, after = load_checkpoint(tmp_path / "start").model, load_checkpoint(adapted.checkpoint).model
    moved = {k for k, v in after.state_dict().items() if not v.equal(before.state_dict()[k])}
    assert any(name.startswith("classifier.") for name in moved)
    assert not any(name.startswith("backbone.text.") for name in moved)


def test_adapt_when_run_remembers_how_the_tools_are_asked_for(tmp_path: Path) -> None:
    registry, requests = _write(tmp_path, ["feed_cat", "water_plants"] * 20)
    lines = [json.loads(line) for line in requests.read_text().splitlines()]
    asked = {"feed_cat": "Give Tom dinner", "water_plants": "The ferns are dry"}
    texts = [line | {"instruction": f"{asked[line['steps'][0]['tool']]}, number {i}"} for i, line in enumerate(lines)]
    requests.write_text("".join(json.dumps(line) + "\n" for line in texts))
    tiny.save_tiny_checkpoint(tmp_path / "start")
    KnownTools().write(tmp_path / "start")
    measured: list[KnownTools | None] = []

    def measure(checkpoint: Checkpoint, data: Path) -> dict[str, float]:
        measured.append(checkpoint.known_tools)
        return {"node F1": 0.5}

    adapted = adapt(registry, requests, tmp_path / "run", measure, start=tmp_path / "start", steps=1, batch_size=4)
    tools = load_tool_registry(registry).tools
    assert measured[0] is not None
    assert measured[0].words_of(tools) is None
    for known in (measured[1], load_checkpoint(adapted.checkpoint).known_tools):
        assert known is not None
        words = known.words_of(tools)
        assert words is not None
        plants, cat = words.log_odds("Dinner for Tom")
        assert cat > plants + 0.5


def test_adapt_when_given_runs_learns_their_corrections_and_updates_the_profile(tmp_path: Path) -> None:
    registry, requests = _write(tmp_path, ["feed_cat"] * 8)
    config = {"cpu_core": 1, "cpu_mem_gb": 0.5, "gpu_sm": 0, "gpu_mem_gb": 0}
    ran = {"tool": "feed_cat", "input_size": "small", "resource_config": config, "latency_ms": 30.0}
    records = [
        {"instruction": f"Water plant {i}.", "steps": [ran], "corrected_steps": [{"tool": "water_plants"}]}
        for i in range(6)
    ]
    runs, profiling = tmp_path / "runs.jsonl", tmp_path / "profiling.csv"
    runs.write_text("".join(json.dumps(record) + "\n" for record in records))
    columns = "tool,input_size,cpu_core,cpu_mem_gb,gpu_sm,gpu_mem_gb,latency_ms"
    profiling.write_text(f"{columns}\nfeed_cat,small,1,0.5,0,0,99\nwater_plants,large,1,1,0,0,500\n")
    tiny.save_tiny_checkpoint(tmp_path / "start")

    def measure(_: Checkpoint, data: Path) -> dict[str, float]:
        taught = {row.instruction: [step.tool for step in row.steps] for row in load_rows(data)}
        assert taught["Water plant 3."] == ["water_plants"]
        assert taught["Do job 2."] == ["feed_cat"]
        return {"node F1": 0.5}

    adapted = adapt(
        registry, requests, tmp_path / "run", measure,
        runs=runs, profiling=profiling, start=tmp_path / "start", steps=1, batch_size=4,
    )  # fmt: skip
    assert adapted.held_out == 3
    assert adapted.profile is not None
    rows = ProfilingTable.from_csv(adapted.profile).all_rows
    assert [(row.tool, row.latency_ms) for row in rows] == [("feed_cat", 30.0), ("water_plants", 500.0)]


def test_command_when_neither_requests_nor_runs_are_given_says_what_belongs_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--my-tools", "tools.json"])
    assert "--my-tools belongs together with --requests, --from-runs, or both" in capsys.readouterr().err
