"""Against the options and formats that sbatch documents; ``pytest -m cluster_cli`` asks the real program."""

from __future__ import annotations

import re

import pytest

from tests.targets.plans import CPU, GPU, amounts, configured
from tomas_router.targets.exported import TargetError
from tomas_router.targets.written import exported, written

# https://slurm.schedmd.com/sbatch.html: what an option's value may look like
FORMATS = {
    "--job-name": r"\S+",
    "--nodes": r"[1-9]\d*",
    "--ntasks": r"[1-9]\d*",
    "--cpus-per-task": r"[1-9]\d*",
    "--mem": r"[1-9]\d*[KMGT]?",
    "--gres": r"(gpu|mps|shard):[1-9]\d*",
    "--time": r"\d+:[0-5]\d:[0-5]\d",
    "--begin": r"now\+[1-9]\d*",
    "--dependency": r"after(ok|any|notok)(:\$s[1-9]\d*)+",
    "--kill-on-invalid-dep": r"yes|no",
    "--export": r"ALL(,[A-Za-z_]\w*=[^,]+)*",
}
FLAGS = {"--no-requeue"}


def parsed(options: list[str]) -> dict[str, str]:
    found = {}
    for option in options:
        name, _, value = option.partition("=")
        assert name not in found
        assert (option in FLAGS) or re.fullmatch(FORMATS[name], value), option
        found[name] = value
    return found


def options(*configs, step="s1", **settings) -> dict[str, str]:
    return parsed(configured(*configs).to_slurm(**settings)[step].options)


def test_options_when_parsed_ask_for_whole_cores_and_the_memory_of_the_node():
    found = options(CPU)
    assert found["--cpus-per-task"] == "2"
    assert found["--mem"] == "2356M"
    assert not {"--mem-per-gpu", "--gres", "--begin", "--dependency"} & found.keys()


def test_options_when_the_step_shares_a_gpu_use_mps_and_limit_its_memory_by_variable():
    found = options(CPU, GPU, step="s2")
    assert found["--gres"] == "mps:31"
    assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=6349M" in found["--export"]
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in found["--export"]  # Slurm sets it


def test_options_when_gpus_are_whole_never_ask_for_mps_beside():
    found = options(CPU, GPU, step="s2", gpu="gpu")
    assert found["--gres"] == "gpu:1"
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=31" in found["--export"]


def test_step_when_it_needs_gpu_memory_alone_still_asks_for_a_share():
    assert options(amounts(gpu_mem_gb=2))["--gres"] == "mps:1"


def test_step_when_planned_later_begins_then_and_waits_for_the_other_jobs():
    found = options(CPU, GPU, step="s2")
    assert found["--begin"] == "now+1"  # 500 ms, rounded up
    assert found["--dependency"] == "afterok:$s1"
    assert found["--time"] == "00:01:05"  # 5 s, and a minute to start


def test_time_limit_when_long_is_written_in_hours():
    plan = configured(CPU)
    long = plan.model_copy(update={"steps": (plan.steps[0].model_copy(update={"timeout_ms": 90_000_000}),)})
    assert parsed(long.to_slurm(startup_s=1)["s1"].options)["--time"] == "25:00:01"


def test_memory_when_the_plan_needs_none_is_not_zero_which_would_be_all_of_the_node():
    assert options(amounts(cpu_mem_gb=0))["--mem"] == "1M"


def test_gpu_way_when_unknown_is_refused():
    with pytest.raises(TargetError, match="mps, gpu, got 'whole'"):
        configured(CPU).to_slurm(gpu="whole")


def test_script_when_written_passes_job_numbers_on():
    plan = configured(CPU, GPU)
    lines = written(plan, "slurm", exported(plan, "slurm")).splitlines()
    assert lines[3].startswith("s1=$(sbatch --parsable --job-name=s1-tool_1 ")
    assert lines[3].endswith(" s1.sh)")
    assert '"--dependency=afterok:$s1"' in lines[5]
