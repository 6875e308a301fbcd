"""``tomas registry``: lint says what the model will confuse, cut off or guess; from-openapi makes a registry."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import BAD_INPUT, OK

if TYPE_CHECKING:
    from tomas_router.evaluation.registry_lint import Advice
    from tomas_router.schema.registry import ToolRegistry, ToolSpec


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas registry`` with its commands."""
    p = subparsers.add_parser("registry", help="make a registry, or look at one with the model's eyes")
    commands = p.add_subparsers(dest="registry_command", metavar="COMMAND", required=True)
    lint = commands.add_parser(
        "lint",
        help="list tools that will be confused, cut off or guessed, with what to do",
        description="List tools that the model confuses, descriptions that repeat, say too little or are cut off, and "
        "tools without a profile, each with what to do. `tomas validate` checks the file itself.",
    )
    lint.add_argument("file", type=Path, metavar="FILE", help="tools.json")
    lint.add_argument(
        "--profiling", type=Path, metavar="FILE", help="profiling.csv; without it profiles are not looked at"
    )
    lint.add_argument(
        "--model", type=Path, metavar="DIR", help="directory of an exported model; default: the packaged one"
    )
    lint.add_argument(
        "--no-asking", action="store_true", help="do not ask for each tool in its own words (10 ms a tool)"
    )
    lint.add_argument("--json", action="store_true", help="print the findings as a JSON list and nothing else")
    lint.add_argument("--strict", action="store_true", help="exit with 2 when there is a problem; hints do not count")
    lint.set_defaults(run=run)
    _add_from_openapi(commands)


def _add_from_openapi(commands: Any) -> None:
    p = commands.add_parser(
        "from-openapi",
        help="make a registry of the operations of an OpenAPI 3 file",
        description="Make a registry of the operations of an OpenAPI 3 file, JSON or YAML. References must point into "
        "the file. What the router wants to know beyond that stands under x-tomas in an operation.",
    )
    p.add_argument("file", type=Path, metavar="FILE", help="openapi.json or openapi.yaml")
    p.add_argument("--out", type=Path, metavar="FILE", required=True, help="tools.json to write")
    p.add_argument(
        "--profiling-out", type=Path, metavar="FILE", help="also write profiling.csv of what x-tomas.profile says"
    )
    p.set_defaults(run=run_from_openapi)


def run_from_openapi(args: argparse.Namespace) -> int:
    """Writes the registry, and the profile where it is asked for."""
    from tomas_router.schema.profiling import ProfilingTable
    from tomas_router.schema.registry import ToolRegistry

    registry = ToolRegistry.from_openapi(args.file)
    registry.to_json(args.out)
    sys.stdout.write(f"{args.out}: {len(registry)} tools\n")
    if args.profiling_out is not None:
        profile = ProfilingTable.from_openapi(args.file)
        profile.to_csv(args.profiling_out)
        sys.stdout.write(f"{args.profiling_out}: {len(profile)} rows of {len(profile.tools)} tools\n")
    return OK


def run(args: argparse.Namespace) -> int:
    """Prints the findings; with ``--strict`` 2 when one of them is a problem."""
    from tomas_router.cli.cache_dir import cache_dir
    from tomas_router.evaluation.registry_lint import lint, read_as_model
    from tomas_router.planner.planner import Planner
    from tomas_router.schema.profiling import ProfilingTable
    from tomas_router.schema.registry import ToolRegistry

    registry = ToolRegistry.from_json(args.file)
    profiling = None if args.profiling is None else ProfilingTable.from_csv(args.profiling, registry)
    planner = Planner.load(args.model, cache_dir=cache_dir())
    asks = () if args.no_asking else _with_bar(registry)
    found = lint(registry, profiling, read_as_model(planner, registry, profiling, asks))
    if args.json:
        sys.stdout.write(json.dumps([advice.to_json() for advice in found], indent=2, ensure_ascii=False) + "\n")
    else:
        _print(args.file, registry, found)
    return BAD_INPUT if args.strict and any(advice.severity == "problem" for advice in found) else OK


def _with_bar(registry: ToolRegistry) -> Iterable[ToolSpec]:
    """The tools, with a bar on a terminal when they take more than a second."""
    from tqdm import tqdm

    bar: Iterable[ToolSpec] = tqdm(
        registry, desc="asking for each tool", unit="tool", file=sys.stderr, delay=1.0, disable=None, leave=False
    )
    return bar


def _print(path: Path, registry: ToolRegistry, found: list[Advice]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if found:
        table = Table(header_style="bold")
        for column in ("", "tools", "finding", "what to do"):
            table.add_column(column, overflow="fold")
        for advice in found:
            mark = "[red]problem[/]" if advice.severity == "problem" else "[yellow]hint[/]"
            table.add_row(mark, *(escape(text) for text in ("\n".join(advice.tools), advice.finding, advice.advice)))
        console.print(table)
    counts = Counter(advice.severity for advice in found)
    console.print(escape(f"{path.name}: {len(registry)} tools, {counts['problem']} problems, {counts['hint']} hints"))
