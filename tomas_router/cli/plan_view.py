"""A plan for people: one line of summary, then every step with its resources and its bar on a common time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from tomas_router.schema.plan import PlanStep, ToolPlan
    from tomas_router.schema.profiling import ResourceConfig

STATUS_STYLE = {"planned": "bold green", "no_tool": "bold yellow", "infeasible": "bold red"}
NO_BREAK_SPACE = "\u00a0"
EIGHTHS = " ▏▎▍▌▋▊▉█"
MIN_BAR_CELLS, MAX_BAR_CELLS = 10, 40
GAP_CELLS = 3  # between two columns


def plan_view(plan: ToolPlan, title: str | None = None, explanation: bool = False) -> RenderableType:
    """The whole answer; ``title`` stands before it, the explanation behind it if wanted."""
    parts: list[RenderableType] = [_summary(plan, title)]
    if plan.steps:
        parts.append(_Steps(plan))
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
    """``4 CPU · 8 GiB · GPU 50 % · 6 GiB``, the GPU part only where one is used; numbers keep their units."""
    if config is None:
        return "not placed"
    parts = [f"{config.cpu_core:g} CPU", f"{config.cpu_mem_gb:.3g} GiB"]
    if config.gpu_sm > 0 or config.gpu_mem_gb > 0:
        parts += [f"GPU {config.gpu_sm:g} %", f"{config.gpu_mem_gb:.3g} GiB"]
    return " · ".join(part.replace(" ", NO_BREAK_SPACE) for part in parts)


def bar_text(start_ms: float, end_ms: float, total_ms: float, cells: int) -> str:
    """A bar from start to end on an axis of ``total_ms``, drawn in eighths of a cell and never invisible."""
    scale = cells * 8 / total_ms if total_ms > 0 else 0.0
    first = min(round(start_ms * scale), cells * 8 - 1)
    last = max(round(end_ms * scale), first + 1)
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


@dataclass(frozen=True)
class _Steps:
    """The table of steps; its bars take the width that the other columns leave."""

    plan: ToolPlan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        others = Measurement.get(console, options.update(width=10_000), _steps_table(self.plan, 0)).maximum
        yield _steps_table(self.plan, min(max(options.max_width - others - GAP_CELLS, MIN_BAR_CELLS), MAX_BAR_CELLS))


def _summary(plan: ToolPlan, title: str | None) -> Text:
    text = Text()
    if title:
        text.append(title + ": ", style="bold")
    text.append(plan.status, style=STATUS_STYLE[plan.status])
    if plan.steps:
        text.append(f", {len(plan.steps)} step{'s' if len(plan.steps) != 1 else ''}")
    if plan.makespan_ms is not None:
        text.append(f", done after {duration(plan.makespan_ms)}")
    if plan.reason:
        text.append(f" ({plan.reason})")
    if plan.booking_id is not None:
        text.append(f", booking {plan.booking_id}")
    if plan.beyond_horizon:
        text.append(" (the end lies beyond the timeline, whose last row is held)", style="yellow")
    return text


def _steps_table(plan: ToolPlan, bar_cells: int) -> Table:
    """Args: bar_cells: width of the bars; 0 leaves them out, as does a plan without times."""
    total_ms = plan.makespan_ms
    with_bars = total_ms is not None and bar_cells > 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("step", overflow="fold", max_width=10)
    table.add_column("tool and resources", overflow="fold")
    table.add_column("from, to", justify="right", no_wrap=True)
    if total_ms is not None and with_bars:
        table.add_column("0" + duration(total_ms).rjust(bar_cells - 1), style="cyan", no_wrap=True)
    table.add_column("sure", justify="right", no_wrap=True)
    for step in plan.steps:
        bars = [bar_text(step.start_ms or 0, step.end_ms or 0, total_ms or 0, bar_cells)] if with_bars else []
        # Text everywhere: names are shown, never read as markup.
        table.add_row(_name(step), _tool(step), _times(step), *map(Text, bars), Text(f"{step.confidence:.0%}"))
    return table


def _name(step: PlanStep) -> Text:
    after = f"\n← {' '.join(step.depends_on)}" if step.depends_on else ""
    return Text(step.id).append(after, style="dim")


def _tool(step: PlanStep) -> Text:
    predicted = " (predicted)" if step.source == "predicted" else ""
    details = f"{NO_BREAK_SPACE}· {step.input_size}\n{config_text(step.resource_config)}{predicted}"
    return Text(step.tool_name).append(details, style="dim")


def _times(step: PlanStep) -> Text:
    if step.start_ms is None or step.end_ms is None:
        return Text("-")
    return Text(f"{duration(step.start_ms)}\n{duration(step.end_ms)}")


def _shortfall(plan: ToolPlan) -> list[Text]:
    return [
        Text(f"missing: {m.resource} {m.needed:g} {m.unit} needed, {m.available:g} free at {duration(m.at_ms)}")
        for m in plan.missing
    ]
