"""The measuring process of a GPU profile: makes the networks, runs them, and writes down what each cell took."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.gpu_raw import SIZES, append, key_of, load_tools, read_raw
from benchmarks.gpu_share import green_share, seen_sm_count
from tomas_router.profiling.peak_memory import own_peak_bytes, reset_peak

WARMUP, REPEATS, MIN_REPEATS = 2, 10, 4
PROBE_WIDTH, PROBE_RUNS = 8192, 4
IN_FORCE_FACTOR = 1.6
"""A share is in force if its rate is at most so many times the share of the whole GPU's rate."""
PROCESS_START_S = 12.0
"""What importing torch and making networks takes, roughly; only for sharing out the time."""
NOT_IN_FORCE = 3
"""Exit code."""


def measure_share(args: argparse.Namespace) -> int:
    """Measures what is not yet in the raw file, on one core and the shares that this process may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tools = load_tools()
    device = "cpu" if args.cpu else "cuda"
    if not args.cpu and not torch.cuda.is_available():
        print("torch sees no GPU; --cpu --tiny tries the script without one", flush=True)
        return NOT_IN_FORCE
    if not read_raw(args.raw):
        append(args.raw, _machine(args, device))
    if not args.cpu and not _probe_shares(args):
        return NOT_IN_FORCE
    context_bytes = 0 if args.cpu else _context_bytes(args.used_before)
    done = {key_of(line) for line in read_raw(args.raw) if line["kind"] == "cell"}
    names = [w for w in tools.WORKLOADS if not args.only or w.name in args.only]
    cells = [(w, size, s) for w in names for size in SIZES for s in args.shares if (w.name, size, s) not in done]
    made: tuple[str, Any] = ("", None)
    for position, (workload, size, share) in enumerate(cells):
        left_s = args.until - time.time()
        if left_s < 2:
            print(f"time is up: {len(cells) - position} cells left out", flush=True)
            return 0
        if made[0] != workload.name:
            made = ("", None)
            gc.collect()
            with torch.device(device):
                made = (workload.name, tools.place(workload.build(args.tiny), args.tiny or args.cpu))
        allowed_s = _allowed_s(args, left_s, len(cells) - position)
        cell = {"tool": workload.name, "input_size": size, "share": share}
        append(args.raw, {"kind": "begin", **cell})
        units = workload.units_of(size, args.tiny)
        result = _measure_cell(args, workload, made[1], units, share, allowed_s, context_bytes)
        append(args.raw, {"kind": "cell", **cell, "unit": workload.unit, "units": units, **result})
        _tell(cell, units, result)
    return 0


def _allowed_s(args: argparse.Namespace, left_s: float, cells: int) -> float:
    """How long the timed calls of the next cell may take, so that the later processes have their time too."""
    later_cells = len(load_tools().WORKLOADS) * len(SIZES) * args.processes_left
    working_s = left_s - PROCESS_START_S * args.processes_left
    return min(max(working_s / (cells + later_cells) * 0.5, 0.1), 1.0)


def _tell(cell: dict[str, Any], units: int, result: dict[str, Any]) -> None:
    runs = sorted(run["latency_ms"] for run in result["runs"])
    middle = f"{runs[len(runs) // 2]:10.3f} ms" if runs else result["detail"]
    memory = f"{result['gpu_peak_bytes'] / 2**30:6.2f} GiB"
    print(f"{cell['share']:5g} %  {cell['tool']:24s} {units:6d}  {middle}  {memory}  {len(runs)} runs", flush=True)


def _measure_cell(
    args: argparse.Namespace,
    workload: Any,
    network: Any,
    units: int,
    share: float,
    allowed_s: float,
    context_bytes: int,
) -> dict[str, Any]:
    import torch

    on_gpu = not args.cpu
    result: dict[str, Any] = {"status": "ok", "detail": "", "runs": [], "gpu_peak_bytes": 0, "sm_count": 0}
    try:
        with _held(args, share) as sm_count:
            result["sm_count"] = sm_count
            gc.collect()
            if on_gpu:
                getattr(torch._C, "_cuda_clearCublasWorkspaces", gc.collect)()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            reset_peak()
            result["runs"] = _runs(workload.prepare(network, units), on_gpu, allowed_s)
            result["peak_bytes"] = own_peak_bytes()
            if on_gpu:
                result["gpu_peak_bytes"] = torch.cuda.max_memory_reserved() + context_bytes
    except torch.OutOfMemoryError as error:
        result |= {"status": "out_of_memory", "detail": str(error)[:200]}
    except (RuntimeError, ImportError) as error:
        result |= {"status": "failed", "detail": f"{type(error).__name__}: {error}"[:300]}
    return result


def _runs(run: Any, on_gpu: bool, allowed_s: float) -> list[dict[str, float]]:
    """Wall time and CPU time of calls that wait for the GPU, without the warm-up."""
    import torch

    timed: list[dict[str, float]] = []
    with torch.inference_mode():
        for _ in range(WARMUP):
            run()
            if on_gpu:
                torch.cuda.current_stream().synchronize()
        began = time.perf_counter()
        while len(timed) < REPEATS and (len(timed) < MIN_REPEATS or time.perf_counter() - began < allowed_s):
            cpu_before, before = time.process_time_ns(), time.perf_counter_ns()
            run()
            if on_gpu:
                torch.cuda.current_stream().synchronize()
            latency_ms = (time.perf_counter_ns() - before) / 1e6
            cpu_ms = (time.process_time_ns() - cpu_before) / 1e6
            timed.append({"latency_ms": round(latency_ms, 4), "cpu_ms": round(cpu_ms, 3)})
    return timed


def _held(args: argparse.Namespace, share: float) -> AbstractContextManager[int]:
    """The context in which torch's work is held to a share; gives the number of SMs, 0 on the CPU."""
    if args.held_by == "green":
        return green_share(share)
    return nullcontext(0 if args.cpu else seen_sm_count())


