"""Real processes: what they are given, and that they end when they must."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.executors.local_tools import TARGET
from tests.executors.plans import gone, machine, plan_of, wait_until
from tomas_router.errors import UnknownToolError
from tomas_router.executors.booked import Booked
from tomas_router.executors.cpu_pool import CpuPool
from tomas_router.executors.execution import NotExecutableError
from tomas_router.executors.local import LocalExecutor
from tomas_router.planner.static import static_plan
from tomas_router.profiling.tool import ProfiledToolError
from tomas_router.runtime.host import usable_cpus
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.runtime.online_profile import OnlineProfile


def run(plan, **settings):
    return LocalExecutor(TARGET, **settings).execute(plan).results()


# ---- results ------------------------------------------------------------------------------------------------


def test_chain_when_run_passes_outputs_on_by_reference_with_times_seen_in_the_process():
    plan = plan_of("add", "double", "add", args={
        "s1": {"a": 1, "b": 2},
        "s2": {"number": {"$from": "s1"}},
        "s3": {"a": {"$from": "s2", "path": "$.number"}},
    })  # fmt: skip
    by_id = run(plan)
    assert [by_id[i]["output"] for i in ("s1", "s2", "s3")] == [3, {"number": 6}, 7]
    assert [by_id[i]["status"] for i in ("s1", "s2", "s3")] == ["done"] * 3
    assert by_id["s1"]["end_ms"] <= by_id["s2"]["start_ms"] <= by_id["s2"]["end_ms"] <= by_id["s3"]["start_ms"]


def test_steps_when_run_are_in_processes_of_their_own_with_the_cores_threads_and_gpu_of_the_plan():
    by_id = run(plan_of("whereabouts", "whereabouts", links="parallel"))
    places = [by_id[i]["output"] for i in ("s1", "s2")]
    assert len({os.getpid(), *(place["pid"] for place in places)}) == 3
    assert [len(place["cpus"]) for place in places] == [1, 1]
    if len(usable_cpus()) > 1:
        assert places[0]["cpus"] != places[1]["cpus"]
    assert places[0]["OMP_NUM_THREADS"] == "1"
    assert places[0]["CUDA_VISIBLE_DEVICES"] == ""
    on_gpu = run(plan_of("whereabouts", gpu_sm=29.5, gpu_mem_gb=1), gpu_device="3")["s1"]["output"]
    assert (on_gpu["CUDA_VISIBLE_DEVICES"], on_gpu["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"]) == ("3", "30")


def test_step_when_it_has_no_arguments_takes_the_sample_of_its_size_if_that_is_wanted():
    assert run(plan_of("measured"), sample_inputs=True)["s1"]["output"] == "SAMPLE"
    with pytest.raises(NotExecutableError, match=r"s1 \(measured\) misses text"):
        run(plan_of("measured"))


def test_process_when_it_has_answered_may_still_write_what_it_left_open(tmp_path):
    path = tmp_path / "late"
    run(plan_of("write_late", args={"s1": {"path": str(path)}}))
    assert path.read_text(encoding="ascii") == "written"


# ---- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "said"), [("fail", "ValueError: no way"), ("crash", "SIGABRT"), ("leave", "exit code 3 without a result")]
)
def test_step_when_its_process_fails_says_how_and_keeps_dependants_back(tool, said):
    plan = plan_of(tool, "whereabouts")
    alone = plan_of("whereabouts").steps[0].model_copy(update={"id": "s3"})
    by_id = run(plan.model_copy(update={"steps": (*plan.steps, alone)}))
    assert [by_id[i]["status"] for i in ("s1", "s2", "s3")] == ["failed", "not_run", "done"]
    assert said in by_id["s1"]["note"]
    assert "s1" in by_id["s2"]["note"]


def test_step_when_over_its_time_limit_is_killed_with_its_children(tmp_path):
    marker = tmp_path / "pids"
    before = time.monotonic()
    report = run(plan_of("hang", args={"s1": {"marker": str(marker)}}, timeout_ms=500))["s1"]
    assert time.monotonic() - before < 30
    assert report["status"] == "failed"
    assert "time limit is 0.5 s" in report["note"]
    assert report["end_ms"] - report["start_ms"] >= 500
    assert all(gone(int(pid)) for pid in marker.read_text(encoding="ascii").split())


def test_step_when_over_its_memory_is_ended_before_it_takes_much_more():
    report = run(plan_of("eat", args={"s1": {"mib": 4000}}, cpu_mem_gb=0.1))["s1"]
    assert report["status"] == "failed"
    assert "out of memory" in report["note"]
    assert "the limit is 0.10 GiB" in report["note"]


def test_step_when_it_asks_for_far_too_much_at_once_gets_a_memory_error():
    assert "MemoryError" in run(plan_of("eat_at_once", args={"s1": {"gib": 3}}, cpu_mem_gb=0.1))["s1"]["note"]


def test_run_when_interrupted_ends_its_processes(tmp_path):
    marker = tmp_path / "pids"
    plan = plan_of("hang", args={"s1": {"marker": str(marker)}})
    code = (
        "from tomas_router.executors.local import LocalExecutor\n"
        "from tomas_router.schema.plan import ToolPlan\n"
        f"LocalExecutor({TARGET!r}).execute(ToolPlan.model_validate_json({plan.model_dump_json()!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    wait_until(lambda: marker.exists() and len(marker.read_text(encoding="ascii").split()) == 2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in stderr
    assert all(gone(int(pid)) for pid in marker.read_text(encoding="ascii").split())


def test_run_when_its_own_process_is_killed_leaves_nothing_behind(tmp_path):
    marker = tmp_path / "pids"
    plan = plan_of("hang", args={"s1": {"marker": str(marker)}})
    code = (
        "from tomas_router.executors.local import LocalExecutor\n"
        "from tomas_router.schema.plan import ToolPlan\n"
        f"LocalExecutor({TARGET!r}).execute(ToolPlan.model_validate_json({plan.model_dump_json()!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: marker.exists() and len(marker.read_text(encoding="ascii").split()) == 2)
    process.kill()
    process.wait()
    wait_until(lambda: all(gone(int(pid)) for pid in marker.read_text(encoding="ascii").split()))


def test_runs_when_somebody_learns_from_them_tell_time_and_peak_and_what_ran_out_of_memory():
    seen, profile = [], OnlineProfile()
    plan = plan_of(
        "eat", "eat", "fail", args={"s1": {"mib": 60}, "s2": {"mib": 4000}}, links="parallel", cpu_mem_gb=0.2
    )

    def learn(run):
        seen.append(run)
        profile.observe(run)

    run(plan, on_run=learn)
    by_outcome = {found.outcome: found for found in seen}
    assert len(seen) == 2  # the one that failed for another reason says nothing of what it takes
    assert by_outcome["done"].reserved_cpu_mem_gb == 0.2
    assert 60 / 1024 < by_outcome["done"].cpu_mem_gb < 0.2
    assert by_outcome["done"].latency_ms >= 60 * 2
    assert by_outcome["out_of_memory"].cpu_mem_gb is None
    assert {row.tool for row in profile.table().all_rows} == {"eat"}


# ---- what is refused before anything runs -------------------------------------------------------------------


def test_plan_when_a_tool_is_unknown_is_refused_by_name():
    with pytest.raises(UnknownToolError, match=r"names nowhere, the tools are add, .*write_late"):
        run(plan_of("add", "nowhere", args={"s1": {"a": 1}}))


def test_plan_when_arguments_are_not_bound_is_refused_with_their_names():
    with pytest.raises(NotExecutableError, match=r"s1 \(add\) misses a; s2 \(double\) misses number"):
        run(plan_of("add", "double"))


def test_plan_when_nothing_is_planned_is_refused():
    with pytest.raises(NotExecutableError, match="no_tool"):
        run(static_plan())


@pytest.mark.parametrize("target", ["tests.executors.local_tools:nothing", "no.such:tools", "tools"])
def test_tools_when_they_cannot_be_found_are_refused(target):
    with pytest.raises(ProfiledToolError, match="target"):
        LocalExecutor(target).execute(plan_of("add"))


# ---- the ledger ---------------------------------------------------------------------------------------------


def test_plan_when_there_is_a_ledger_is_booked_while_it_runs_and_free_afterwards():
    ledger = InMemoryLedger(epoch_times=True)
    seen = []
    booked = Booked(ledger, machine, lease_ms=3000)
    plan = plan_of("sleep", "whereabouts", args={"s1": {"seconds": 0.3}})

    def look(event):
        seen.append((event["type"], event["step"], [len(b.reservations) for b in ledger.bookings()]))

    report = LocalExecutor(TARGET, booked=booked, on_event=look).execute(plan)
    assert {step.status for step in report.steps} == {"done"}
    assert seen == [
        ("tool_admitted", "s1", [2]),
        ("tool_finished", "s1", [1]),
        ("tool_admitted", "s2", [1]),
        ("tool_finished", "s2", []),
    ]
    assert ledger.bookings() == ()


def test_step_when_its_booking_is_cancelled_is_ended():
    ledger = InMemoryLedger(epoch_times=True)
    booked = Booked(ledger, machine, lease_ms=300)
    plan = plan_of("sleep", args={"s1": {"seconds": 60}}, latency_ms=60_000)

    def cancel(event):
        if event["type"] == "tool_admitted":
            threading.Timer(0.5, lambda: ledger.cancel(ledger.bookings()[0].booking_id)).start()

    before = time.monotonic()
    (step,) = LocalExecutor(TARGET, booked=booked, on_event=cancel).execute(plan).steps
    assert time.monotonic() - before < 30
    assert step.status == "failed"
    assert "its booking is lost" in step.note


# ---- cores --------------------------------------------------------------------------------------------------


def test_cpus_when_taken_by_several_steps_are_shared_as_little_as_possible():
    pool = CpuPool([2, 5, 7])
    with pool.take(2) as first, pool.take(1) as second, pool.take(9) as all_of_them:
        assert (first, second, all_of_them) == ((2, 5), (7,), (2, 5, 7))
    with pool.take(1) as again:
        assert again == (2,)


def test_folder_when_the_tools_are_in_a_file_is_where_they_import_from(tmp_path):
    (tmp_path / "helper.py").write_text("WORD = 'hello'\n", encoding="utf-8")
    (tmp_path / "mine.py").write_text("from helper import WORD\ndef say():\n    return WORD\n", encoding="utf-8")
    report = LocalExecutor(f"{Path(tmp_path)}/mine.py:say").execute(plan_of("say"))
    assert report.steps[0].output == "hello"
