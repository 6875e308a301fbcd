"""What calls take while they run here or in processes that they start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from tomas_router.runtime.memory_watch import MemoryUse, MemoryWatch, resident_bytes

MIB = 2**20
CHILD = "import sys; held = bytearray(b'x') * (64 * 2**20); sys.stdin.read()"
"""Holds its memory until its input is closed."""


PREPARED = """
import subprocess, sys, time
from tomas_router.runtime.memory_watch import MemoryWatch, resident_bytes
MIB = 2**20
until = time.monotonic() + 60  # a look takes long on a busy machine
def wait_for(done):
    while not done() and time.monotonic() < until:
        time.sleep(0.01)
watch = MemoryWatch(look_s=0.01)
"""


def in_a_fresh_process(body: str) -> MemoryUse:
    """What ``use`` says at the end of ``body``; here, what earlier tests left behind may be freed at any moment."""
    told = "print(use.peak_bytes, int(use.alone), use.peak_gb)"
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + body + told], capture_output=True, text=True, check=True, timeout=120
    )
    peak, alone, gb = done.stdout.split()
    use = MemoryUse(peak_bytes=int(peak), alone=alone == "1", ended=True)
    assert use.peak_gb == float(gb)
    return use


def test_peak_when_a_call_takes_memory_and_gives_it_back_is_what_it_took():
    use = in_a_fresh_process("""
use = watch.begin()
held = bytearray(b"x") * (96 * MIB)
wait_for(lambda: use.peak_bytes >= 90 * MIB)
del held
watch.end(use)
""")
    assert use.peak_bytes is not None
    assert 90 * MIB <= use.peak_bytes <= 160 * MIB
    assert use.alone


def test_peak_when_a_child_process_takes_memory_counts_it():
    use = in_a_fresh_process(f"""
use = watch.begin()
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE)
wait_for(lambda: use.peak_bytes >= 60 * MIB)
child.communicate()
watch.end(use)
""")
    assert use.peak_bytes is not None
    assert use.peak_bytes >= 60 * MIB


def test_peak_when_an_older_child_ends_meanwhile_is_not_hidden_by_what_it_held():
    use = in_a_fresh_process(f"""
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE)
wait_for(lambda: resident_bytes().get(child.pid, 0) >= 60 * MIB)
use = watch.begin()
child.communicate()  # 64 MiB and an interpreter less than before
held = bytearray(b"x") * (48 * MIB)
wait_for(lambda: use.peak_bytes >= 40 * MIB)
del held
watch.end(use)
""")
    assert use.peak_bytes is not None
    assert 40 * MIB <= use.peak_bytes <= 100 * MIB


def test_calls_when_they_overlap_say_that_they_were_not_alone():
    watch = MemoryWatch()
    first = watch.begin()
    second = watch.begin()
    watch.end(first)
    watch.end(second)
    third = watch.begin()
    watch.end(third)
    assert (first.alone, second.alone, third.alone) == (False, False, True)


def test_call_when_ended_before_it_began_is_not_watched():
    watch = MemoryWatch()
    cancelled = MemoryUse()
    watch.end(cancelled)
    watch.begin(cancelled)
    alone = watch.begin()
    watch.end(alone)
    assert alone.alone


def test_watch_when_nothing_runs_any_more_has_no_thread():
    watch = MemoryWatch(look_s=0.01)
    watch.end(watch.begin())
    until = time.monotonic() + 5
    while any(thread.name == "memory-watch" for thread in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(thread.name == "memory-watch" for thread in threading.enumerate())


def test_memory_when_asked_is_that_of_this_process_at_least():
    held = resident_bytes()
    assert held is not None
    assert held[os.getpid()] > 10 * MIB
