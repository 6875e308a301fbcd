"""From the raw results of ``benchmarks.gpu_profile`` to table, metadata and registry; prints the law and its errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu_law import Fit, fit
from benchmarks.gpu_measure import MIN_REPEATS, REPEATS, WARMUP
from benchmarks.gpu_raw import load_tools, read_raw
from tomas_router import __version__
from tomas_router.profiling.configuration import Configuration
from tomas_router.profiling.machine import Machine, Software
from tomas_router.profiling.measurement import Measurement, Run
from tomas_router.profiling.results import Profile, Settings, write_profile

HELD_BY = {
    "mps": "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE of a fresh process a share; the rate of a matrix product was checked",
    "green": "green contexts in one process: gpu_sm is their number of SMs, rounded up; the rate of a matrix product "
    "was checked",
}


class RawProfileError(ValueError):
    """The raw results are no profile of a GPU."""


def write_and_print(raw: Path, csv: Path, registry: Path) -> int:
    """Writes the three files and prints what was measured as Markdown."""
    lines = read_raw(raw)
    profile = profile_of(lines)
    write_profile(profile, csv)
    write_registry(registry)
    rows = len(profile.table())
    print(f"{csv}: {rows} rows of {len(profile.measurements)} cells; {registry}\n")
    print_probes(lines)
    print_latencies(lines)
    print_law(lines)
    return 0


def profile_of(lines: list[dict[str, Any]]) -> Profile:
    """The metadata with all cells.

    Raises:
        RawProfileError: It was made on the CPU or with very small networks, or nothing was measured.
    """
    machine = _machine_line(lines)
    return Profile(
        measured_at=machine["measured_at"],
        machine=Machine(
            system=machine["system"],
            architecture=machine["architecture"],
            cpu_model=machine["cpu_model"],
            usable_cores=machine["usable_cores"],
            memory_gib=machine["memory_gib"],
            gpus=(machine["gpu"],),
            gpu_sm_counts=(machine["sm_count"],),
        ),
        software=Software(
            tomas_router=__version__,
            python=machine["python"],
            packages={"torch": machine["torch"], "cuda": machine["cuda"]},
        ),
        enforcement={
            "cpu_core": "affinity mask of one core",
            "cpu_mem_gb": "measured (VmHWM), not limited",
            "gpu_sm": HELD_BY[machine["held_by"]],
            "gpu_mem_gb": "measured: what torch reserved, and the context beside it; not limited",
            "others_busy_cores": "not measured",
        },
        settings=Settings(
            target="examples/gpu_tools.py:tools",
            warmup=WARMUP,
            repeats=REPEATS,
            timeout_s=75.0,
            headroom=0.1,
            min_gain=0.05,
        ),
        latency=f"median of {MIN_REPEATS} to {REPEATS} runs",
        measurements=tuple(_measurement(cell, machine) for cell in _cells(lines)),
    )


def write_registry(path: Path) -> None:
    """The tools as a registry."""
    tools = [{"name": workload.name, "desc": workload.desc} for workload in load_tools().WORKLOADS]
    path.write_text(json.dumps(tools, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def laws(lines: list[dict[str, Any]]) -> dict[str, Fit]:
    """The fitted law of every tool with enough points."""
    machine = _machine_line(lines)
    found = {}
    for tool in dict.fromkeys(cell["tool"] for cell in _measured(lines)):
        points = [cell for cell in _measured(lines) if cell["tool"] == tool]
        if len(points) >= 6:
            shares = [_share(cell, machine) for cell in points]
            found[tool] = fit([cell["units"] for cell in points], shares, [_p50_ms(cell) for cell in points])
    return found


def print_probes(lines: list[dict[str, Any]]) -> None:
    probes = {line["share"]: line for line in lines if line["kind"] == "probe"}
    whole = probes[100.0]["tflops"]
    print("| share asked for | SMs shown | matrix product, TFLOP/s | of the whole GPU |\n|---|---|---|---|")
    for share, probe in sorted(probes.items()):
        print(f"| {share:g} % | {probe['sm_count']} | {probe['tflops']:.0f} | {probe['tflops'] / whole:.1%} |")
    print()


def print_latencies(lines: list[dict[str, Any]]) -> None:
    shares = sorted({cell["share"] for cell in _measured(lines)})
    print("| tool | units | " + " | ".join(f"{share:g} %" for share in shares) + " | GPU memory, GiB |")
    print("|---|---|" + "---|" * (len(shares) + 1))
    by_key = {(cell["tool"], cell["units"], cell["share"]): cell for cell in _measured(lines)}
    for tool, units in dict.fromkeys((tool, units) for tool, units, _ in by_key):
        here = [by_key.get((tool, units, share)) for share in shares]
        cells = [f"{_p50_ms(cell):.3g}" if cell else "-" for cell in here]
        unit = next(cell["unit"] for cell in here if cell)
        memory = max(cell["gpu_peak_bytes"] for cell in here if cell) / 2**30
        print(f"| `{tool}` | {units} {unit} | " + " | ".join(cells) + f" | {memory:.2f} |")
    print()


def print_law(lines: list[dict[str, Any]]) -> None:
    print("| tool | points | MAPE | p95 | left out: MAPE | p95 | k0 | k1 | k2 | k3 | serial, small / large |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for tool, found in laws(lines).items():
        units = sorted({cell["units"] for cell in _measured(lines) if cell["tool"] == tool})
        k = " | ".join(f"{value:.3g}" for value in found.law.k)
        serial = f"{found.law.serial_share(units[0]):.2f} / {found.law.serial_share(units[-1]):.2f}"
        errors = f"{found.mape:.1%} | {found.p95:.1%} | {found.left_out_mape:.1%} | {found.left_out_p95:.1%}"
        print(f"| `{tool}` | {found.points} | {errors} | {k} | {serial} |")


def _machine_line(lines: list[dict[str, Any]]) -> dict[str, Any]:
    machines = [line for line in lines if line["kind"] == "machine"]
    if not machines or not _cells(lines):
        raise RawProfileError("the raw file holds no measurement")
    machine = machines[0]
    if machine["held_by"] not in HELD_BY or machine["tiny"]:
        raise RawProfileError(
            f"shares must be held by mps or green contexts on full networks, got {machine['held_by']!r}, "
            f"tiny: {machine['tiny']}"
        )
    return machine


def _cells(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last result of every cell, in order."""
    cells = {(c["tool"], c["input_size"], c["share"]): c for c in lines if c["kind"] == "cell"}
    return list(cells.values())


