"""A plan for people: one line of summary and a table with a bar per step on a common time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tomas_router.schema.plan import PlanStep, ToolPlan
    from tomas_router.schema.profiling import ResourceConfig

BAR_CELLS = 24
STATUS_STYLE = {"planned": "bold green", "no_tool": "bold yellow", "infeasible": "bold red"}
EIGHTHS = " ▏▎▍▌▋▊▉█"


def plan_view(plan: ToolPlan, title: str | None = None, explanation: bool = False) -> RenderableType:
    """The whole answer; ``title`` stands before it, the explanation behind it if wanted."""
    parts: list[RenderableType] = [_summary(plan, title)]
    if plan.steps:
        parts.append(_steps_table(plan))
    parts.extend(_shortfall(plan))
    if explanation:
        parts.append(Text(plan.explanation, style="italic"))
    return Group(*parts)


def duration(ms: float) -> str:
    """A duration in the unit a person would use."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 120_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms / 60_000:.1f} min"


def config_text(config: ResourceConfig | None) -> str:
    """``4 CPU · 8 GiB · GPU 50 % · 6 GiB``; the GPU part only where one is used."""
    if config is None:
        return "-"
    text = f"{config.cpu_core:g} CPU · {config.cpu_mem_gb:.3g} GiB"
    if config.gpu_sm > 0 or config.gpu_mem_gb > 0:
        text += f" · GPU {config.gpu_sm:g} % · {config.gpu_mem_gb:.3g} GiB"
    return text


def bar(start_ms: float, end_ms: float, total_ms: float, cells: int = BAR_CELLS) -> str:
    """A bar from start to end on an axis of ``total_ms``, drawn in eighths of a cell and never invisible."""
    scale = cells * 8 / total_ms if total_ms > 0 else 0.0
    first, last = round(start_ms * scale), round(end_ms * scale)
    first = min(first, cells * 8 - 1)
    last = max(last, first + 1)
    drawn = []
    for cell in range(cells):
        filled = min(last, cell * 8 + 8) - max(first, cell * 8)
        if filled <= 0:
            drawn.append(" ")
        elif first > cell * 8:  # blocks grow from the left only, so a late start rounds to half a cell
            drawn.append("▐" if filled >= 3 else "▕")
        else:
            drawn.append(EIGHTHS[filled])
    return "".join(drawn)


def _summary(plan: ToolPlan, title: str | None) -> Text:
    text = Text()
    if title:
        text.append(title + "  ", style="bold")
    text.append(plan.status, style=STATUS_STYLE[plan.status])
    if plan.reason:
        text.append(f" ({plan.reason})")
    if plan.steps:
        text.append(f" · {len(plan.steps)} step{'s' if len(plan.steps) != 1 else ''}")
    end = plan.makespan_ms
    if end is not None:
        text.append(f" · done after {duration(end)}")
    text.append(f" · decided in {duration(plan.t_inf_ms)} (T_inf)", style="dim")
    if plan.beyond_horizon:
        text.append(" · beyond the timeline's horizon: its last row is held", style="yellow")
    return text


def _steps_table(plan: ToolPlan) -> Table:
    total_ms = plan.makespan_ms
    table = Table(header_style="bold", pad_edge=False)
    for column in ("step", "tool", "size", "resources"):
        table.add_column(column, no_wrap=column in ("step", "size"))
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("end", justify="right", no_wrap=True)
    if total_ms is not None:
        axis = f"0{duration(total_ms):>{BAR_CELLS - 1}}"
        table.add_column(axis, style="cyan", no_wrap=True, width=BAR_CELLS)
    table.add_column("after", no_wrap=True)
    table.add_column("sure", justify="right", no_wrap=True)
    for step in plan.steps:
        table.add_row(*map(Text, _step_cells(step, total_ms)))  # Text: names are shown, never read as markup
    return table


def _step_cells(step: PlanStep, total_ms: int | None) -> list[str]:
    end_ms = step.end_ms
    cells = [
        step.id,
        step.tool_name,
        step.input_size,
        config_text(step.resource_config) + (" (predicted)" if step.source == "predicted" else ""),
        "-" if step.start_ms is None else duration(step.start_ms),
        "-" if end_ms is None else duration(end_ms),
    ]
    if total_ms is not None:
        # A makespan exists, so every step has a start and an end.
        assert step.start_ms is not None
        assert end_ms is not None
        cells.append(bar(step.start_ms, end_ms, total_ms))
    return [*cells, " ".join(step.depends_on) or "-", f"{step.confidence:.0%}"]


def _shortfall(plan: ToolPlan) -> list[Text]:
    return [
        Text(f"missing: {m.resource} {m.needed:g} {m.unit} needed, {m.available:g} free at {duration(m.at_ms)}")
        for m in plan.missing
    ]
