"""Runs one call of a tool in a fresh process under limits, and ends it when it goes beyond them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomas_router.executors.execution import Outcome, StepFailedError
from tomas_router.extras import import_extra
from tomas_router.profiling import limits
from tomas_router.profiling.event_file import EventFile
from tomas_router.profiling.process_tree import ProcessTree

GIB = 2**30
LOOK_EVERY_S = 0.02
STARTUP_TIMEOUT_S = 120.0
EXIT_GRACE_S = 5.0
"""After its result a process may still write files and end its threads."""
STDERR_TAIL_CHARS = 300


@dataclass(frozen=True)
class Job:
    """One call, and what it may take."""

    target: str
    tool: str
    arguments: Mapping[str, Any]
    cpus: tuple[int, ...]
    memory_bytes: int
    timeout_s: float | None
    """Of the call; starting the process and importing the tools may take two minutes besides."""
    env: Mapping[str, str]
    sample: str | None = None
    """Size of a ``ProfiledTool``'s sample input, to be used instead of ``arguments``."""
    uses_gpu: bool = False


@dataclass
class _Seen:
    """What a process has reported."""

    begun_s: float | None = None
    end: dict[str, Any] | None = None
    failure: str | None = None
    out_of_memory: bool = False
    peak_bytes: int = 0
    started_s: float = field(default_factory=time.time)

    def take(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["event"] == "begin":
                self.begun_s = event["at_s"]
            elif event["event"] == "end":
                self.end = event
            else:
                self.failure, self.out_of_memory = event["detail"], event["out_of_memory"]


def run_process(job: Job, must_stop: Callable[[], str | None] = lambda: None) -> Outcome:
    """Runs a job to its end; whatever the tool does, this returns or raises, and nothing of it runs on.

    Args:
        job: what to run.
        must_stop: looked at all the time; a reason ends the process.

    Raises:
        StepFailedError: the tool raised, crashed, ran too long, took too much memory, or had to stop.
        MissingExtraError: psutil is not installed.
    """
    import_extra("psutil", "host", "LocalExecutor needs psutil")  # before anything is started
    with tempfile.TemporaryDirectory(prefix="tomas-step-") as folder, _lifeline() as lifeline:
        return _run_in(job, Path(folder), lifeline, must_stop)


def _run_in(job: Job, folder: Path, lifeline: int, must_stop: Callable[[], str | None]) -> Outcome:
    seen = _Seen()
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tomas_router.executors.worker", str(_write_job(job, folder, lifeline))],
            env={**os.environ, **job.env}, start_new_session=True, pass_fds=(lifeline,),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    tree = ProcessTree(process.pid)
    try:
        stopped = _follow(process, tree, EventFile(folder / "events"), job, seen, must_stop)
    finally:  # also when the caller is interrupted
        tree.kill()
        process.wait()
    if stopped is None and seen.end is not None and seen.begun_s is not None:
        peak_bytes = max(seen.end["peak_bytes"], seen.peak_bytes)
        return Outcome(seen.end["output"], seen.begun_s, seen.end["at_s"], peak_bytes=peak_bytes)
    reason = stopped or seen.failure or _crash(process.returncode, folder / "stderr")
    raise StepFailedError(reason, seen.begun_s, out_of_memory=seen.out_of_memory)


def _follow(
    process: subprocess.Popen[bytes],
    tree: ProcessTree,
    events: EventFile,
    job: Job,
    seen: _Seen,
    must_stop: Callable[[], str | None],
) -> str | None:
    """Watches until the process ends; why it had to be stopped, if it had to."""
    while True:
        ended = process.poll() is not None
        seen.take(events.new())
        if ended or (seen.end is not None and time.time() - seen.end["at_s"] > EXIT_GRACE_S):
            return None
        if seen.end is not None:
            time.sleep(LOOK_EVERY_S)
            continue
        resident = tree.resident_bytes()
        seen.peak_bytes = max(seen.peak_bytes, resident)
        if resident > job.memory_bytes:
            seen.out_of_memory = True
            return f"out of memory: {resident / GIB:.2f} GiB were in use, the limit is {job.memory_bytes / GIB:.2f} GiB"
        reason = _too_late(job, seen) or must_stop()
        if reason is not None:
            return reason
        time.sleep(LOOK_EVERY_S)


def _too_late(job: Job, seen: _Seen) -> str | None:
    if seen.begun_s is None:
        late = time.time() - seen.started_s > STARTUP_TIMEOUT_S
        return f"timed out: importing the tools took over {STARTUP_TIMEOUT_S:g} s" if late else None
    late = job.timeout_s is not None and time.time() - seen.begun_s > job.timeout_s
    return f"timed out: the time limit is {job.timeout_s:g} s, so it was killed" if late else None


def _crash(code: int, stderr: Path) -> str:
    """What the end of a process means that reported nothing."""
    lines = stderr.read_text(encoding="utf-8", errors="replace").strip()[-STDERR_TAIL_CHARS:].splitlines()
    said = f": {lines[-1]}" if lines else ""
    if code < 0:
        return f"crashed: ended by {signal.Signals(-code).name}{said}"
    return f"crashed: exit code {code} without a result{said}"


def _write_job(job: Job, folder: Path, lifeline: int) -> Path:
    # CUDA reserves address space that a data limit would refuse
    data_limit = None if job.uses_gpu else limits.data_limit_bytes(job.memory_bytes)
    content = {
        "target": job.target,
        "tool": job.tool,
        "arguments": dict(job.arguments),
        "sample": job.sample,
        "cpus": list(job.cpus),
        "data_limit_bytes": data_limit,
        "events": str(folder / "events"),
        "lifeline": lifeline,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@contextmanager
def _lifeline() -> Iterator[int]:
    """The end of a pipe that a child reads; it ends when this process does."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)
