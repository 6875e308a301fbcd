"""What holds for every target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.plans import CPU, GPU, amounts, configured
from tomas_router.planner.static import static_plan
from tomas_router.targets.exported import FIELDS, TargetError
from tomas_router.targets.mig import smallest_profile
from tomas_router.targets.rounding import mib, milli, percent, seconds, ten_thousandths, whole
from tomas_router.targets.written import TARGETS, exported

GPU_FIELDS = ("gpu_sm", "gpu_mem_gb")


@pytest.mark.parametrize("target", TARGETS)
def test_notes_when_a_step_uses_everything_say_one_thing_about_each_field(target):
    said = exported(configured(CPU, GPU), target)
    assert list(said) == ["s1", "s2"]
    assert tuple(note.field for note in said["s2"].notes) == FIELDS
    assert all(note.how in ("enforced", "advisory", "not_expressed") and note.text for note in said["s2"].notes)


@pytest.mark.parametrize("target", TARGETS)
def test_notes_when_a_step_uses_no_gpu_and_waits_for_nothing_leave_these_out(target):
    first = exported(configured(CPU), target)["s1"]
    assert [note.field for note in first.notes] == ["cpu_core", "cpu_mem_gb", "timeout_ms"]
    assert "nvidia" not in json.dumps(first.options)
    assert "MPS" not in json.dumps(first.options)


@pytest.mark.parametrize("target", TARGETS)
def test_plan_when_nothing_is_placed_is_refused(target):
    with pytest.raises(TargetError, match="the plan's status is no_tool"):
        exported(static_plan(), target)


@pytest.mark.parametrize(("target", "settings"), [("docker", {"gpu": "mps"}), ("slurm", {"image": "x"})])
def test_setting_when_the_target_has_none_is_refused(target, settings):
    with pytest.raises(TargetError, match=f"{target} .* must not be given"):
        exported(configured(CPU), target, **settings)


WAYS = {
    "Ray": ("ray", {}),
    "Kubernetes, whole GPU": ("kubernetes", {"gpu": "whole"}),
    "Kubernetes, MIG": ("kubernetes", {"gpu": "mig"}),
    "Kubernetes, HAMi": ("kubernetes", {"gpu": "hami"}),
    "Docker": ("docker", {}),
    "Slurm, `mps`": ("slurm", {"gpu": "mps"}),
    "Slurm, `gpu`": ("slurm", {"gpu": "gpu"}),
    "ECS": ("ecs", {}),
    "local processes": ("local", {}),
}


@pytest.mark.parametrize("row", WAYS)
def test_docs_when_they_say_what_is_held_say_what_the_notes_say(row):
    page = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")
    table = page.partition("## What is held")[2].partition("##")[0]
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {row} |")]
    target, settings = WAYS[row]
    notes = {
        note.field: note.how.replace("_", " ")
        for note in exported(configured(CPU, GPU), target, **settings)["s2"].notes
    }
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [notes[field] for field in FIELDS[:5]]


# ---- rounding -----------------------------------------------------------------------------------------------


def test_amounts_when_they_carry_binary_noise_are_not_rounded_to_one_more():
    assert milli(0.07) == 70
    assert milli(0.1 + 0.2) == 300
    assert mib(1.1) == 1127
    assert percent(30.000000001) == 30
    assert seconds(2000) == 2


@given(st.floats(0, 10_000))
def test_amounts_when_rounded_are_never_less_than_asked_and_less_than_one_unit_more(amount):
    for rounded, asked in (
        (milli(amount), 1000 * amount),
        (mib(amount), 1024 * amount),
        (percent(amount), amount),
        (10_000 * ten_thousandths(amount), 10_000 * amount),
    ):
        assert -1e-5 <= rounded - asked < 1 + 1e-5
    assert whole(amount) >= 1


# ---- slices of a GPU ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "memory", "profile"),
    [
        (10, 4, "1g.10gb"),
        (10, 12, "1g.20gb"),
        (28, 12, "2g.20gb"),
        (29, 4, "3g.40gb"),
        (50, 30, "4g.40gb"),
        (100, 70, "7g.80gb"),
        (0, 36, "3g.40gb"),
        (0, 37, "7g.80gb"),
    ],
)
def test_mig_profile_when_chosen_is_the_smallest_with_enough_of_both(share, memory, profile):
    offered = ("7g.80gb", "1g.20gb", "3g.40gb", "1g.10gb", "4g.40gb", "2g.20gb")
    assert smallest_profile(amounts(gpu_sm=share, gpu_mem_gb=memory), offered) == profile


def test_mig_profile_when_none_is_large_enough_is_refused_with_both_numbers():
    with pytest.raises(TargetError, match=r"1g\.10gb holds 50 % of a GPU and 4 GiB"):
        smallest_profile(amounts(gpu_sm=50, gpu_mem_gb=4), ["1g.10gb"])


def test_mig_profile_when_its_name_is_none_is_refused():
    with pytest.raises(TargetError, match=r"3g\.40gb, got 'big'"):
        smallest_profile(amounts(gpu_sm=50), ["big"])
