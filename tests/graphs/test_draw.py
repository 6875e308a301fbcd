from __future__ import annotations

import pytest

pytest.importorskip("langgraph")

from graphs import draw

pytestmark = pytest.mark.m5


def test_page_when_a_graph_changes_is_drawn_anew():
    assert draw.PAGE.read_text(encoding="utf-8") == draw.drawn(), "python -m graphs.draw"


def test_command_when_the_page_is_old_says_so_and_then_mends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "PAGE", tmp_path / "graphs.md")
    assert draw.main(["--check"]) == 1
    assert draw.main([]) == 0
    assert draw.main(["--check"]) == 0
    (tmp_path / "graphs.md").write_text("old", encoding="utf-8")
    assert draw.main(["--check"]) == 1


def test_command_when_misused_says_how(capsys):
    assert draw.main(["--chek"]) == 2
    assert "usage:" in capsys.readouterr().err
