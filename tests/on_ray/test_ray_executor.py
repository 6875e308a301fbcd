"""Plans on a real cluster: resources, references, times, failures."""

from __future__ import annotations

import os
import time

import pytest

from tests.executors.local_tools import TARGET
from tests.executors.plans import gone, machine, plan_of, wait_until
from tests.on_ray.in_workers import assigned, once
from tomas_router.cli.main import main
from tomas_router.executors.booked import Booked
from tomas_router.executors.execution import NotExecutableError
from tomas_router.executors.ray_executor import RayExecutor
from tomas_router.planner.static import static_plan
from tomas_router.runtime.ledger import InMemoryLedger

SMALL = {"cpu_core": 0.5, "cpu_mem_gb": 0.1}


def run(plan, tools=TARGET, **settings):
    return RayExecutor(tools, **settings).execute(plan).results()


def test_plan_when_run_passes_outputs_by_reference_and_reports_what_the_workers_saw(cluster):
    plan = plan_of("add", "double", "add", args={
        "s1": {"a": 1, "b": 2},
        "s2": {"number": {"$from": "s1"}},
        "s3": {"a": {"$from": "s2", "path": "$.number"}},
    }, **SMALL)  # fmt: skip
    by_id = run(plan)
    assert [by_id[i]["output"] for i in ("s1", "s2", "s3")] == [3, {"number": 6}, 7]
    assert by_id["s1"]["end_ms"] <= by_id["s2"]["start_ms"] <= by_id["s2"]["end_ms"] <= by_id["s3"]["start_ms"]


def test_step_when_it_refers_past_the_step_before_it_gets_that_output(cluster):
    plan = plan_of("add", "double", "add", args={
        "s1": {"a": 1, "b": 2},
        "s2": {"number": {"$from": "s1"}},
        "s3": {"a": {"$from": "s1"}, "b": {"$from": "s2", "path": "$.number"}},
    }, **SMALL)  # fmt: skip
    assert plan.steps[2].depends_on == ("s2",)
    assert run(plan)["s3"]["output"] == 9


def test_step_when_it_shares_a_gpu_has_the_resources_of_the_plan_and_the_variables_of_mps(cluster):
    plan = plan_of("assigned", cpu_core=0.5, cpu_mem_gb=0.1, gpu_sm=25, gpu_mem_gb=8)
    found = run(plan, {"assigned": assigned}, gpu_total_gib=16)["s1"]["output"]
    assert found["CPU"] == 0.5
    assert found["GPU"] == 0.5  # half of the memory is more than a quarter of the SMs
    assert found["gpu_mem_gb"] == 8
    assert found["memory"] == int(0.1 * 2**30)
    assert found["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    assert found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"
    assert found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=8192M"
    assert found["pid"] != os.getpid()


def test_step_when_it_raises_says_what_and_keeps_dependants_back_while_others_run(cluster):
    plan = plan_of("fail", "whereabouts", **SMALL)
    alone = plan_of("whereabouts", **SMALL).steps[0].model_copy(update={"id": "s3"})
    by_id = run(plan.model_copy(update={"steps": (*plan.steps, alone)}))
    assert [by_id[i]["status"] for i in ("s1", "s2", "s3")] == ["failed", "not_run", "done"]
    assert by_id["s1"]["note"] == "ValueError: no way"
    assert "s1" in by_id["s2"]["note"]


def test_step_when_its_worker_crashes_is_failed_and_not_run_again(cluster, tmp_path):
    path = tmp_path / "runs"
    report = run(plan_of("once", args={"s1": {"path": str(path)}}, **SMALL), {"once": once})["s1"]
    assert report["status"] == "failed"
    assert "WorkerCrashedError" in report["note"]
    assert path.read_text(encoding="ascii") == "x"


def test_step_when_over_its_time_limit_is_cancelled_and_its_worker_is_gone(cluster, tmp_path):
    marker = tmp_path / "pids"
    before = time.monotonic()
    report = run(plan_of("hang", args={"s1": {"marker": str(marker)}}, timeout_ms=500, **SMALL))["s1"]
    assert time.monotonic() - before < 30
    assert report["status"] == "failed"
    assert "time limit is 0.5 s" in report["note"]
    worker = int(marker.read_text(encoding="ascii").split()[0])
    wait_until(lambda: gone(worker))


def test_step_when_the_cluster_has_no_room_in_time_fails_and_is_withdrawn(cluster):
    import ray

    @ray.remote(num_gpus=2, num_cpus=0)
    class Holder:
        def ready(self):
            return True

    holder = Holder.remote()
    ray.get(holder.ready.remote())
    report = run(plan_of("whereabouts", gpu_sm=100, **SMALL), max_queue_s=0.5)["s1"]
    ray.kill(holder)
    assert report["status"] == "failed"
    assert "did not start it within 0.5 s" in report["note"]


def test_step_when_no_node_is_large_enough_is_refused_before_anything_runs(cluster):
    with pytest.raises(NotExecutableError, match=r"s1 \(add\) asks for CPU 3, memory 0\.1 GiB; no node .*CPU 1.*CPU 2"):
        run(plan_of("add", args={"s1": {"a": 1}}, cpu_core=3, cpu_mem_gb=0.1))
    with pytest.raises(NotExecutableError, match=r"GPU 0\.3, memory"):
        run(plan_of("add", args={"s1": {"a": 1}}, gpu_sm=30, gpu_mem_gb=64))


def test_plan_when_nothing_is_planned_or_bound_is_refused(cluster):
    with pytest.raises(NotExecutableError, match="no_tool"):
        run(static_plan())
    with pytest.raises(NotExecutableError, match=r"s1 \(add\) misses a"):
        run(plan_of("add"))


def test_plan_when_there_is_a_ledger_is_booked_while_it_runs(cluster):
    ledger = InMemoryLedger(epoch_times=True)
    seen = []
    plan = plan_of("whereabouts", **SMALL)
    executor = RayExecutor(
        TARGET, booked=Booked(ledger, machine), on_event=lambda event: seen.append(len(ledger.bookings()))
    )
    assert executor.execute(plan).steps[0].status == "done"
    assert seen[0] == 1
    assert ledger.bookings() == ()


def test_command_when_given_the_cluster_runs_the_plan_and_shows_both_times(cluster, tmp_path, capsys):
    path = tmp_path / "plan.json"
    path.write_text(plan_of("add", args={"s1": {"a": 1}}, **SMALL).model_dump_json(), encoding="utf-8")
    command = ["execute", str(path), "--executor", "ray", "--tools", TARGET]
    assert main(command) == 0
    assert "done" in capsys.readouterr().out
