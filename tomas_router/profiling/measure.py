"""Measures one cell: starts the measuring process, watches its memory and time, and says what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomas_router.extras import import_extra
from tomas_router.profiling import limits
from tomas_router.profiling.configuration import Configuration
from tomas_router.profiling.event_file import EventFile
from tomas_router.profiling.gpu_watch import GpuWatch
from tomas_router.profiling.host_use import HostUse
from tomas_router.profiling.machine import usable_cores
from tomas_router.profiling.measurement import Measurement, Run, Status
from tomas_router.profiling.process_tree import ProcessTree
from tomas_router.runtime import gpus
from tomas_router.runtime.host import free_memory_bytes, usable_cpus
from tomas_router.schema.profiling import InputSize

GIB = 2**30
LOOK_EVERY_S = 0.02
MAX_LOOKING_SHARE = 0.05
"""Of one core; on a host with thousands of processes a look takes long, and is taken less often."""
STARTUP_TIMEOUT_S = 120.0
DEFAULT_SHARE_OF_FREE_MEMORY = 0.8
STDERR_TAIL_CHARS = 300


@dataclass(frozen=True)
class Cell:
    """What to measure."""

    target: str
    tool: str
    input_size: InputSize
    configuration: Configuration
    warmup: int
    repeats: int
    timeout_s: float
    """Of one call. Importing the tools and making an input may each take this long, and at least two minutes."""
    gpu_index: int = 0


@dataclass
class _Watched:
    """What is known of a running measurement."""

    runs: list[Run] = field(default_factory=list)
    peak_bytes: int = 0
    running: bool = False
    since: float = field(default_factory=time.monotonic)
    failure: tuple[Status, str] | None = None

    def take(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self.since = time.monotonic()
            if event["event"] == "failure":
                self.failure = event["status"], event["detail"]
            self.running = event["event"] == "begin"
            if event["event"] == "end":
                self.peak_bytes = max(self.peak_bytes, event["peak_bytes"])
                if event["counts"]:
                    self.runs.append(Run(latency_ms=event["latency_ms"], cpu_ms=event["cpu_ms"]))


def measure(cell: Cell) -> Measurement:
    """Runs the cell in a fresh process; whatever the tool does, this returns, and nothing of it runs on.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    import_extra("psutil", "host", "measuring tools needs psutil")  # before anything is started
    missing = _unavailable(cell)
    if missing:
        return _measurement(cell, "unavailable", missing, _Watched())
    with tempfile.TemporaryDirectory(prefix="tomas-profile-") as folder:
        return _measure_in(cell, Path(folder))


def _unavailable(cell: Cell) -> str:
    wanted, cores = cell.configuration, usable_cores()
    if wanted.cpu_core > cores:
        return f"needs {wanted.cpu_core} cores, this process may use {cores}"
    if wanted.gpu_sm > 0 and cell.gpu_index >= len(gpus.gpu_names()):
        return f"needs GPU {cell.gpu_index}, NVML shows {len(gpus.gpu_names())}"
    if 0 < wanted.gpu_sm < 100 and not _mps_runs():
        return f"a GPU share of {wanted.gpu_sm:g} % needs the CUDA MPS control daemon, which does not run"
    return ""


def _mps_runs() -> bool:
    pipes = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))  # NVIDIA's own default
    return (pipes / "control").exists()


def _measure_in(cell: Cell, folder: Path) -> Measurement:
    limit = _memory_limit_bytes(cell.configuration)
    watch = GpuWatch(cell.gpu_index) if cell.configuration.gpu_sm > 0 else None
    state = _Watched()
    host = HostUse()
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tomas_router.profiling.worker", str(_write_job(cell, folder, limit))],
            env=_environment(cell), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    tree = ProcessTree(process.pid)
    try:
        stopped = _follow(process, tree, EventFile(folder / "events"), cell, limit, state, watch)
    finally:  # also when the user interrupts
        tree.kill()
        process.wait()
    tail = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip()[-STDERR_TAIL_CHARS:]
    status, detail = stopped or state.failure or _verdict(process.returncode, len(state.runs), cell.repeats, tail)
    return _measurement(cell, status, detail, state, watch, host.others_busy_cores())


