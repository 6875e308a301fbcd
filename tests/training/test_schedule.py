"""The schedule by steps is what it was before there were clocks; by the clock it is whole however few steps fit."""

from __future__ import annotations

import math

import pytest

from tomas_router.training.schedule import LOWEST_RATE, Schedule

pytestmark = pytest.mark.m4


def by_clock(schedule: Schedule, step: int, share: float) -> Schedule:
    schedule.share, schedule.at = share, step
    return schedule


def test_schedule_when_no_clock_hastens_it_is_a_function_of_the_step_alone() -> None:
    schedule = Schedule(steps=600, warmup_steps=40, round_from=276)
    for step in range(600):
        assert schedule.warmth(step) == min(1.0, (step + 1) / 40)
        assert schedule.decay(step) == max(0.5 * (1.0 + math.cos(math.pi * step / 600)), 0.03)
        assert schedule.rounds(step) == (step >= 276)


@pytest.mark.parametrize("warmup_steps", [40, 300])
def test_schedule_when_the_clock_is_behind_the_steps_is_bit_for_bit_the_same(warmup_steps: int) -> None:
    plain, clocked = Schedule(600, warmup_steps, 276), Schedule(600, warmup_steps, 276)
    for step in range(600):
        by_clock(clocked, step, 0.9 * step / 600)
        assert (clocked.warmth(step), clocked.decay(step)) == (plain.warmth(step), plain.decay(step))
        assert clocked.rounds(step) == plain.rounds(step)


def test_schedule_when_few_steps_fit_is_warm_in_time_rounds_and_decays_to_the_end() -> None:
    schedule = Schedule(steps=920, warmup_steps=150, round_from=276)
    seen = []
    for step in range(50):
        by_clock(schedule, step, step / 50)
        seen.append((schedule.warmth(step), schedule.decay(step), schedule.rounds(step)))
    assert seen[0][0] == pytest.approx(1 / 150)
    assert [warm for warm, _, _ in seen].index(1.0) == 10  # a fifth of the time
    assert [rounds for _, _, rounds in seen].index(True) == 15  # as large a share as 276 of 920
    decays = [decay for _, decay, _ in seen]
    assert decays == sorted(decays, reverse=True)
    assert decays[25] == pytest.approx(0.5)
    assert decays[-1] == LOWEST_RATE


def test_schedule_when_a_run_with_a_clock_goes_on_without_takes_what_is_left_in_equal_parts() -> None:
    schedule = by_clock(Schedule(steps=100, warmup_steps=1), 20, 0.5)
    done = [schedule.done(step) for step in range(20, 101)]
    assert done[0] == 0.5
    assert done[40] == pytest.approx(0.75)
    assert done[-1] == 1.0


def test_schedule_when_far_more_steps_are_asked_for_than_fit_warms_up_by_steps_or_by_a_fifth_of_the_time() -> None:
    schedule = Schedule(steps=1_000_000, warmup_steps=100)
    assert by_clock(schedule, 10, 0.01).warmth(10) == pytest.approx(11 / 100)  # 1 % of the time is 10,000 "steps"
    assert by_clock(schedule, 10, 0.1).warmth(10) == pytest.approx(0.5)
    assert by_clock(schedule, 100, 0.05).warmth(100) == 1.0
