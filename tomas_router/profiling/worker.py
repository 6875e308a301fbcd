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

MAX_DETAIL_CHARS = 300
RESET_PEAK = "5"  # man 5 proc, /proc/pid/clear_refs
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


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
        since_reset = _reset_peak()
        _write(events, event="begin")
        cpu_before, before = _cpu_s(), time.perf_counter_ns()
        result = tool.run(arguments)
        latency_ms = round((time.perf_counter_ns() - before) / 1e6, 4)
        cpu_ms = round((_cpu_s() - cpu_before) * 1000, 3)
        counts = run >= job["warmup"]
        peak = _peak_bytes(since_reset)
        _write(events, event="end", counts=counts, latency_ms=latency_ms, cpu_ms=cpu_ms, peak_bytes=peak)
        del result, arguments


def _report_failure(events: TextIO, status: str, error: BaseException) -> int:
    detail = f"{type(error).__name__}: {error}".strip(": ")[:MAX_DETAIL_CHARS]
    _write(events, event="failure", status=status, detail=detail)
    return 1


def _write(events: TextIO, **event: Any) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


def _cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _reset_peak() -> bool:
    """Forgets the peak so far, so that making the input does not count; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _peak_bytes(since_reset: bool) -> int:
    """Peak resident memory of this process, and of its largest child that has ended."""
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS_BYTES
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES
    if since_reset:  # ru_maxrss does not forget
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        own = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return max(own, child)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
