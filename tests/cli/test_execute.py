from __future__ import annotations

import pytest

from tomas_router.cli.main import main

pytestmark = pytest.mark.m5

REQUEST = "Transcribe the recording of the meeting and summarise the transcript."


def test_execute_when_the_plan_is_planned_runs_every_step(tmp_path, capsys):
    main(["plan", REQUEST, "--json"])
    path = tmp_path / "plan.json"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["execute", str(path), "--executor", "stub"]) == 0
    assert "s1" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "complaint"), [("{", "JSON"), ('{"status": "planned"}', "timeline_id")])
def test_execute_when_the_plan_is_broken_says_what_is_wrong(content, complaint, tmp_path, capsys):
    path = tmp_path / "plan.json"
    path.write_text(content, encoding="utf-8")
    assert main(["execute", str(path)]) == 2
    message = capsys.readouterr().err
    assert "plan.json" in message
    assert complaint in message
