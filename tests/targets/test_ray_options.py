"""Against Ray's own check of task options; no cluster is needed for it."""

from __future__ import annotations

import pytest
import ray

from tests.targets.plans import CPU, GPU, amounts, configured
from tomas_router.targets.exported import TargetError


def accepted(options: dict) -> dict:
    """The options, taken by Ray."""

    @ray.remote
    def tool():
        return None

    tool.options(**options)
    return options


def test_options_when_given_to_ray_are_accepted_with_the_amounts_of_the_plan():
    steps = configured(CPU, GPU).to_ray()
    first, second = (accepted(step.options) for step in steps.values())
    assert first == {"name": "s1 tool_1", "num_cpus": 1.5, "memory": int(2.3 * 2**30), "max_retries": 0}
    assert second["num_cpus"] == 0.07
    assert second["num_gpus"] == 0.301
    assert second["resources"] == {"gpu_mem_gb": 6.2}
    environment = second["runtime_env"]["env_vars"]
    assert environment == {
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "31",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=6349M",
    }


def test_check_when_an_option_is_wrong_would_fail():
    with pytest.raises(ValueError, match="precision"):
        accepted({"num_gpus": 0.00001})
    with pytest.raises(ValueError, match="num_cpu"):
        accepted({"num_cpu": 1})


@pytest.mark.parametrize(
    ("config", "total", "share"),
    [
        (amounts(gpu_sm=30, gpu_mem_gb=6), None, 0.3),
        (amounts(gpu_sm=30, gpu_mem_gb=6), 80, 0.3),
        (amounts(gpu_sm=30, gpu_mem_gb=60), 80, 0.75),
        (amounts(gpu_sm=0, gpu_mem_gb=60), None, 0.0001),
        (amounts(gpu_sm=100, gpu_mem_gb=80), 80, 1.0),
        (amounts(gpu_sm=0.001), None, 0.0001),
        (amounts(gpu_sm=1, gpu_mem_gb=1), 3, 0.3334),
    ],
)
def test_share_when_the_memory_of_a_gpu_is_known_is_the_larger_of_both_and_at_most_one(config, total, share):
    assert accepted(configured(config).to_ray(gpu_total_gib=total)["s1"].options)["num_gpus"] == share


def test_step_when_larger_than_a_gpu_is_refused_with_both_numbers():
    with pytest.raises(TargetError, match=r"s1 \(tool_1\) needs 90 GiB on one GPU, which has 80"):
        configured(amounts(gpu_mem_gb=90)).to_ray(gpu_total_gib=80)


def test_gpu_memory_when_the_cluster_does_not_count_it_is_said_not_to_be_expressed():
    step = configured(amounts(gpu_sm=50, gpu_mem_gb=4)).to_ray(gpu_memory_resource=None)["s1"]
    assert "resources" not in step.options
    assert {note.field: note.how for note in step.notes}["gpu_mem_gb"] == "not_expressed"


def test_amounts_when_tiny_are_not_below_rays_precision():
    options = accepted(configured(amounts(cpu_core=1e-5, cpu_mem_gb=1e-5)).to_ray()["s1"].options)
    assert options["num_cpus"] == 0.0001
