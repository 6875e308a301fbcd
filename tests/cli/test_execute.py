from __future__ import annotations

import json

import pytest

from tests.executors.local_tools import TARGET
from tests.executors.plans import plan_of
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


# ---- real executors -----------------------------------------------------------------------------------------


@pytest.fixture
def plan_file(tmp_path):
    def write(plan):
        path = tmp_path / "plan.json"
        path.write_text(plan.model_dump_json(), encoding="utf-8")
        return str(path)

    return write


def test_execute_when_local_runs_the_tools_and_shows_planned_and_seen_times(plan_file, capsys):
    path = plan_file(plan_of("add", "double", args={"s1": {"a": 2}, "s2": {"number": {"$from": "s1"}}}))
    assert main(["execute", path, "--executor", "local", "--tools", TARGET, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["s2"]["output"] == {"number": 6}
    assert report["s1"]["start_ms"] < 30_000  # counted from now


def test_execute_when_a_step_fails_says_how_and_returns_4(plan_file, capsys):
    assert main(["execute", plan_file(plan_of("fail")), "--executor", "local", "--tools", TARGET]) == 4
    out = capsys.readouterr().out
    assert "failed" in out
    assert "ValueError: no way" in out


def test_execute_when_the_plan_has_expired_refuses_it_unless_told_otherwise(plan_file, capsys):
    old = plan_of("measured")
    old = old.model_copy(update={"created_at": "2026-01-01T00:00:00+00:00", "expires_at": "2026-01-01T01:00:00+00:00"})
    command = ["execute", plan_file(old), "--executor", "local", "--tools", TARGET, "--sample-inputs"]
    assert main(command) == 2
    assert "expired at 2026-01-01" in capsys.readouterr().err
    assert main([*command, "--ignore-expiry"]) == 0
    assert "SAMPLE" in capsys.readouterr().out


def test_execute_when_given_a_ledger_books_the_plan_and_frees_it(plan_file, tmp_path, capsys):
    ledger = tmp_path / "machine.ledger"
    path = plan_file(plan_of("measured", cpu_core=0.1, cpu_mem_gb=0.25))
    words = ["--executor", "local", "--tools", TARGET, "--sample-inputs", "--ledger", str(ledger)]
    words += ["--timeline", "data/input/idle.csv"]
    assert main(["execute", path, *words]) == 0
    assert main(["ledger", "show", str(ledger)]) == 0
    assert "nothing is booked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tools", "a:b"], "--tools needs --executor local or ray"),
        (["--executor", "local"], "--executor local needs --tools"),
        (["--executor", "local", "--tools", "a:b", "--ray", "auto"], "--ray needs --executor ray"),
    ],
)
def test_execute_when_options_do_not_go_together_says_which(words, complaint, plan_file, capsys):
    with pytest.raises(SystemExit):
        main(["execute", plan_file(plan_of("fail")), *words])
    assert complaint in capsys.readouterr().err
