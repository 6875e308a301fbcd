"""The measuring process: takes its limits, imports the tools, runs one of them, reports every step in a file.

Started as ``python -m tomas_router.profiling.worker JOB.json``. What it reports survives a crash, because each event is
a line that is written at once. The tool's own output goes where the parent has put standard output and error.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tomas_router.profiling import limits
from tomas_router.profiling.event_file import write_event
from tomas_router.profiling.peak_memory import peak_bytes, reset_peak

MAX_DETAIL_CHARS = 300


def main(job_path: str) -> int:
    """Measures one tool at one size in one configuration."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    limits.pin(job["cpus"])
    limits.limit_data(job["data_limit_bytes"])
    with Path(job["events"]).open("w", encoding="utf-8") as events:
        try:
            _measure(job, events)
        except MemoryError as error:
            return _report_failure(events, "out_of_memory", error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a tool may raise is a result here)
            return _report_failure(events, "failed", error)
    return 0


def _measure(job: dict[str, Any], events: TextIO) -> None:
    from tomas_router.profiling.target import load_tools

    tool = next(tool for tool in load_tools(job["target"]) if tool.name == job["tool"])
    for run in range(job["warmup"] + job["repeats"]):
        arguments = tool.arguments(job["size"])
        gc.collect()
        reset_peak()  # making the input does not count
        write_event(events, event="begin")
        cpu_before, before = _cpu_s(), time.perf_counter_ns()
        result = tool.run(arguments)
        latency_ms = round((time.perf_counter_ns() - before) / 1e6, 4)
        cpu_ms = round((_cpu_s() - cpu_before) * 1000, 3)
        counts = run >= job["warmup"]
        peak = peak_bytes()
        write_event(events, event="end", counts=counts, latency_ms=latency_ms, cpu_ms=cpu_ms, peak_bytes=peak)
        del result, arguments


def _report_failure(events: TextIO, status: str, error: BaseException) -> int:
    detail = f"{type(error).__name__}: {error}".strip(": ")[:MAX_DETAIL_CHARS]
    write_event(events, event="failure", status=status, detail=detail)
    return 1


def _cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
