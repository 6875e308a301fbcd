"""Against the types of Docker's SDK for Python; ``pytest -m cluster_cli`` asks the real programs."""

from __future__ import annotations

import argparse
import csv
import io
import shlex

import pytest
from docker.types import DeviceRequest, HostConfig

from tests.targets.plans import CPU, GPU, amounts, configured
from tomas_router.targets.written import exported, written

MIB = 2**20


def host_config(flags: list[str]) -> HostConfig:
    """The flags as ``docker run`` documents them, given to the types that check them."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("cpus", "memory", "memory-swap", "gpus", "ipc", "volume"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--env", action="append", default=[])
    found = parser.parse_args(flags)
    assert all("=" in variable for variable in found.env)
    requests = None
    if found.gpus is not None:  # a line of CSV, so that several devices can be quoted
        ((device,),) = csv.reader(io.StringIO(found.gpus))
        requests = [DeviceRequest(device_ids=[device.removeprefix("device=")], capabilities=[["gpu"]])]
    return HostConfig(
        version="1.47",
        nano_cpus=round(float(found.cpus) * 1e9),
        mem_limit=found.memory,
        memswap_limit=found.memory_swap,
        ipc_mode=found.ipc,
        binds=None if found.volume is None else [found.volume],
        device_requests=requests,
    )


def flags(*configs, step="s1", **settings):
    return configured(*configs).to_docker(**settings)[step].options


def test_flags_when_parsed_hold_the_container_to_the_plan_without_swap():
    config = host_config(flags(CPU))
    assert config["NanoCpus"] == 1_500_000_000
    assert config["Memory"] == config["MemorySwap"] == 2356 * MIB
    assert "DeviceRequests" not in config


def test_flags_when_the_step_shares_a_gpu_show_one_device_and_set_the_mps_variables():
    words = flags(CPU, GPU, step="s2", gpu_device="2")
    config = host_config(words)
    assert config["DeviceRequests"][0]["DeviceIDs"] == ["2"]
    assert config["IpcMode"] == "host"
    assert config["Binds"] == ["/tmp/nvidia-mps:/tmp/nvidia-mps"]
    assert "--env=CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=31" in words
    assert "--env=CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=6349M" in words
    assert "--env=OMP_NUM_THREADS=1" in words


def test_flags_when_there_is_no_mps_daemon_share_nothing_and_say_so():
    step = configured(CPU, GPU).to_docker(mps_pipe=None)["s2"]
    assert not any("MPS" in word or "ipc" in word for word in step.options)
    said = {note.field: note.how for note in step.notes}
    assert said["gpu_sm"] == said["gpu_mem_gb"] == "not_expressed"


@pytest.mark.parametrize(("cores", "flag"), [(0, "0.001"), (0.07, "0.070"), (1234.5671, "1234.568")])
def test_cores_when_printed_keep_every_thousandth_and_are_never_zero(cores, flag):
    assert f"--cpus={flag}" in flags(amounts(cpu_core=cores))


def test_memory_when_tiny_is_the_least_that_docker_takes():
    assert "--memory=6m" in flags(amounts(cpu_mem_gb=0))


def test_script_when_written_quotes_what_a_shell_would_read():
    plan = configured(CPU, GPU)
    lines = written(plan, "docker", exported(plan, "docker"), "my image").splitlines()
    assert lines[:2] == ["#!/bin/sh", "set -e"]
    assert lines[4] == "# s2 tool_2: at 500 ms, after s1"
    words = shlex.split(lines[5])
    assert words[:3] == ["docker", "run", "--rm"]
    assert '--gpus="device=0"' in words
    assert words[-1] == "my image"
