"""Every example runs as it stands."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.m5

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_when_run_prints_something(example, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_benchmark_when_run_briefly_measures_every_request():
    from benchmarks.decision_latency import REQUESTS, measure

    result = measure(model=None, repeats=2)
    assert set(result["decisions"]) == set(REQUESTS)
    assert result["cold_start_ms"] > 0
    assert result["resident_mib"] > 0