def _measured(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [cell for cell in _cells(lines) if cell["status"] == "ok"]


def _share(cell: dict[str, Any], machine: dict[str, Any]) -> float:
    """Part of the SMs, from 0 (excluded) to 1: as CUDA shows them, else as asked for."""
    shown = cell["sm_count"] / machine["sm_count"]
    return shown if shown < 1 else cell["share"] / 100


def _gpu_sm(cell: dict[str, Any], machine: dict[str, Any]) -> float:
    """Percent that a plan must reserve: what MPS was asked for, or the SMs of the green context, rounded up."""
    if machine["held_by"] == "mps":
        return float(cell["share"])
    if not cell.get("sm_count"):  # the process crashed before it could say
        return float(cell["share"])
    return math.ceil(cell["sm_count"] * 1000 / machine["sm_count"]) / 10


def _measurement(cell: dict[str, Any], machine: dict[str, Any]) -> Measurement:
    gpu_sm = _gpu_sm(cell, machine)
    return Measurement(
        tool=cell["tool"],
        input_size=cell["input_size"],
        configuration=str(Configuration(1, None, gpu_sm)),
        cpu_core=1,
        gpu_sm=gpu_sm,
        status=cell["status"],
        detail=cell["detail"],
        runs=tuple(Run(**run) for run in cell["runs"]),
        peak_bytes=cell.get("peak_bytes", 0),
        gpu_peak_bytes=cell.get("gpu_peak_bytes", 0),
        gpu_memory_of="process",
    )


def _p50_ms(cell: dict[str, Any]) -> float:
    return median(run["latency_ms"] for run in cell["runs"])
