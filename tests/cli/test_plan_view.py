from __future__ import annotations

import io

import pytest
from rich.console import Console

from tomas_router.cli.plan_view import NO_BREAK_SPACE, bar_text, config_text, duration, plan_view
from tomas_router.schema.plan import PlanStep, Shortfall, ToolPlan
from tomas_router.schema.profiling import ResourceConfig

pytestmark = pytest.mark.m3


def step(number: int, start_ms: int | None, latency_ms: float | None, **changes) -> PlanStep:
    placed = start_ms is not None
    fields = {
        "id": f"s{number}",
        "tool_id": number,
        "tool_name": f"tool_{number}",
        "input_size": "small",
        "resource_config": ResourceConfig(cpu_core=2, cpu_mem_gb=4, gpu_sm=0, gpu_mem_gb=0) if placed else None,
        "expected_latency_ms": latency_ms,
        "start_ms": start_ms,
        "confidence": 0.9,
        "source": "profiled" if placed else None,
    }
    return PlanStep(**(fields | changes))


def plan(status: str, steps: tuple[PlanStep, ...], **changes) -> ToolPlan:
    fields = {
        "status": status,
        "timeline_id": "t",
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-01T00:01:00Z",
        "t_inf_ms": 20,
        "gate_confidence": 0.9,
        "steps": steps,
        "model": "test",
    }
    return ToolPlan(**(fields | changes))


def shown(answer: ToolPlan, explanation: bool = False, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(plan_view(answer, "Title", explanation))
    return console.file.getvalue().replace(NO_BREAK_SPACE, " ")


def test_view_when_planned_shows_every_step_with_its_resources_and_times():
    text = shown(plan("planned", (step(1, 500, 1500), step(2, 2000, 2000, depends_on=("s1",)))))
    assert "Title" in text
    assert "planned, 2 steps, done after 4.0 s" in text
    for part in ("tool_1", "tool_2", "2 CPU · 4 GiB", "500 ms", "90%", "← s1", "tool_1 · small"):
        assert part in text


def test_view_when_the_terminal_is_narrow_cuts_no_name_and_no_number():
    config = ResourceConfig(cpu_core=12.5, cpu_mem_gb=120.5, gpu_sm=100, gpu_mem_gb=12.5)
    long = step(1, 500, 99_000, tool_name="transcribe_audio_whisper_gpu", resource_config=config)
    text = shown(plan("planned", (long,)), width=80)
    for part in ("transcribe_audio_whisper_gpu", "12.5 CPU", "GPU 100 %", "99.5 s", "90%", "█"):
        assert part in text
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_view_when_bars_take_the_rest_keeps_every_step_on_two_lines(width):
    steps = (step(1, 500, 1500), step(2, 2000, 2000, depends_on=("s1",)), step(3, 2000, 900, depends_on=("s1",)))
    lines = shown(plan("planned", steps), width=width).splitlines()
    assert max(map(len, lines)) == min(width, 88)
    assert len(lines) == 1 + 1 + 2 + 2 * len(steps) + 1


def test_view_when_infeasible_shows_tools_and_what_is_missing():
    missing = Shortfall(resource="gpu_mem_gb", at_ms=1200, needed=8, available=2.5, unit="GiB")
    text = shown(plan("infeasible", (step(1, None, None),), reason="no GPU", missing=(missing,)))
    assert "infeasible, 1 step (no GPU)" in text
    assert "tool_1" in text
    assert "missing: gpu_mem_gb 8 GiB needed, 2.5 free at 1.2 s" in text


def test_view_when_no_tool_has_no_table():
    text = shown(plan("no_tool", (), reason="not_needed"))
    assert "no_tool (not_needed)" in text
    assert "tool_" not in text


def test_view_when_text_looks_like_markup_prints_it_unchanged():
    odd = step(1, 0, 1000, tool_name="read[/red]file[bold]")
    text = shown(plan("planned", (odd,), explanation="[red]why[/red]"), explanation=True)
    assert "read[/red]file[bold]" in text
    assert "[red]why[/red]" in text


@pytest.mark.parametrize(
    ("start", "end", "drawn"),
    [(0, 1000, "████████"), (0, 500, "████    "), (500, 1000, "    ████"), (250, 750, "  ████  ")],
)
def test_bar_when_on_cell_edges_fills_its_share(start, end, drawn):
    assert bar_text(start, end, 1000, cells=8) == drawn


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 1), (999, 1000), (1000, 1000), (333, 334)])
def test_bar_when_very_short_is_still_visible(start, end):
    drawn = bar_text(start, end, 1000, cells=8)
    assert len(drawn) == 8
    assert drawn.strip()


@pytest.mark.parametrize(("ms", "text"), [(0, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (180_000, "3.0 min")])
def test_duration_when_given_uses_a_readable_unit(ms, text):
    assert duration(ms) == text


def test_config_when_a_gpu_is_used_names_its_share_and_memory():
    config = ResourceConfig(cpu_core=1, cpu_mem_gb=2.5, gpu_sm=37.5, gpu_mem_gb=6)
    assert config_text(config).replace(NO_BREAK_SPACE, " ") == "1 CPU · 2.5 GiB · GPU 37.5 % · 6 GiB"
    assert config_text(None) == "not placed"