def _probe_shares(args: argparse.Namespace) -> bool:
    """Measures a matrix product on each share; whether all of them are in force."""
    for share in sorted(args.shares, reverse=True):
        before = {line["share"]: line for line in read_raw(args.raw) if line["kind"] == "probe"}
        if share not in before:
            try:
                with _held(args, share) as sm_count:
                    rate = _tflops()
            except (RuntimeError, ImportError) as error:
                print(f"probe: {share:g} %: {type(error).__name__}: {error}", flush=True)
                return False
            append(args.raw, {"kind": "probe", "share": share, "sm_count": sm_count, "tflops": round(rate, 2)})
            before[share] = {"tflops": rate, "sm_count": sm_count}
        whole = before.get(100.0)
        rate, sm_count = before[share]["tflops"], before[share]["sm_count"]
        part = f", {rate / whole['tflops']:.1%} of the whole" if whole else ""
        print(f"probe: {share:g} %, {sm_count} SMs shown, {rate:.0f} TFLOP/s{part}", flush=True)
        if whole and share < 100 and rate > whole["tflops"] * min(share / 100 * IN_FORCE_FACTOR, 0.95):
            return False
    return True


def _tflops() -> float:
    """Rate of a bfloat16 matrix product, the best of some."""
    import torch

    a = torch.randn(PROBE_WIDTH, PROBE_WIDTH, device="cuda", dtype=torch.bfloat16)
    b = torch.randn_like(a)
    best_s = float("inf")
    for _ in range(PROBE_RUNS + 1):
        torch.cuda.current_stream().synchronize()
        before = time.perf_counter()
        a @ b
        torch.cuda.current_stream().synchronize()
        best_s = min(best_s, time.perf_counter() - before)
    return 2 * PROBE_WIDTH**3 / best_s / 1e12


def _context_bytes(used_before: int) -> int:
    """GPU memory that this process takes beside torch's own pool: context, kernels, libraries."""
    import torch

    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return max(total - free - used_before - torch.cuda.memory_reserved(), 0)


def _machine(args: argparse.Namespace, device: str) -> dict[str, Any]:
    import torch

    models = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    memory = [line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")]
    machine: dict[str, Any] = {
        "kind": "machine",
        "held_by": args.held_by,
        "tiny": args.tiny,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu_model": models[0].partition(":")[2].strip() if models else platform.machine(),
        "usable_cores": os.cpu_count(),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else 0.0,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpu": "",
        "sm_count": 0,
        "gpu_memory_gib": 0.0,
    }
    if device == "cuda":
        shown = torch.cuda.get_device_properties(0)
        machine |= {"gpu": shown.name, "gpu_memory_gib": round(shown.total_memory / 2**30, 1)}
        machine["sm_count"] = shown.multi_processor_count
    return machine


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
