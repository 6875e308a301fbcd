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


def touched(mib: int) -> bytearray:
    return bytearray(b"x") * (mib * MIB)


def test_peak_when_a_call_takes_memory_and_gives_it_back_is_what_it_took():
    watch = MemoryWatch(look_s=0.01)
    use = watch.begin()
    held = touched(96)
    until = time.monotonic() + 30  # a look takes long where the process has many children and threads
    while (use.peak_bytes or 0) < 90 * MIB and time.monotonic() < until:
        time.sleep(0.01)
    del held
    watch.end(use)
    assert use.peak_bytes is not None
    assert 90 * MIB <= use.peak_bytes <= 160 * MIB
    assert use.alone
    assert use.peak_gb == round(use.peak_bytes / 2**30, 6)


def test_peak_when_a_child_process_takes_memory_counts_it():
    watch = MemoryWatch(look_s=0.01)
    use = watch.begin()
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
    until = time.monotonic() + 30
    while (use.peak_bytes or 0) < 60 * MIB and time.monotonic() < until:
        time.sleep(0.01)
    child.communicate()
    watch.end(use)
    assert use.peak_bytes is not None
    assert use.peak_bytes >= 60 * MIB


def test_peak_when_an_older_child_ends_meanwhile_is_not_hidden_by_what_it_held():
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
    until = time.monotonic() + 30
    while (resident_bytes() or {}).get(child.pid, 0) < 60 * MIB and time.monotonic() < until:
        time.sleep(0.01)
    watch = MemoryWatch(look_s=0.01)
    use = watch.begin()
    child.communicate()  # 64 MiB and an interpreter less than before
    held = touched(48)
    while (use.peak_bytes or 0) < 40 * MIB and time.monotonic() < until:
        time.sleep(0.01)
    del held
    watch.end(use)
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
