"""``tomas snapshot``: what a machine has free right now."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import OK
from tomas_router.cli.source import add_source_options, load_source

if TYPE_CHECKING:
    from tomas_router.runtime.timeline import SystemTimeline

COLUMNS = ("time_ms", "cpu_cores", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb")


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas snapshot``."""
    p = subparsers.add_parser(
        "snapshot",
        help="show what this machine has free, or write it as a timeline",
        description="Show what this machine, or one that Prometheus watches, has free right now: one line a GPU, which "
        "repeat the CPU columns.",
    )
    add_source_options(p)
    p.add_argument("--out", type=Path, metavar="FILE.csv", help="write a timeline; several GPUs: FILE.gpu0.csv, ...")
    p.add_argument("--json", action="store_true", help="print JSON and nothing else")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints, and writes if asked."""
    timelines = load_source(args).timelines()
    if args.out is not None:
        from tomas_router.runtime.recorder import paths_of

        for path, timeline in zip(paths_of(args.out, len(timelines)), timelines, strict=True):
            timeline.save_csv(path)
    if args.json:
        curves = [dict(zip(COLUMNS[1:], t.capacity[0].tolist(), strict=True)) for t in timelines]
        sys.stdout.write(json.dumps({"epoch_ms": timelines[0].epoch_ms, "gpus": curves}) + "\n")
    else:
        _print(timelines)
    return OK


def _print(timelines: tuple[SystemTimeline, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        header_style="bold", title=datetime.fromtimestamp((timelines[0].epoch_ms or 0) / 1000, UTC).isoformat()
    )
    for name in ("GPU", "free vCPU", "free memory, GiB", "free GPU, %", "free GPU memory, GiB"):
        table.add_column(name, justify="right")
    for index, timeline in enumerate(timelines):
        cores, memory, share, gpu_memory = timeline.capacity[0].tolist()
        none = len(timelines) == 1 and share == gpu_memory == 0
        label = "none" if none else str(index)
        table.add_row(label, f"{cores:.2f}", f"{memory:.2f}", f"{share:.0f}", f"{gpu_memory:.2f}")
    Console().print(table)
