"""Who holds a booking: a process, named so that a later process with the same number is not taken for it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PROC = Path("/proc")
STARTED_FIELD = 19  # proc_pid_stat(5): field 22, counted from the field behind the command name


@dataclass(frozen=True)
class Holder:
    """A process. In containers ``host`` is the container's name, because process numbers are its own."""

    host: str
    pid: int
    started: str | None = None
    """Opaque; differs between two processes that had the same number. None where the system does not tell."""

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    def is_running(self) -> bool | None:
        """Whether the process still runs; None when that cannot be seen from here."""
        if self.host != socket.gethostname() or self.started is None:
            return None
        return _started(self.pid) == self.started


def this_process() -> Holder:
    """The calling process."""
    return _holder(os.getpid())


@lru_cache(maxsize=1)  # by number, so that a forked child is not taken for its parent
def _holder(pid: int) -> Holder:
    return Holder(socket.gethostname(), pid, _started(pid))


def _started(pid: int) -> str | None:
    """Boot and clock ticks since boot, on Linux."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The command name may hold anything, so the fields are counted from its closing bracket.
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[STARTED_FIELD]
    return None if state in "ZX" else f"{boot[:8]}-{started}"  # a zombie runs no more
