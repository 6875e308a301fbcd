"""The process of one step: takes its limits, imports the tools, runs one, and reports in a file of JSON lines.

Started as ``python -m tomas_router.executors.worker JOB.json``. Nothing is pickled on the way: arguments come and the
output goes as JSON. What is reported survives a crash, because each event is a line that is written at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from tomas_router.profiling import limits
from tomas_router.profiling.event_file import write_event
from tomas_router.profiling.peak_memory import peak_bytes

MAX_DETAIL_CHARS = 400


def main(job_path: str) -> int:
    """Runs one step; 1 when it failed."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    _end_with_the_parent(job["lifeline"])
    limits.pin(job["cpus"])
    limits.limit_data(job["data_limit_bytes"])
    with Path(job["events"]).open("w", encoding="utf-8") as events:
        try:
            _run(job, events)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a tool may raise is a result here)
            detail = " ".join(f"{type(error).__name__}: {error}".strip(": ").split())
            lacked = isinstance(error, MemoryError)
            write_event(events, event="failure", detail=detail[:MAX_DETAIL_CHARS], out_of_memory=lacked)
            return 1
    return 0


def _run(job: dict[str, Any], events: TextIO) -> None:
    from tomas_router.executors.plain import plain
    from tomas_router.executors.tools import call, load_tools

    tool = load_tools(job["target"])[job["tool"]]
    arguments = job["arguments"] if job["sample"] is None else tool.arguments(job["sample"])
    write_event(events, event="begin", at_s=time.time())
    output = call(tool, arguments)
    ended_s = time.time()
    peak = peak_bytes()
    write_event(events, event="end", at_s=ended_s, output=plain(output), peak_bytes=peak)


def _end_with_the_parent(lifeline: int) -> None:
    """Kills this process group when the other end of a pipe is closed, as a killed parent closes it."""

    def watch() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
