"""``tomas record``: writes down what a machine has free, until it is stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import OK
from tomas_router.cli.source import add_source_options, duration_ms, load_source

if TYPE_CHECKING:
    from tomas_router.runtime.recorder import Recorded


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas record``."""
    p = subparsers.add_parser(
        "record",
        help="record what this machine has free as a timeline",
        description="Record what this machine, or one that Prometheus watches, has free, one row at a time, until "
        "Ctrl-C or --for. FILE.meta.json says when it began.",
    )
    add_source_options(p)
    p.add_argument("--every", type=duration_ms, default=1000, metavar="TIME", help="500ms, 1s, 2m (default: 1s)")
    p.add_argument("--for", dest="length", type=duration_ms, metavar="TIME", help="stop after this long")
    p.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="several GPUs: FILE.gpu0.csv, ...")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Records; Ctrl-C is a proper end."""
    from tomas_router.errors import TomasRouterError
    from tomas_router.runtime.recorder import record

    rows = None if args.length is None else args.length // args.every + 1
    try:
        written = _follow(record(load_source(args), args.out, args.every, rows))
    except FileExistsError as error:
        raise TomasRouterError(f"--out: {error.filename} is there already; choose another name") from error
    except ValueError as error:
        raise TomasRouterError(f"--every: {error}") from error
    sys.stdout.write(f"{written} rows in {args.out}\n")
    return OK


def _follow(rows: Iterable[Recorded]) -> int:
    """Shows the latest row on standard error; how many there were."""
    from rich.console import Console

    console = Console(stderr=True)
    written = 0
    try:
        with console.status("recording") as status:
            for row in rows:
                written += 1
                cores, memory, *_ = row.capacities[0]
                status.update(f"{row.time_ms / 1000:.0f} s: {cores:.2f} vCPU and {memory:.2f} GiB free; Ctrl-C ends")
    except KeyboardInterrupt:
        pass
    return written
