"""What the control groups of this process allow and use: version 1, version 2, and both at once.

A limit may stand at any level between the process's own group and the root of what is mounted, so every level counts.
In a container whose groups are mounted as the root, the path in ``/proc/self/cgroup`` leads nowhere; the mount is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
V2_BESIDE_V1 = "unified"
NO_LIMIT_BYTES = 2**60
"""Version 1 says "no limit" with a number close to 2^63."""


@dataclass(frozen=True)
class CpuLevel:
    """A group with a CPU quota."""

    quota_cores: float
    used_s: float
    """CPU time of all its processes so far."""


@dataclass(frozen=True)
class MemoryLevel:
    """A group with a memory limit."""

    limit_bytes: int
    used_bytes: int
    """Without the page cache that can be dropped at once."""


def cpu_levels(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> tuple[CpuLevel, ...]:
    """All groups above this process that have a quota."""
    levels = []
    for group in _levels(mount, membership, "cpu"):
        quota, period = _quota(group)
        if quota > 0 and period > 0:
            levels.append(CpuLevel(quota / period, _used_s(group, mount)))
    return tuple(levels)


def memory_levels(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> tuple[MemoryLevel, ...]:
    """All groups above this process that have a limit."""
    levels = []
    for group in _levels(mount, membership, "memory"):
        limit = _first(group / "memory.max", group / "memory.limit_in_bytes")
        if limit is None or limit >= NO_LIMIT_BYTES:
            continue
        used = _first(group / "memory.current", group / "memory.usage_in_bytes") or 0
        stat = group / "memory.stat"
        droppable = _entry(stat, "total_inactive_file") or _entry(stat, "inactive_file")
        levels.append(MemoryLevel(limit, max(used - droppable, 0)))
    return tuple(levels)


def _levels(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's group and of all groups above it, in both versions."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tops = [mount / V2_BESIDE_V1, mount]
        elif controller in controllers.split(","):
            tops = [mount / controller, mount / controllers]
        else:
            continue
        for top in tops:
            if top.is_dir():
                yield from _upwards(top, path.strip("/"))
                break


def _upwards(top: Path, path: str) -> Iterator[Path]:
    group = top / path
    while ".." not in group.parts and group != top:  # ".." leads to groups that are not mounted here
        if group.is_dir():
            yield group
        group = group.parent
    yield top


def _quota(group: Path) -> tuple[int, int]:
    """Microseconds of CPU in each period; no quota: 0."""
    quota, _, period = _text(group / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        return int(quota), int(period)
    return _number(group / "cpu.cfs_quota_us") or 0, _number(group / "cpu.cfs_period_us") or 0


def _used_s(group: Path, mount: Path) -> float:
    microseconds = _entry(group / "cpu.stat", "usage_usec")
    if microseconds:
        return microseconds / 1e6
    nanoseconds = _number(group / "cpuacct.usage")
    if nanoseconds is None and mount / "cpu" in (group, *group.parents):  # accounted for in a mount of its own
        nanoseconds = _number(mount / "cpuacct" / group.relative_to(mount / "cpu") / "cpuacct.usage")
    return (nanoseconds or 0) / 1e9


def _entry(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _first(*paths: Path) -> int | None:
    """The number in the first of the files that holds one."""
    return next((number for number in map(_number, paths) if number is not None), None)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
