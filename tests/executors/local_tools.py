"""Tools that the tests of executors run in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tomas_router.profiling.tool import ProfiledTool


def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


async def double(number: int) -> dict[str, int]:
    """Doubles, later."""
    return {"number": 2 * number}


def whereabouts() -> dict[str, object]:
    """What the process was given."""
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
    return {"pid": os.getpid(), "cpus": sorted(os.sched_getaffinity(0)), **{n: os.environ.get(n) for n in names}}


def fail() -> None:
    """Raises."""
    raise ValueError("no\nway")


def crash() -> None:
    """Ends its own process."""
    os.abort()


def leave() -> None:
    """Leaves without a word."""
    os._exit(3)


def hang(marker: str) -> None:
    """Never ends, nor does the child that it starts; both tell their numbers."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(marker).write_text(f"{os.getpid()} {child.pid}", encoding="ascii")
    time.sleep(600)


def eat(mib: int) -> int:
    """Takes memory, a piece at a time."""
    pieces = []
    for _ in range(mib):
        pieces.append(b"x" * 2**20)
        time.sleep(0.002)
    return len(pieces)


def eat_at_once(gib: int) -> int:
    """Takes memory in one piece."""
    return len(b"x" * (gib * 2**30))


def sleep(seconds: float) -> float:
    """Sleeps."""
    time.sleep(seconds)
    return seconds


def write_late(path: str) -> str:
    """Leaves a file open that is written when the process ends."""
    global kept
    kept = Path(path).open("w", encoding="ascii")  # noqa: SIM115 - that is the point
    kept.write("written")
    return path


def measured(text: str) -> str:
    """Capitals."""
    return text.upper()


tools = [add, double, whereabouts, fail, crash, leave, hang, eat, eat_at_once, sleep, write_late]
tools += [ProfiledTool(measured, {"small": {"text": "sample"}})]
TARGET = "tests.executors.local_tools:tools"
