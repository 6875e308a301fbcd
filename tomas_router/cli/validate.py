"""``tomas validate``: everything that is wrong with the input files, not the first thing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import BAD_INPUT, OK

if TYPE_CHECKING:
    from tomas_router.schema.findings import Finding


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas validate``."""
    p = subparsers.add_parser(
        "validate",
        help="check input files and list every finding",
        description="Check input files and list every finding. Profile and requests are joined with the registry, "
        "which defaults to the shipped one. Without any file, the shipped data is checked.",
    )
    p.add_argument("--registry", type=Path, metavar="FILE")
    p.add_argument("--profiling", type=Path, metavar="FILE")
    p.add_argument("--timeline", type=Path, metavar="FILE", action="append", default=[], help="may be repeated")
    p.add_argument("--requests", type=Path, metavar="FILE", help="JSON Lines for `tomas plan --batch`")
    p.add_argument("--plan", type=Path, metavar="FILE", help="a plan of `tomas plan --json`")
    p.add_argument("--json", action="store_true", help="print the findings as a JSON list and nothing else")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Lists all findings; 2 when at least one is an error."""
    checked, findings = _check_all(args)
    errors = sum(finding.severity == "error" for finding in findings)
    if args.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        _print(checked, findings, errors)
    return BAD_INPUT if errors else OK


def _check_all(args: argparse.Namespace) -> tuple[list[Path], list[Finding]]:
    """The files that were named, or the shipped ones, and their findings."""
    from tomas_router import shipped
    from tomas_router.schema.validate import validate_files

    timelines: list[Path] = args.timeline
    named = [args.registry, args.profiling, *timelines, args.requests, args.plan]
    if not any(named):
        args.registry, args.profiling = shipped.registry_path(), shipped.profiling_path()
        timelines = sorted(shipped.timeline_path().parent.glob("*.csv"))
        named = [args.registry, args.profiling, *timelines]
    findings = validate_files(
        registry=args.registry or shipped.registry_path(),
        profiling=args.profiling,
        requests=args.requests,
        plan=args.plan,
    )
    for timeline in timelines:
        findings += validate_files(timeline=timeline)
    return [path for path in named if path is not None], findings


def _print(checked: list[Path], findings: list[Finding], errors: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if findings:
        table = Table(header_style="bold")
        for column in ("", "where", "field", "expected", "got"):
            table.add_column(column, overflow="fold")
        for f in findings:
            mark = "[red]error[/]" if f.severity == "error" else "[yellow]warning[/]"
            where = f.file if f.line is None else f"{f.file}:{f.line}"
            table.add_row(mark, *(_plain(text) for text in (where, f.field or "", f.expected, f.value or "")))
        console.print(table)
    files = ", ".join(path.name for path in checked)
    console.print(_plain(f"{files}: {errors} errors, {len(findings) - errors} warnings"))


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
