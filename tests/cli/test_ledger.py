"""``tomas plan --ledger`` and ``tomas ledger``: separate commands that share one machine through one file."""

from __future__ import annotations

import json
import time

import pytest

from tomas_router import ToolPlan
from tomas_router.cli.main import main
from tomas_router.runtime.sqlite_ledger import SqliteLedger

pytestmark = pytest.mark.m5

REQUEST = ["Translate this page into French.", "--candidates", "translate_text_cpu", "--num-steps", "1"]


@pytest.fixture
def machine(tmp_path):
    """Room for one translation at a time."""
    path = tmp_path / "machine.csv"
    path.write_text("time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb\n0,1,64,0,0\n", encoding="utf-8")
    return ["--timeline", str(path)]


def planned(capsys, *arguments: str) -> ToolPlan:
    assert main(["plan", *REQUEST, *arguments, "--json"]) == 0
    return ToolPlan.model_validate_json(capsys.readouterr().out)


def test_plan_when_a_ledger_is_shared_waits_for_what_others_booked(tmp_path, machine, capsys):
    file = tmp_path / "machine.ledger"
    shared = [*machine, "--ledger", str(file), "--lease-ms", "600000"]  # longer than a slow machine loads the model
    first = planned(capsys, *shared, "--tenant", "docs", "--thread-id", "t1")
    second = planned(capsys, *shared, "--plan-id", "p2")
    held = {b.booking_id: b for b in SqliteLedger(file).bookings()}
    one, two = held[first.booking_id], held[second.booking_id]
    assert one.reservations[0].end_ms <= two.reservations[0].start_ms
    assert (one.tenant, one.thread_id, two.plan_id) == ("docs", "t1", "p2")


def test_plan_when_the_timeline_began_earlier_starts_nothing_in_the_past(tmp_path, machine, capsys):
    file, began_ms = tmp_path / "machine.ledger", int(time.time() * 1000) - 90_000
    plan = planned(capsys, *machine, "--ledger", str(file), "--epoch-ms", str(began_ms), "--lease-ms", "600000")
    (booking,) = SqliteLedger(file).bookings()
    assert plan.steps[0].start_ms > 90_000
    assert booking.reservations[0].start_ms == began_ms + plan.steps[0].start_ms
    assert booking.lease_until_ms == booking.booked_ms + 600_000


def test_batch_when_a_ledger_is_shared_books_every_plan_behind_the_other(tmp_path, machine, capsys):
    rows = [
        {"id": f"r{n}", "instruction": REQUEST[0], "candidates": ["translate_text_cpu"], "num_steps": 1} for n in "ab"
    ]
    batch, file = tmp_path / "requests.jsonl", tmp_path / "machine.ledger"
    batch.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = ["--out", str(tmp_path / "plans.jsonl")]
    assert main(["plan", "--batch", str(batch), *out, *machine, "--ledger", str(file)]) == 0
    one, two = (b.reservations[0] for b in SqliteLedger(file).bookings())
    assert one.end_ms <= two.start_ms


@pytest.mark.parametrize("option", ["--epoch-ms", "--lease-ms", "--tenant"])
def test_plan_when_a_ledger_option_stands_alone_is_bad_input(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", *REQUEST, option, "5"])
    assert stop.value.code == 2
    assert f"{option} needs --ledger FILE" in capsys.readouterr().err


def test_plan_when_the_lease_is_not_positive_is_bad_input(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", *REQUEST, "--ledger", str(tmp_path / "x"), "--lease-ms", "0"])
    assert stop.value.code == 2
    assert "--lease-ms must be > 0, got 0" in capsys.readouterr().err


def test_show_and_cancel_when_a_plan_is_booked_tell_and_free_it(tmp_path, machine, capsys):
    file = str(tmp_path / "machine.ledger")
    booking = planned(capsys, *machine, "--ledger", file, "--tenant", "docs").booking_id
    assert main(["ledger", "show", file]) == 0
    text = capsys.readouterr().out
    assert f"booking {booking} for docs\n" in text
    assert "(running), lease ends " in text
    assert "step 0: translate_text_cpu#" in text
    assert ": 1 CPU" in text
    assert main(["ledger", "show", file, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (shown,) = content["bookings"]
    assert (content["waiting"], content["quotas"]) == ([], {})
    assert (shown["booking_id"], shown["tenant"], shown["holder"]["running"]) == (booking, "docs", True)
    assert shown["reservations"][0]["cpu_millicores"] == 1000
    assert main(["ledger", "cancel", file, booking]) == 0
    assert capsys.readouterr().out == f"cancelled booking {booking}\n"
    assert main(["ledger", "show", file]) == 0
    assert "nothing is booked" in capsys.readouterr().out


def test_quota_when_set_holds_a_tenant_back_and_is_shown(tmp_path, machine, capsys):
    file = str(tmp_path / "machine.ledger")
    assert main(["ledger", "quota", file, "docs", "--cpu", "50"]) == 0
    said = "quota of docs: cpu 50 %, cpu-mem 100 %, gpu 100 %, gpu-mem 100 %\n"
    assert capsys.readouterr().out == said
    assert main(["plan", *REQUEST, *machine, "--ledger", file, "--tenant", "docs", "--json"]) == 3
    plan = ToolPlan.model_validate_json(capsys.readouterr().out)
    assert "within the quota of tenant 'docs'" in plan.reason
    assert plan.booking_id is None
    assert main(["ledger", "show", file]) == 0
    assert capsys.readouterr().out.endswith(said)
    assert main(["ledger", "quota", file, "docs", "--lift"]) == 0
    capsys.readouterr()
    planned(capsys, *machine, "--ledger", file, "--tenant", "docs")


def test_quota_when_no_percentage_is_bad_input(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ledger", "quota", str(tmp_path / "x"), "docs", "--gpu", "101"])
    assert stop.value.code == 2
    assert "gpu_percent must be a whole number from 0 to 100, got 101" in capsys.readouterr().err


def test_plan_when_others_wait_is_infeasible_unless_its_priority_is_higher(tmp_path, machine, capsys):
    file = tmp_path / "machine.ledger"
    SqliteLedger(file).enqueue(tenant="vision", lease_ms=600_000)
    assert main(["plan", *REQUEST, *machine, "--ledger", str(file), "--json"]) == 3
    reason = ToolPlan.model_validate_json(capsys.readouterr().out).reason
    assert reason.startswith("1 request must be booked first; the first waits since ")
    assert main(["ledger", "show", str(file)]) == 0
    assert "waiting 1 of vision: since " in capsys.readouterr().out
    planned(capsys, *machine, "--ledger", str(file), "--priority", "1")


def test_cancel_when_the_booking_is_gone_is_bad_input_and_says_why(tmp_path, machine, capsys):
    file = str(tmp_path / "machine.ledger")
    booking = planned(capsys, *machine, "--ledger", file).booking_id
    assert main(["ledger", "cancel", file, booking]) == 0
    assert main(["ledger", "cancel", file, booking]) == 2
    assert f"booking {booking} was released at " in capsys.readouterr().err


@pytest.mark.parametrize("action", [["show"], ["cancel"]])
def test_ledger_when_there_is_no_such_file_is_bad_input_and_makes_none(tmp_path, action, capsys):
    file = tmp_path / "typo.ledger"
    assert main(["ledger", *action, str(file), *(["b"] if action == ["cancel"] else [])]) == 2
    assert "there is no such ledger" in capsys.readouterr().err
    assert not file.exists()
