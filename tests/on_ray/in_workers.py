"""What the tests run in workers, which import it by this name."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.runtime.ledgers import NOON_MS
from tomas_router.planner.allocator import StepDemand, allocate_plan
from tomas_router.planner.demand import ResourceOption
from tomas_router.runtime.timeline import SystemTimeline


def assigned() -> dict[str, object]:
    """What Ray gave to the task."""
    import ray

    context = ray.get_runtime_context()
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT")
    return context.get_assigned_resources() | {name: os.environ.get(name) for name in names} | {"pid": os.getpid()}


def once(path: str) -> None:
    """Notes that it ran, and takes its worker down."""
    with Path(path).open("a", encoding="ascii") as file:
        file.write("x")
    os._exit(1)


def place_steps(ledger, count, folder):
    """Books one-core minutes on a machine of two cores, when two do so; what was booked."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    timeline = SystemTimeline.from_rows([(0, 2, 4, 0, 0)], tail="hold", epoch_ms=NOON_MS)
    step = StepDemand([ResourceOption(1, 1, 0, 0, 60_000)])
    made = []
    while len(made) < count:
        (placed,) = allocate_plan([step], timeline, 0, ledger)
        made.append((placed.start_ms, placed.end_ms))
    return made
