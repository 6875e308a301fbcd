"""The most memory that this process, or a child that it waited for, has held.

Imported by working processes before their limits hold: nothing but the standard library.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

RESET_PEAK = "5"  # man 5 proc, /proc/pid/clear_refs
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


def peak_bytes() -> int:
    """Peak resident memory of this process, or of its largest child that has ended if that held more."""
    return max(own_peak_bytes(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS_BYTES)


def own_peak_bytes() -> int:
    """Peak resident memory of this process since the last reset.

    ``ru_maxrss``, which is left outside Linux, does not forget, and begins at what the starting process held when it
    forked.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES


def reset_peak() -> None:
    """Forgets this process's peak so far, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
