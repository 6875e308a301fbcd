"""Runs a command for a tool: under the limits of its configuration, and stopped when the call should stop.

::

    @tool
    def ocr(path: str) -> str:
        "Reads the text in a picture."
        return run_command(["tesseract", path, "-"]).stdout
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tomas_router.executors.limits import limit_environment
from tomas_router.executors.running_call import CallStoppedError, RunningCall, StopReason, running_call
from tomas_router.runtime.tracing import trace_environment
from tomas_router.schema.profiling import ResourceConfig

POLL_S = 0.05
KILLED_BY_SYSTEM = (-9, 137)  # what the kernel's out-of-memory killer leaves, directly and through a shell
IDEMPOTENCY_VARIABLE = "TOMAS_IDEMPOTENCY_KEY"


def run_command(
    command: Sequence[str | Path],
    *,
    config: ResourceConfig | None = None,
    text_in: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout_s: float | None = None,
    grace_s: float = 2.0,
) -> subprocess.CompletedProcess[str]:
    """Runs it and waits; when this returns or raises, the process has ended.

    Inside a tool it knows what the call may use, and stops when the call is cancelled, takes too long, or has lost its
    booking: first it asks (SIGTERM), after ``grace_s`` it kills, in both cases the whole process group.

    Args:
        command: program and arguments; no shell.
        config: what it may use; by default what the call may use.
        text_in: its standard input.
        env: more variables; they win over the limits.
        cwd: where it runs.
        timeout_s: how long it may run, beside the time limit of the call.
        grace_s: from asking to killing.

    Raises:
        CallStoppedError: it was stopped.
        MemoryError: the system killed it, which it does when memory runs out.
        subprocess.CalledProcessError: it failed; holds its output.
    """
    call = running_call() or RunningCall(Path(command[0]).name)
    config = config or call.config
    limits = {} if config is None else limit_environment(config)
    variables = {**os.environ, **trace_environment(), **limits, **(env or {})}
    if call.idempotency_key is not None:
        variables.setdefault(IDEMPOTENCY_VARIABLE, call.idempotency_key)
    with call.busy(), tempfile.TemporaryFile("w+", encoding="utf-8") as stdin:  # a pipe could fill up
        stdin.write(text_in or "")
        stdin.seek(0)
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
            cwd=cwd,
            start_new_session=True,
        )
        try:
            out, err = _until_it_ends(process, call, timeout_s)
        except BaseException:
            _end(process, grace_s)
            raise
    if process.returncode in KILLED_BY_SYSTEM:
        raise MemoryError(f"{command[0]} was killed by the system, which it does when memory runs out")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, out, err)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _until_it_ends(process: subprocess.Popen[str], call: RunningCall, timeout_s: float | None) -> tuple[str, str]:
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=POLL_S)
        late: StopReason | None = "timed out" if until is not None and time.monotonic() > until else None
        if (why := call.should_stop() or late) is not None:
            raise CallStoppedError(f"{call.tool} was stopped: {why}", why)


def _end(process: subprocess.Popen[str], grace_s: float) -> None:
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))  # also those that outlive their leader
    process.communicate()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.terminate()
