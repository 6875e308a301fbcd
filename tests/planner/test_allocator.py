"""Single steps: the boundary cases of the allocation problem, one by one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.planner.independent_checker import Run, violations
from tomas_router.errors import InfeasibleError
from tomas_router.planner import NoProfileError, ResourceOption, allocate
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow

pytestmark = pytest.mark.m3

FULL = (8, 32, 100, 16)


def job(cpu: float = 2, memory: float = 4, sm: float = 50, gpu_memory: float = 8, ms: float = 1000) -> ResourceOption:
    return ResourceOption(cpu, memory, sm, gpu_memory, ms)


def curve(*rows: tuple[float, ...], horizon_ms: int | None = 10_000, **kwargs: object) -> SystemTimeline:
    return SystemTimeline.from_rows(rows, horizon_ms=horizon_ms, **kwargs)


FITS = {
    "plain": (curve((0, *FULL)), [job()], 0, (0, 0, 1000)),
    "demand equals capacity in every resource": (curve((0, *FULL)), [job(*FULL)], 0, (0, 0, 1000)),
    "ends exactly at a drop": (curve((0, *FULL), (1000, 0, 32, 100, 16)), [job()], 0, (0, 0, 1000)),
    "one ms over the drop waits for recovery": (
        curve((0, *FULL), (1000, 0, 32, 100, 16), (2000, *FULL)), [job(ms=1001)], 0, (0, 2000, 3001),
    ),
    "ends exactly at the horizon": (curve((0, *FULL), horizon_ms=5000), [job(ms=5000)], 0, (0, 0, 5000)),
    "release at a breakpoint": (curve((0, *FULL), (1000, 1, 1, 1, 1), (3000, *FULL)), [job()], 3000, (0, 3000, 4000)),
    "release between breakpoints": (curve((0, *FULL), (5000, *FULL)), [job()], 1234, (0, 1234, 2234)),
    "fits only into a spike of its length": (
        curve((0, 0, 32, 100, 16), (2000, *FULL), (3000, 0, 32, 100, 16)), [job()], 0, (0, 2000, 3000),
    ),
    "no GPU: the CPU-only row": (curve((0, 8, 32, 0, 0)), [job(), job(8, 4, 0, 0, 9000)], 0, (1, 0, 9000)),
    "zero demand on an empty machine": (curve((0, 0, 0, 0, 0)), [job(0, 0, 0, 0)], 0, (0, 0, 1000)),
    "late and fast beats early and slow": (
        curve((0, 2, 32, 100, 16), (2000, *FULL)), [job(1, ms=9000), job(8)], 0, (1, 2000, 3000),
    ),
    "early and slow beats late and fast": (
        curve((0, 2, 32, 100, 16), (2000, *FULL)), [job(1, ms=2500), job(8)], 0, (0, 0, 2500),
    ),
    "equal completion: the cheaper row": (curve((0, *FULL)), [job(8), job(2)], 0, (1, 0, 1000)),
    "duplicate rows: the first": (curve((0, *FULL)), [job(), job()], 0, (0, 0, 1000)),
    "capacity 1e-9 below demand": (curve((0, 1.999999999, 32, 100, 16)), [job()], 0, (0, 0, 1000)),
    "0.1 + 0.2 fits into 0.3": (curve((0, 0.3, 32, 100, 16)), [job(cpu=0.1 + 0.2)], 0, (0, 0, 1000)),
    "fractional latency is rounded up": (
        curve((0, *FULL), (1000, 0, 32, 100, 16)), [job(ms=999.2)], 0, (0, 0, 1000),
    ),
    "nothing is known before the first row": (curve((700, *FULL)), [job()], 0, (0, 700, 1700)),
    "redundant breakpoints do not split a run": (
        curve(*((t, *FULL) for t in range(0, 3000, 10)), horizon_ms=3000), [job(ms=2500)], 0, (0, 0, 2500),
    ),
    "epoch-sized times keep every millisecond": (
        curve((10**12, *FULL), (10**12 + 1000, 0, 32, 100, 16), horizon_ms=10**12 + 5000),
        [job()], 0, (0, 10**12, 10**12 + 1000),
    ),
    "cpu early, gpu late, together at last": (
        curve((0, 8, 32, 0, 0), (1000, 0, 32, 100, 16), (2000, *FULL)), [job()], 0, (0, 2000, 3000),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FITS)
def test_allocate_when_a_row_fits_returns_row_start_and_end(case: str) -> None:
    timeline, options, release_ms, expected = FITS[case]
    got = allocate(options, timeline, release_ms)
    assert (got.option_index, got.start_ms, got.end_ms) == expected
    assert not got.beyond_horizon
    rows = np.column_stack([timeline.times_ms, timeline.capacity]).tolist()
    o = options[got.option_index]
    run = Run(got.start_ms, got.end_ms, (o.cpu_core, o.cpu_mem_gb, o.gpu_sm, o.gpu_mem_gb))
    assert violations(rows, [run], horizon_ms=timeline.horizon_ms, release_ms=release_ms) == []


MISSES = {
    "curve always below": (
        curve((0, 1, 32, 100, 16), (5000, 1.999, 32, 100, 16)), [job()], 0,
        ("cpu_cores", 5000, 2.0, 1.999),
    ),
    "0.01 core below": (curve((0, 1.99, 32, 100, 16)), [job()], 0, ("cpu_cores", 0, 2.0, 1.99)),
    "spike of 999 ms": (
        curve((0, 0, 32, 100, 16), (2000, *FULL), (2999, 0, 32, 100, 16)), [job()], 0, ("cpu_cores", 0, 2.0, 0.0),
    ),
    "one ms over the horizon": (curve((0, *FULL), horizon_ms=5000), [job(ms=5001)], 0, ("time", 0, 5001.0, 5000.0)),
    "release beyond a strict horizon": (curve((0, *FULL)), [job()], 20_000, ("time", 20_000, 1000.0, 0.0)),
    "no GPU and only GPU rows": (curve((0, 8, 32, 0, 0)), [job()], 0, ("gpu_sm", 0, 50.0, 0.0)),
    "sm free but GPU memory one MiB short": (
        curve((0, 8, 32, 100, 8 - 1 / 1024)), [job()], 0, ("gpu_mem_gb", 0, 8.0, 8 - 1 / 1024),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSES)
def test_allocate_when_nothing_fits_names_resource_time_needed_and_available(case: str) -> None:
    timeline, options, release_ms, (resource, at_ms, needed, available) = MISSES[case]
    with pytest.raises(InfeasibleError) as caught:
        allocate(options, timeline, release_ms)
    shortfall = caught.value.shortfalls[0]
    assert (shortfall.resource, shortfall.at_ms) == (resource, at_ms)
    assert shortfall.needed == pytest.approx(needed, abs=1e-3)
    assert shortfall.available == pytest.approx(available, abs=1e-3)


def test_infeasible_reason_when_a_longer_horizon_helps_says_which() -> None:
    with pytest.raises(InfeasibleError, match=r"done at 5001 ms \(horizon or deadline >= 5001\)"):
        allocate([job(ms=5001)], curve((0, *FULL), horizon_ms=5000))


def test_infeasible_reason_on_a_held_tail_says_waiting_does_not_help() -> None:
    with pytest.raises(InfeasibleError, match="waiting does not help"):
        allocate([job(cpu=9)], curve((0, *FULL), horizon_ms=None, tail="hold"))


def test_shortfall_when_several_options_miss_reports_the_nearest() -> None:
    with pytest.raises(InfeasibleError) as caught:
        allocate([job(cpu=80), job(cpu=9, ms=9000)], curve((0, *FULL)))
    assert [(s.resource, s.needed, s.available) for s in caught.value.shortfalls] == [("cpu_cores", 9.0, 8.0)]


def test_hold_tail_when_run_passes_the_horizon_flags_it() -> None:
    held = curve((0, *FULL), horizon_ms=5000, tail="hold")
    assert allocate([job(ms=5001)], held).beyond_horizon
    assert not allocate([job(ms=5000)], held).beyond_horizon


def test_hold_tail_when_release_lies_beyond_it_starts_at_release() -> None:
    got = allocate([job()], curve((0, *FULL), horizon_ms=5000, tail="hold"), 9000)
    assert (got.start_ms, got.beyond_horizon) == (9000, True)


def test_single_row_without_horizon_holds_and_flags() -> None:
    got = allocate([job()], curve((0, *FULL), horizon_ms=None))
    assert (got.start_ms, got.end_ms, got.beyond_horizon) == (0, 1000, True)


def test_deadline_when_too_early_is_infeasible() -> None:
    assert allocate([job()], curve((0, *FULL)), deadline_ms=1000).end_ms == 1000
    with pytest.raises(InfeasibleError, match="deadline >= 1000"):
        allocate([job()], curve((0, *FULL)), deadline_ms=999)


def test_allocate_without_options_names_the_error() -> None:
    with pytest.raises(NoProfileError, match="no profile row"):
        allocate([], curve((0, *FULL)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (job(ms=0), r"option 0: latency_ms must be a finite number > 0, got 0\.0"),
        (job(ms=-5), r"latency_ms must be a finite number > 0, got -5\.0"),
        (job(ms=float("nan")), r"latency_ms must be a finite number > 0, got nan"),
        (job(cpu=-1), r"option 0: cpu_core must be a finite number >= 0, got -1\.0"),
        (job(sm=float("inf")), r"gpu_sm must be a finite number >= 0, got inf"),
    ],
)
def test_allocate_with_invalid_option_names_field_and_value(option: ResourceOption, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate([option], curve((0, *FULL)))


def test_allocate_accepts_profile_rows_and_returns_their_config() -> None:
    row = ProfileRow(
        tool="resize", input_size="small", cpu_core=1.5, cpu_mem_gb=2, gpu_sm=0, gpu_mem_gb=0, latency_ms=20.5
    )
    got = allocate([row], curve((0, *FULL)))
    assert (got.config, got.latency_ms) == (row.config, 21)


def test_allocate_with_ledger_books_and_the_next_one_waits() -> None:
    ledger, timeline = InMemoryLedger(), curve((0, 2, 32, 100, 16))
    first = allocate([job()], timeline, ledger=ledger)
    second = allocate([job()], timeline, ledger=ledger)
    assert (first.start_ms, second.start_ms) == (0, 1000)
    assert first.booking_id is not None
    assert first.booking_id != second.booking_id
    assert ledger.cancel(first.booking_id)
    assert allocate([job()], timeline, ledger=ledger).start_ms == 0


def test_ledger_with_epochs_aligns_curves_submitted_at_different_times() -> None:
    ledger = InMemoryLedger()
    early = curve((0, 2, 32, 100, 16), epoch_ms=1_700_000_000_000)
    later = curve((0, 2, 32, 100, 16), epoch_ms=1_700_000_000_400)
    assert allocate([job()], early, ledger=ledger).end_ms == 1000
    assert allocate([job()], later, ledger=ledger).start_ms == 600


def test_sweep_of_28_rows_over_96_pieces_takes_well_under_a_millisecond() -> None:
    rng = np.random.default_rng(0)
    rows = [(1000 * i, *rng.integers((4, 16, 0, 0), (65, 384, 101, 41)).tolist()) for i in range(96)]
    demands = rng.integers((1, 1, 0, 0, 500), (32, 64, 100, 20, 20_000), size=(28, 5)).tolist()
    timeline, options = curve(*rows, horizon_ms=96_000), [ResourceOption(*d) for d in demands]
    elapsed = []
    for _ in range(50):
        began = time.perf_counter()
        allocate(options, timeline)
        elapsed.append(time.perf_counter() - began)
    assert min(elapsed) < 0.001  # 0.1 ms on a laptop core; a tenfold margin keeps busy machines green
