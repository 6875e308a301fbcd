"""Steps as options of ``sbatch``: ``sbatch OPTIONS script``, or ``#SBATCH`` lines.

``--mem-per-gpu`` is the host's memory for each GPU, not the GPU's, so it is never used.
https://slurm.schedmd.com/sbatch.html and https://slurm.schedmd.com/gres.html
"""

from __future__ import annotations

from typing import Literal

from tomas_router.schema.plan import ToolPlan
from tomas_router.targets.environment import mps, mps_memory, threads
from tomas_router.targets.exported import Exported, How, Placed, TargetError, placed_steps
from tomas_router.targets.rounding import mib, percent, seconds, whole

SlurmGpu = Literal["mps", "gpu"]
SLURM_GPUS: tuple[SlurmGpu, ...] = ("mps", "gpu")
STARTUP_S = 60


def to_slurm(plan: ToolPlan, *, gpu: SlurmGpu = "mps", startup_s: int = STARTUP_S) -> dict[str, Exported]:
    """A list of options by step id.

    A step that depends on s1 has ``--dependency=afterok:$s1``: a shell variable with the job's number, which
    ``s1=$(sbatch --parsable ...)`` sets.

    Args:
        plan: planned.
        gpu: ``mps`` shares a GPU, with ``Count=100`` for each GPU in gres.conf; ``gpu`` takes it whole. A job cannot
            ask for both.
        startup_s: added to a step's time limit, because a job's clock runs while its node gets ready.

    Raises:
        TargetError: nothing is placed.
    """
    if gpu not in SLURM_GPUS:
        raise TargetError(f"gpu must be one of {', '.join(SLURM_GPUS)}, got {gpu!r}")
    return {p.id: Exported(_options(p, gpu, startup_s), p.notes(_said(gpu, startup_s))) for p in placed_steps(plan)}


def _options(placed: Placed, gpu: SlurmGpu, startup_s: int) -> list[str]:
    config = placed.config
    options = [
        f"--job-name={placed.id}-{placed.step.tool_name}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={whole(config.cpu_core)}",
        f"--mem={max(mib(config.cpu_mem_gb), 1)}M",  # 0 would be all of the node
        "--no-requeue",  # a tool that failed half-way is not run again unasked
    ]
    environment = threads(config)
    if placed.uses_gpu:
        options.append(f"--gres=mps:{max(percent(config.gpu_sm), 1)}" if gpu == "mps" else "--gres=gpu:1")
        environment |= mps_memory(config) if gpu == "mps" else mps(config)  # gres/mps sets the share itself
    if placed.timeout_ms is not None:
        options.append(f"--time={_clock(seconds(placed.timeout_ms) + startup_s)}")
    if placed.start_ms > 0:
        options.append(f"--begin=now+{seconds(placed.start_ms)}")
    if placed.step.depends_on:
        jobs = ":".join(f"${step}" for step in placed.step.depends_on)
        options += [f"--dependency=afterok:{jobs}", "--kill-on-invalid-dep=yes"]
    variables = ",".join(f"{name}={value}" for name, value in environment.items())
    return [*options, f"--export=ALL,{variables}"]


def _clock(whole_seconds: int) -> str:
    hours, rest = divmod(whole_seconds, 3600)
    return f"{hours:02}:{rest // 60:02}:{rest % 60:02}"


def _said(gpu: SlurmGpu, startup_s: int) -> dict[str, tuple[How, str]]:
    share: tuple[How, str] = (
        "advisory",
        "counted, and CUDA_MPS_ACTIVE_THREAD_PERCENTAGE is set; needs MPS on the node and Count=100 for each GPU",
    )
    memory: tuple[How, str] = ("advisory", "not counted, so jobs may meet; the MPS variable holds this one to it")
    if gpu == "gpu":
        share = ("not_expressed", "the whole GPU is reserved; the MPS variable counts only where MPS runs")
        memory = ("not_expressed", "all memory of the GPU; no check that it has enough")
    return {
        "cpu_core": ("enforced", "whole cores; held where cgroup.conf has ConstrainCores"),
        "cpu_mem_gb": ("enforced", "of the host; held where cgroup.conf has ConstrainRAMSpace"),
        "gpu_sm": share,
        "gpu_mem_gb": memory,
        "timeout_ms": (
            "enforced",
            f"--time, with {startup_s} s more to start; Slurm rounds up to whole minutes",
        ),
        "start_ms": ("enforced", "--begin, in whole seconds; it is the earliest start, later when the queue is full"),
        "depends_on": ("enforced", "--dependency=afterok with the other jobs' numbers; cancelled when they fail"),
    }
