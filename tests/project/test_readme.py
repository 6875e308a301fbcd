"""Every Python block of the README runs, in order, in one namespace, as a reader would type it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.m5

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_when_its_blocks_are_run_plans(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"README.md, block {number}", "exec"), namespace)
    assert capsys.readouterr().out.startswith("planned\n")


def test_readme_when_opened_shows_claim_two_commands_and_ten_lines_first():
    first_screen = README.splitlines()[:30]
    text = "\n".join(first_screen)
    assert "make demo" in text
    assert "make test" in text
    assert "Planner.load()" in text
    block = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert block is not None
    assert len([line for line in block[1].splitlines() if line]) <= 10
