"""What a result was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("onnxruntime", "numpy", "tokenizers", "torch", "transformers", "semantic-router")
GIB = 1 << 30


def machine() -> dict[str, str]:
    """Processor, cores, memory, load and versions, as a table's rows."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _memory(),
        "load before the run": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        **{package: found for package in PACKAGES if (found := _version(package))},
    }


def resident_mib() -> float:
    """Memory of this process that lies in RAM now, pages of mapped files included; Linux."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no line VmRSS")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    name = fields.get("model name", platform.machine())
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    vector = [
        flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if flag in fields.get("flags", "").split()
    ]
    return ", ".join([name, *numbers, *vector])


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB"
    except (ValueError, OSError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
