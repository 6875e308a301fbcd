from __future__ import annotations

from pathlib import Path

import pytest

from tomas_router.runtime.cgroup import CpuLevel, MemoryLevel, cpu_levels, memory_levels

pytestmark = pytest.mark.m0

GIB = 2**30


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n", encoding="ascii")


@pytest.fixture
def mount(tmp_path) -> Path:
    return tmp_path / "cgroup"


@pytest.fixture
def membership(tmp_path) -> Path:
    return tmp_path / "membership"


def test_version_2_when_limits_stand_at_several_levels_gives_all(mount, membership):
    membership.write_text("0::/slice/job\n")
    write(mount, cpu__stat="usage_usec 99000000")
    write(mount / "slice", cpu__max="400000 100000", cpu__stat="usage_usec 7000000\nuser_usec 1", memory__max="max")
    write(
        mount / "slice" / "job",
        cpu__max="50000 100000", cpu__stat="usage_usec 2500000",
        memory__max=str(4 * GIB), memory__current=str(3 * GIB), memory__stat=f"anon 5\ninactive_file {GIB}",
    )  # fmt: skip
    assert cpu_levels(mount, membership) == (CpuLevel(0.5, 2.5), CpuLevel(4.0, 7.0))
    assert memory_levels(mount, membership) == (MemoryLevel(4 * GIB, 2 * GIB),)


def test_version_1_when_there_is_no_limit_gives_none(mount, membership):
    membership.write_text("4:memory:/job\n2:cpu,cpuacct:/job\n")
    write(mount / "memory" / "job", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="5")
    write(mount / "cpu,cpuacct" / "job", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cpu_levels(mount, membership) == ()
    assert memory_levels(mount, membership) == ()


def test_version_1_when_limited_reads_its_own_files(mount, membership):
    membership.write_text("4:memory:/job\n3:cpuacct:/job\n2:cpu:/job\n1:name=systemd:/job\n")
    write(
        mount / "memory" / "job",
        memory__limit_in_bytes=str(2 * GIB), memory__usage_in_bytes=str(GIB),
        memory__stat=f"inactive_file 1\ntotal_inactive_file {GIB // 2}",
    )  # fmt: skip
    write(mount / "cpu" / "job", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    write(mount / "cpuacct" / "job", cpuacct__usage="3000000000")
    assert cpu_levels(mount, membership) == (CpuLevel(1.5, 3.0),)
    assert memory_levels(mount, membership) == (MemoryLevel(2 * GIB, GIB // 2),)


def test_both_versions_when_mounted_beside_each_other_are_read(mount, membership):
    membership.write_text("4:memory:/job\n0::/job\n")
    write(mount / "memory" / "job", memory__limit_in_bytes=str(GIB), memory__usage_in_bytes="0")
    write(mount / "unified" / "job", cpu__max="100000 100000", cpu__stat="usage_usec 1000000")
    assert cpu_levels(mount, membership) == (CpuLevel(1.0, 1.0),)
    assert memory_levels(mount, membership) == (MemoryLevel(GIB, 0),)


def test_container_when_its_group_is_the_mount_reads_the_mount(mount, membership):
    membership.write_text("0::/docker/0123\n")
    write(mount, cpu__max="200000 100000", cpu__stat="usage_usec 1000000", memory__max="0", memory__current="0")
    assert cpu_levels(mount, membership) == (CpuLevel(2.0, 1.0),)
    assert memory_levels(mount, membership) == (MemoryLevel(0, 0),)


def test_path_when_it_leads_out_of_the_mount_is_not_followed(mount, membership):
    membership.write_text("0::/../../outside\n")
    write(mount.parent.parent / "outside", cpu__max="100000 100000")
    write(mount)
    assert cpu_levels(mount, membership) == ()


def test_system_when_without_control_groups_has_no_limits(mount, membership):
    assert cpu_levels(mount, membership) == ()
    assert memory_levels(mount, membership) == ()
