"""Commands that tools run, in real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tomas_router.executors.command import run_command
from tomas_router.executors.out_of_memory import is_out_of_memory
from tomas_router.executors.running_call import CallStoppedError, RunningCall, running, running_call
from tomas_router.schema.profiling import ResourceConfig

CONFIG = ResourceConfig(cpu_core=2, cpu_mem_gb=1, gpu_sm=25, gpu_mem_gb=2)
SHOW = "import os; print(os.environ.get('OMP_NUM_THREADS'), os.environ.get('CUDA_MPS_ACTIVE_THREAD_PERCENTAGE'), " + (
    "os.environ.get('TOMAS_IDEMPOTENCY_KEY'))"
)
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def python(code):
    return [sys.executable, "-c", code]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_command_when_part_of_a_call_gets_its_limits_and_its_key():
    with running(RunningCall("ocr", CONFIG, idempotency_key="k1")):
        assert run_command(python(SHOW)).stdout.split() == ["2", "25", "k1"]


def test_command_when_outside_of_a_call_has_the_limits_that_it_is_given():
    assert running_call() is None
    assert run_command(python(SHOW), config=CONFIG, env={"OMP_NUM_THREADS": "7"}).stdout.split()[:2] == ["7", "25"]


def test_command_when_given_text_reads_it_all():
    text = "x" * 300_000
    echo = "import sys, time; time.sleep(0.2); sys.stdout.write(sys.stdin.read())"
    assert run_command(python(echo), text_in=text).stdout == text


def test_command_when_it_fails_raises_with_its_output():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_command(python("import sys; print('half'); sys.stderr.write('why'); sys.exit(3)"))
    assert (caught.value.returncode, caught.value.stdout, caught.value.stderr) == (3, "half\n", "why")


def test_command_when_killed_by_the_system_says_that_memory_ran_out():
    with pytest.raises(MemoryError, match="killed by the system"):
        run_command(python("import os; os.kill(os.getpid(), 9)"))


@pytest.mark.parametrize("reason", ["cancelled", "timed out", "lease lost"])
def test_command_when_the_call_should_stop_is_killed_with_its_children(tmp_path, reason):
    pids = tmp_path / "pids"
    parent = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        f"open({str(pids)!r} + '.part', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(pids)!r} + '.part', {str(pids)!r})\n"
        "time.sleep(60)\n"
    )
    call = RunningCall("stuck", lost=lambda: reason == "lease lost" and pids.exists())

    def ask():
        while not pids.exists():
            time.sleep(0.01)
        if reason != "lease lost":
            call.stop(reason)

    threading.Thread(target=ask).start()
    with running(call), pytest.raises(CallStoppedError, match=f"stuck was stopped: {reason}") as caught:
        run_command(python(parent), grace_s=0.3)
    assert caught.value.reason == reason
    time.sleep(0.05)
    leader, child = map(int, pids.read_text().split())
    assert not is_alive(leader)
    assert not is_alive(child) or _is_zombie(child)
    assert call.ended.is_set()


def _is_zombie(pid):
    """Nobody may be there to collect an orphan in a container."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_command_when_it_takes_too_long_is_stopped():
    with pytest.raises(CallStoppedError, match="timed out"):
        run_command(python("import time; time.sleep(60)"), timeout_s=0.2)


def test_command_when_run_in_a_thread_of_a_coroutine_belongs_to_the_call():
    async def tool():
        return await asyncio.to_thread(run_command, python(SHOW))

    with running(RunningCall("ocr", CONFIG, idempotency_key="k2")):
        assert asyncio.run(tool()).stdout.split() == ["2", "25", "k2"]


def test_call_when_several_parts_are_busy_has_ended_with_the_last():
    call = RunningCall("x")
    with call.busy():
        with call.busy():
            pass
        assert not call.ended.is_set()
    assert call.ended.is_set()


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("something else"), False),
        (ValueError("memory"), False),
    ],
)
def test_out_of_memory_when_asked_is_known_by_type_name_or_words(error, expected):
    assert is_out_of_memory(error) is expected


def test_out_of_memory_when_it_is_the_cause_is_found():
    error = RuntimeError("tool failed")
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)
