"""Looks at a process with all its children, and ends them all."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from tomas_router.extras import import_extra

END_WAIT_S = 5.0


class ProcessTree:
    """A process that was started here, and whatever it starts.

    Resident memory of the members is added up. Pages that a forked child shares with its parent count twice, so the
    sum can be too large and is never too small.
    """

    def __init__(self, pid: int) -> None:
        self._psutil = import_extra("psutil", "host", "measuring tools needs psutil")
        self._root = self._psutil.Process(pid)
        self._seen: dict[int, Any] = {pid: self._root}

    def resident_bytes(self) -> int:
        """Memory of all members now; 0 when the process is gone."""
        return sum(self._resident(member) for member in self._members())

    def pids(self) -> set[int]:
        """The members now."""
        return {member.pid for member in self._members()}

    def kill(self) -> None:
        """Ends all members, also children whose parent is gone; the root must lead a session of its own."""
        self._members()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of its group
            os.killpg(self._root.pid, signal.SIGKILL)
        members = [member for member in self._seen.values() if member.is_running()]
        for member in members:
            try:
                member.kill()
            except self._psutil.Error:  # it ended meanwhile
                continue
        self._psutil.wait_procs([member for member in members if member != self._root], timeout=END_WAIT_S)

    def _members(self) -> list[Any]:
        try:
            found = [self._root, *self._root.children(recursive=True)]
        except self._psutil.Error:
            return []
        for member in found:
            self._seen.setdefault(member.pid, member)
        return found

    def _resident(self, member: Any) -> int:
        try:
            return int(member.memory_info().rss)
        except self._psutil.Error:
            return 0
