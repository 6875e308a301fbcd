"""How much memory a call takes that runs in this process, or in processes that it starts.

One thread looks at the process and all its children while any call runs. A call's peak is what they held at most above
what they held when it began, so a call that finds its libraries and models loaded takes less than one in a fresh
process (``tomas profile`` measures those). What a child held that was there before, and ended meanwhile, is no room
for others: each look compares with those that are still there. Calls that run at the same time cannot be told apart:
each sees what all of them take, and says that it was not alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

GIB = 2**30
LOOK_S = 0.05
"""A peak that is shorter can be missed."""
MAX_DEPTH = 8
READ_BYTES = 64 * 1024


@dataclass(eq=False)
class MemoryUse:
    """Of one call; final when it has ended."""

    peak_bytes: int | None = None
    """Above what was held before; None where the system does not say."""
    alone: bool = True
    """Whether no other watched call ran meanwhile."""
    ended: bool = False
    _before: Mapping[int, int] | None = field(default=None, repr=False)

    @property
    def peak_gb(self) -> float | None:
        """GiB."""
        return None if self.peak_bytes is None else round(self.peak_bytes / GIB, 6)

    def saw(self, held: Mapping[int, int] | None) -> None:
        """Takes one look into account: bytes by process."""
        if held is None:
            return
        if self._before is None:
            self._before = held
        above = sum(now - self._before.get(pid, 0) for pid, now in held.items())
        self.peak_bytes = max(self.peak_bytes or 0, above)


class MemoryWatch:
    """Watches calls of this process; make one and share it (``MEMORY_WATCH``)."""

    def __init__(self, look_s: float = LOOK_S) -> None:
        self._look_s = look_s
        self._lock = threading.Lock()
        self._running: list[MemoryUse] = []
        self._ended = threading.Event()

    def begin(self, use: MemoryUse | None = None) -> MemoryUse:
        """Begins to watch; reads files, so not on an event loop. What has been ended before does not begin."""
        use = use or MemoryUse()
        use.saw(resident_bytes())
        with self._lock:
            if use.ended:
                return use
            for other in self._running:
                other.alone = use.alone = False
            self._running.append(use)
            if len(self._running) == 1:
                self._ended = threading.Event()
                threading.Thread(target=self._look, args=(self._ended,), name="memory-watch", daemon=True).start()
        return use

    def end(self, use: MemoryUse) -> None:
        """Looks once more, and stops watching."""
        use.saw(resident_bytes())
        with self._lock:
            use.ended = True
            self._running = [other for other in self._running if other is not use]
            if not self._running:
                self._ended.set()

    def _look(self, ended: threading.Event) -> None:
        while not ended.wait(self._look_s):
            held = resident_bytes()
            with self._lock:
                for use in self._running:
                    use.saw(held)


MEMORY_WATCH = MemoryWatch()


def resident_bytes() -> dict[int, int] | None:
    """Memory of this process and all its children now, by process; None where the system does not say.

    Pages that a forked child shares with its parent count twice, so the sum can be too large and is never too small.
    """
    own = _resident(os.getpid())
    if own is not None:
        return {pid: _resident(pid) or 0 for pid in _children(os.getpid(), MAX_DEPTH)} | {os.getpid(): own}
    return _by_psutil()


def _resident(pid: int) -> int | None:
    words = _words(f"/proc/{pid}/statm")
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else None


def _children(pid: int, depth: int) -> Iterator[int]:
    """Children of children too, where the kernel lists them: each thread lists those that it started."""
    threads: list[str] = []
    with suppress(OSError):
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - twenty times a second
    for thread in threads:
        for child in map(int, _words(f"/proc/{pid}/task/{thread}/children")):
            yield child
            if depth > 1:
                yield from _children(child, depth - 1)


def _words(path: str) -> list[bytes]:
    """Of a small file of the kernel; none when it is not there (any more)."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return []
    try:
        return os.read(file, READ_BYTES).split()
    except OSError:
        return []
    finally:
        os.close(file)


def _by_psutil() -> dict[int, int] | None:
    try:
        import psutil
    except ImportError:
        return None
    process = psutil.Process()
    held = {}
    for member in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            held[int(member.pid)] = int(member.memory_info().rss)
    return held
