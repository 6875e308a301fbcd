from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.fake_nvml import FakeNvml
from tomas_router import SystemTimeline
from tomas_router.cli.main import main
from tomas_router.runtime.timeline import SystemTimeline as Timeline

pytestmark = pytest.mark.m0


def test_snapshot_when_written_is_a_timeline_of_one_row(tmp_path, capsys):
    out = tmp_path / "now.csv"
    assert main(["snapshot", "--out", str(out)]) == 0
    assert "free vCPU" in capsys.readouterr().out
    assert len(SystemTimeline.from_csv(out)) == 1


def test_snapshot_when_asked_for_json_prints_nothing_else(capsys):
    assert main(["snapshot", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert abs(said["epoch_ms"] - time.time() * 1000) < 10_000
    assert set(said["gpus"][0]) == {"cpu_cores", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb"}


def test_snapshot_when_there_are_two_gpus_shows_and_writes_both(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert main(["snapshot", "--out", str(tmp_path / "now.csv")]) == 0
    shown = capsys.readouterr().out
    assert "75.00" in shown
    assert "80.00" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["now.gpu0.csv", "now.gpu1.csv"]


def _hears_interrupts():
    """Processes that a shell started in the background ignore them, and their children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_record_when_interrupted_keeps_what_it_has_and_ends_well(tmp_path):
    out = tmp_path / "r.csv"
    command = [sys.executable, "-m", "tomas_router.cli", "record", "--every", "200ms", "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ, preexec_fn=_hears_interrupts
    )
    while not out.exists() or len(out.read_text().splitlines()) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    rows = len(out.read_text().splitlines()) - 1
    assert f"{rows} rows in" in said.decode()
    assert len(SystemTimeline.from_csv(out)) == rows


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--every", "5"], "must be a time such as 500ms"), (["--every", "0s"], "must be a time such as 500ms")],
)
def test_record_when_the_interval_is_no_time_says_what_is(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        main(["record", "--out", str(tmp_path / "r.csv"), *options])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("every", "message"), [("50ms", "--every: every_ms must be >= 100"), ("1s", "is there already")]
)
def test_record_when_it_cannot_begin_says_why(tmp_path, capsys, every, message):
    (tmp_path / "r.csv").write_text("precious")
    assert main(["record", "--every", every, "--out", str(tmp_path / "r.csv")]) == 2
    assert message in capsys.readouterr().err


def test_plan_when_live_uses_what_this_host_has(monkeypatch, capsys):
    from tomas_router.runtime import snapshot

    tiny = Timeline.from_rows([(0, 0.001, 0.01, 0, 0)], epoch_ms=7)
    monkeypatch.setattr(snapshot, "live_timeline", lambda: tiny)
    assert main(["plan", "Transcribe this interview.", "--live", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["timeline_id"] == tiny.timeline_id


def test_plan_when_given_a_timeline_and_live_refuses(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "x", "--live", "--timeline", "t.csv"])
    assert "not allowed with" in capsys.readouterr().err
