"""The benchmark of size runs, says what it measured, and judges its targets; the numbers are nobody's here."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cpu_scaling, routers
from benchmarks.cpu_scaling import REQUESTS, Cell, Result, main, page, save
from benchmarks.decision_latency import tools_for, worded
from benchmarks.growth_plot import growth_plot
from benchmarks.routers import BM25, NUMPY_MINILM, OURS, TORCH_MINILM

pytestmark = pytest.mark.m5


class WordVectors:
    """Stands for MiniLM: a direction for each word, so that the text with the same words is nearest."""

    def rows(self, texts: list[str]) -> np.ndarray:
        return np.stack([sum(map(self.word, text.lower().split())) for text in texts]).astype(np.float32)

    def word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.strip(".,:").encode()).digest()[:4], "big")
        return np.random.default_rng(seed).normal(size=64)


def cell(router: str, tools: int, ms: float, threads: int = 1) -> Cell:
    times = dict.fromkeys(REQUESTS, ms)
    return Cell(router, tools, threads, times, times, dict.fromkeys(REQUESTS, 1.0), 170.0)


def result(*cells: Cell, cold_start_ms: float = 900.0) -> Result:
    sizes = sorted({c.tools for c in cells})
    found = Result("2026-01-31", {"processor": "test"}, "m", dict.fromkeys(REQUESTS, 16), 3, list(cells))
    return replace(found, encode_s=dict.fromkeys(sizes, 1.0), cold_start_ms=dict.fromkeys(sizes, cold_start_ms))


def test_benchmark_when_run_briefly_writes_page_json_and_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_scaling, "COLD_STARTS", 1)
    main(["--sizes", "4", "6", "--threads", "1", "--repeats", "2", "--routers", OURS, BM25, "--out", str(tmp_path)])
    found = json.loads(next(tmp_path.glob("cpu_scaling_*.json")).read_text())
    assert [(c["router"], c["tools"]) for c in found["cells"]] == [(OURS, 4), (BM25, 4), (OURS, 6), (BM25, 6)]
    ours, bm25 = found["cells"][2:]
    assert min(ours["p50_ms"].values()) > min(bm25["p50_ms"].values()) > 0
    assert ours["steps"]["one step"] == 1
    assert ours["resident_mib"] > bm25["resident_mib"] > 10
    assert found["cold_start_ms"]["6"] > found["encode_s"]["6"] > 0
    assert found["machine"]["processor"]
    assert found["tokens"]["short English"] == 16
    assert 58 <= found["tokens"]["long English"] <= 68
    written = next(tmp_path.glob("cpu_scaling_*.md")).read_text()
    assert found["machine"]["processor"] in written
    assert next(tmp_path.glob("*.svg")).name in written


def test_semantic_router_when_asked_names_the_nearest_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    semantic_router = pytest.importorskip("semantic_router")
    monkeypatch.setattr(routers, "installed_minilm", WordVectors)
    asked: list[str | None] = []
    original = semantic_router.IndexedRouter.__call__

    def watched(self: object, query: str) -> object:
        choice = original(self, query)
        asked.append(choice.name)
        return choice

    monkeypatch.setattr(semantic_router.IndexedRouter, "__call__", watched)
    registry = tools_for(20)
    routers.remember_minilm(tools_for(24), tmp_path)  # a smaller registry is the beginning of a larger one
    ask = routers.build(NUMPY_MINILM, registry, tmp_path, tmp_path, 1)
    for tool in registry.tools[:5]:
        assert ask(tool.desc) == 1
    assert asked == [tool.name for tool in registry.tools[:5]]


def test_targets_when_all_are_reached_say_so() -> None:
    text = page(
        result(cell(OURS, 200, 12), cell(TORCH_MINILM, 200, 8), cell(NUMPY_MINILM, 200, 9), cell(OURS, 10_000, 15)), "p"
    )
    assert "**missed**" not in text
    assert "| one step over the faster semantic router, 200 tools, 1 thread | <= 2 | 1.50 | reached |" in text
    assert "| growth from 200 to 10,000 tools, one step, 1 thread(s) | < 1.5 | 1.25 | reached |" in text
    assert "| new process to first plan, 200 tools, s | < 1.5 | 0.90 | reached |" in text


def test_targets_when_missed_are_not_hidden() -> None:
    cells = (cell(OURS, 200, 31), cell(TORCH_MINILM, 200, 15), cell(BM25, 200, 0.1), cell(OURS, 10_000, 60))
    text = page(result(*cells, cold_start_ms=1600), "p")
    for line in ("< 30 | 31.00 |", "<= 2 | 2.07 |", "< 1.5 | 1.94 |", "< 1.5 | 1.60 |"):
        assert f"{line} **missed** |" in text


def test_plot_when_written_is_one_drawing_with_a_line_for_each_router(tmp_path: Path) -> None:
    save(result(cell(OURS, 10, 10), cell(OURS, 10_000, 14), cell(BM25, 10, 0.1), cell(BM25, 10_000, 3)), tmp_path)
    drawing = ElementTree.fromstring((tmp_path / "cpu_scaling_2026-01-31.svg").read_text())
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    paths = drawing.findall("{http://www.w3.org/2000/svg}path")
    assert len(paths) == 2
    assert {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")} >= {OURS, BM25, "10", "10,000"}


def test_plot_when_one_value_is_tiny_still_has_an_axis() -> None:
    assert "0.005" in growth_plot({"a": [(10, 0.001), (100, 0.02)]}, "t")


def test_requests_when_worded_differ_every_time() -> None:
    texts = worded("Do it")
    assert [next(texts), next(texts)] == ["Do it (100)", "Do it (101)"]


def test_repeats_when_too_many_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--repeats", "500"])
    assert "--repeats must lie in 1..200, got 500" in capsys.readouterr().err