def _follow(
    process: subprocess.Popen[bytes],
    tree: ProcessTree,
    events: EventFile,
    cell: Cell,
    limit_bytes: int,
    state: _Watched,
    watch: GpuWatch | None,
) -> tuple[Status, str] | None:
    """Watches until the process ends; why it had to be stopped, if it had to."""
    while True:
        ended = process.poll() is not None
        state.take(events.new())
        if ended:
            return None
        began = time.monotonic()
        resident = tree.resident_bytes()
        if state.running:
            state.peak_bytes = max(state.peak_bytes, resident)
        if watch is not None:
            watch.look(tree.pids())
        if resident > limit_bytes:
            return "out_of_memory", f"{resident / GIB:.2f} GiB were in use, the limit is {limit_bytes / GIB:.2f} GiB"
        allowed_s = cell.timeout_s if state.running else max(cell.timeout_s, STARTUP_TIMEOUT_S)
        if time.monotonic() - state.since > allowed_s:
            doing = "a call" if state.running else "importing the tool or making its input"
            return "timed_out", f"{doing} took over {allowed_s:g} s"
        time.sleep(max(LOOK_EVERY_S, (time.monotonic() - began) / MAX_LOOKING_SHARE))


def _verdict(code: int, runs: int, wanted: int, stderr: str) -> tuple[Status, str]:
    """What the end of a process means that was not stopped and reported no failure."""
    said = f": {stderr.splitlines()[-1]}" if stderr else ""
    if code < 0:
        return "crashed", f"ended by {signal.Signals(-code).name}{said}"
    if code > 0 or runs < wanted:
        return "crashed", f"exit code {code} after {runs} of {wanted} runs{said}"
    return "ok", ""


def _measurement(
    cell: Cell,
    status: Status,
    detail: str,
    state: _Watched,
    watch: GpuWatch | None = None,
    others_busy_cores: float = 0.0,
) -> Measurement:
    gpu_peak, gpu_memory_of = (0, "none") if watch is None else watch.peak
    return Measurement(
        tool=cell.tool,
        input_size=cell.input_size,
        configuration=str(cell.configuration),
        cpu_core=cell.configuration.cpu_core,
        gpu_sm=cell.configuration.gpu_sm,
        status=status,
        detail=detail,
        runs=tuple(state.runs),
        peak_bytes=state.peak_bytes,
        gpu_peak_bytes=gpu_peak,
        gpu_memory_of=gpu_memory_of,
        others_busy_cores=others_busy_cores,
    )


def _write_job(cell: Cell, folder: Path, limit_bytes: int) -> Path:
    uses_gpu = cell.configuration.gpu_sm > 0  # CUDA reserves address space that a data limit would refuse
    job = {
        "target": cell.target,
        "tool": cell.tool,
        "size": cell.input_size,
        "warmup": cell.warmup,
        "repeats": cell.repeats,
        "cpus": usable_cpus()[: cell.configuration.cpu_core],
        "data_limit_bytes": None if uses_gpu else limits.data_limit_bytes(limit_bytes),
        "events": str(folder / "events"),
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def _environment(cell: Cell) -> dict[str, str]:
    device = gpus.cuda_device(cell.gpu_index) if cell.configuration.gpu_sm > 0 else None
    return (
        os.environ
        | limits.thread_environment(cell.configuration.cpu_core)
        | limits.gpu_environment(device, cell.configuration.gpu_sm)
    )


def _memory_limit_bytes(configuration: Configuration) -> int:
    if configuration.cpu_mem_gb is not None:
        return int(configuration.cpu_mem_gb * GIB)
    return int(free_memory_bytes() * DEFAULT_SHARE_OF_FREE_MEMORY)
