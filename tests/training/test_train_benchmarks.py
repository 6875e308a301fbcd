"""The scripts that measure training run from end to end, at a size that says nothing about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from benchmarks import train_7b, train_feed

pytestmark = pytest.mark.m4
ROOT = Path(__file__).parents[2]


def test_train_7b_when_tiny_measures_every_part(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert train_7b.main(["--tiny", "--batch-size", "4", "--steps", "1", "--device", "cpu", "--out", str(out)]) == 0
    parts = json.loads(out.read_text())["parts"]
    assert set(parts) == set(train_7b.PARTS)
    for part in parts.values():
        for numbers in (part["first_pass"], part["second_pass"]):
            assert min(numbers.values()) > 0
            assert numbers["minutes_for_20000_requests"] == pytest.approx(
                20_000 / numbers["requests_per_s"] / 60, rel=0.05
            )
    assert parts["lora"]["trained_parameters"] > parts["heads"]["trained_parameters"]


def test_train_7b_when_the_memory_is_too_small_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure(_part: object, batch_size: int, *_: object) -> dict[str, int]:
        asked.append(batch_size)
        if batch_size > 8:
            raise torch.OutOfMemoryError
        return {"batch_size": batch_size}

    monkeypatch.setattr(train_7b, "measure", measure)
    part, console = train_7b.PARTS["lora"], train_7b.Console()
    assert train_7b.measure_what_fits(part, 32, 1, "cpu", True, console) == {"batch_size": 8}
    assert asked == [32, 16, 8]
    monkeypatch.setattr(train_7b, "SMALLEST_BATCH", 16)
    with pytest.raises(torch.OutOfMemoryError):
        train_7b.measure_what_fits(part, 32, 1, "cpu", True, console)


def test_train_7b_when_the_parts_are_at_full_size_has_the_shape_of_qwen() -> None:
    config = train_7b.run_config(train_7b.PARTS["lora"], 32, "cpu", tiny=False).model
    with torch.device("meta"):
        model = train_7b.Qwen2ForCausalLM(train_7b.Qwen2Config(**config.backbone.sizes))
    assert sum(p.numel() for p in model.parameters()) == 7_615_616_512  # as its model card counts


def test_train_scaling_when_tiny_compares_one_process_with_two(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = ["--tiny", "--steps", "1", "--warm-up", "1", "--device", "cpu", "--out", str(out)]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train_scaling", *command],
        cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(out.read_text())
    alone, together = record["results"]
    assert (alone["processes"], together["processes"]) == (1, 2)
    assert record["speed_up"] == pytest.approx(together["samples_per_s"] / alone["samples_per_s"], rel=0.01)


def test_train_feed_when_tiny_measures_every_number_of_workers(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = ["--tiny", "--steps", "2", "--warm-up", "1", "--workers", "0", "1", "--device", "cpu", "--out", str(out)]
    assert train_feed.main(command) == 0
    results = json.loads(out.read_text())["results"]
    assert [found["workers"] for found in results] == [0, 1]
    assert all(0 <= found["share_of_time_waiting_for_batches"] < 1 for found in results)


def test_train_feed_when_profiling_shows_where_a_batch_takes_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_feed.main(["--tiny", "--profile", "--device", "cpu"]) == 0
    assert "draw_timeline" in capsys.readouterr().out
