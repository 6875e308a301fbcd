"""A profile for people: progress while it is measured, then one line a cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tomas_router.cli.plan_view import NO_BREAK_SPACE, duration
from tomas_router.profiling.configuration import parse_configuration

if TYPE_CHECKING:
    from tomas_router.profiling.measurement import Measurement
    from tomas_router.profiling.session import Session, Step
    from tomas_router.schema.profiling import ProfileRow

GIB = 2**30
NOISY_SPREAD = 0.1
BUSY_CORES = 0.5
MIN_RESULT_CELLS = len("new, no gain")


def show_progress(session: Session, steps: Iterator[Step]) -> list[Step]:
    """Takes all steps, showing on standard error which cell is being measured."""
    cells = session.cells
    names = [f"{cell.tool} · {cell.input_size} · {cell.configuration}" for cell in cells]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done: list[Step] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(names[0] if names else "nothing to measure", total=len(cells))
        for step in steps:
            done.append(step)
            following = names[len(done)] if len(done) < len(names) else "done"
            progress.update(task, advance=1, description=following)
    return done


def profile_view(steps: Sequence[Step], session: Session) -> RenderableType:
    """The table, then why cells have no row, then what to think of the numbers."""
    with_gpu = any(step.measurement.gpu_sm > 0 for step in steps)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for name, width in (("tool", 14), ("size", 6), ("config", 6)):
        table.add_column(name, min_width=width, overflow="fold")
    for name in ("p50", "spread", "cores", "GiB", *(["GPU GiB"] if with_gpu else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result", min_width=MIN_RESULT_CELLS, overflow="fold")
    rows = session.rows([step.measurement for step in steps])
    for step in steps:
        m = step.measurement
        gpu = [_gib(m.gpu_peak_bytes)] if with_gpu else []
        table.add_row(
            m.tool, m.input_size, _short(m), *_numbers(m), _gib(m.peak_bytes), *gpu, _result(step, session, rows)
        )
    return Group(table, *_reasons(steps), *(Text(line) for line in _remarks(steps, session)))


def _short(m: Measurement) -> str:
    configuration = parse_configuration(m.configuration)
    parts = [f"{configuration.cpu_core} CPU"]
    parts += [] if configuration.cpu_mem_gb is None else [f"{configuration.cpu_mem_gb:g} GiB"]
    parts += [f"GPU {configuration.gpu_sm:g} %"] if configuration.gpu_sm else []
    return ", ".join(part.replace(" ", NO_BREAK_SPACE) for part in parts)


def _numbers(m: Measurement) -> tuple[str, str, str]:
    if m.status != "ok":
        return "", "", ""
    p50 = f"{m.p50_ms:.2f} ms" if m.p50_ms < 100 else duration(m.p50_ms)
    return p50, f"{m.spread:.0%}", f"{m.cores_used:.1f}"


def _gib(amount_bytes: int) -> str:
    return f"{amount_bytes / GIB:.3f}" if amount_bytes else ""


def _result(step: Step, session: Session, rows: Sequence[ProfileRow]) -> Text:
    status = step.measurement.status
    if status == "ok":
        said = "kept" if step.kept else "new"
        needless = step.measurement.row(session.settings.headroom) not in rows
        return Text(f"{said}, no gain", style="dim") if needless else Text(said, style="green")
    return Text(status.replace("_", " "), style="yellow" if status == "unavailable" else "red")


def _reasons(steps: Sequence[Step]) -> Iterator[Text]:
    """One line a reason and tool, however many cells it cost."""
    cells: dict[tuple[str, str], list[str]] = {}
    for m in (step.measurement for step in steps if step.measurement.status != "ok"):
        cells.setdefault((m.tool, f"{m.status.replace('_', ' ')}: {m.detail}"), []).append(
            f"{m.input_size} {_short(m)}"
        )
    for (tool, reason), places in cells.items():
        yield Text.assemble((tool, "bold"), f" ({'; '.join(places)}) {reason}")


def _remarks(steps: Sequence[Step], session: Session) -> Iterator[str]:
    measured = [step.measurement for step in steps if step.measurement.status == "ok"]
    noisy = sum(m.spread > NOISY_SPREAD for m in measured)
    busy = sum(m.others_busy_cores > BUSY_CORES for m in measured)
    needless = len(measured) - len(session.rows(measured))
    yield f"{len(measured)} of {len(steps)} cells measured, {len(measured) - needless} rows in {session.csv}"
    if needless:
        yield f"{needless} take more and are not over {session.settings.min_gain:.0%} faster: no row (--min-gain)"
    if noisy:
        yield f"{noisy} spread over more than {NOISY_SPREAD:.0%} of the median (quartiles); see --retry-spread"
    if busy:
        yield f"during {busy} the rest of this machine used over {BUSY_CORES} cores; measure on a quiet one"
