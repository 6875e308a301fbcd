"""The tool selection benchmark, short: every strategy shows its tools to a real agent's model."""

from __future__ import annotations

import io
import re
import zlib

import pytest

pytest.importorskip("langchain")
pytest.importorskip("langgraph_bigtool")

from rich.console import Console

from benchmarks import tool_selection
from benchmarks.tool_selection import FOLDER, Setting, Watched, bigtool, measure, table
from tomas_router import Planner
from tomas_router.evaluation.sources import load_source

WORDS = 512


def by_words(texts):
    """Counts words into a few hundred places: enough to find a tool by its own name."""
    rows = []
    for text in texts:
        row = [0.0] * WORDS
        for word in re.findall(r"[a-z]+", text.lower()):
            row[zlib.crc32(word.encode()) % WORDS] += 1.0
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def setting():
    return Setting(load_source(FOLDER / "test.jsonl", "test"))


def test_table_when_made_says_time_tools_right_ones_and_tokens_of_each_strategy(setting, monkeypatch):
    monkeypatch.setattr(tool_selection, "installed_minilm", lambda: None)  # reading all tools takes it a minute
    rows = [row for row in setting.source.rows if row.steps][:3]
    shown = io.StringIO()
    Console(width=140, file=shown).print(table(setting, rows, Planner.load()))
    text = shown.getvalue()
    for column in ("right tools", "tools shown", "tokens of", "decision"):
        assert column in text
    for strategy in ("all tools", "BM25", "LLMToolSelectorMiddleware", "Tomas Router, the plan"):
        assert strategy in text


def test_bigtool_when_asked_in_a_tools_own_words_shows_it_among_the_nearest(setting):
    name = setting.source.registry.names[0]
    spec = setting.source.registry[name]
    row = type("Row", (), {"instruction": f"{spec.name}: {spec.desc}", "steps": ()})()
    watched: Watched = measure(setting, lambda w: [bigtool(setting, w, by_words, 5)], [row], "bigtool")
    assert name in watched.shown[0]
    assert len(watched.shown[0]) == 5
    assert len(watched.decision_ms) == 1
