"""``tomas profile``: measures tools and writes the profile that planning reads."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import INCOMPLETE, OK

if TYPE_CHECKING:
    from tomas_router.profiling.session import Session
    from tomas_router.profiling.tool import ProfiledTool

SIZES = ("small", "medium", "large")


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas profile``."""
    p = subparsers.add_parser(
        "profile",
        help="measure tools and write profiling.csv",
        description="Run every tool at every size in every configuration, each in a fresh process, and write a "
        "profile. An interrupted run is continued by the same command. Exit code 4: some rows could not be measured.",
    )
    p.add_argument("target", metavar="MODULE:TOOLS", help="where the ProfiledTool objects are, or my_file.py:TOOLS")
    p.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE", help="default: all three")
    p.add_argument(
        "--configs", nargs="+", default=["1"], metavar="CONFIG",
        help="cores, such as 2, or cpu_core=2,cpu_mem_gb=4,gpu_sm=100 (default: 1)",
    )  # fmt: skip
    p.add_argument("--tools", nargs="+", metavar="NAME", help="only these (default: all)")
    p.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="metadata goes to FILE.meta.json")
    p.add_argument("--registry-out", type=Path, metavar="FILE.json", help="write names and descriptions as a registry")
    p.add_argument("--repeats", type=_at_least(1), default=5, metavar="N", help="timed runs a cell (default: 5)")
    p.add_argument("--warmup", type=_at_least(0), default=1, metavar="N", help="runs before them (default: 1)")
    p.add_argument("--timeout", type=_positive, default=60.0, metavar="S", help="seconds a call may take (default: 60)")
    p.add_argument(
        "--headroom", type=_not_negative, default=0.1, metavar="SHARE",
        help="added to measured memory in the table (default: 0.1)",
    )  # fmt: skip
    p.add_argument(
        "--min-gain", type=_not_negative, default=0.05, metavar="SHARE",
        help="a configuration that takes more must be faster by this to get a row (default: 0.05)",
    )  # fmt: skip
    p.add_argument("--gpu-index", type=_at_least(0), default=0, metavar="N", help="the GPU to use (default: 0)")
    p.add_argument("--retry-failed", action="store_true", help="measure again what crashed, hung or ran out of memory")
    p.add_argument(
        "--retry-spread", type=_not_negative, metavar="SHARE", help="measure again what spread wider, such as 0.1"
    )
    p.add_argument("--fresh", action="store_true", help="forget what was measured before")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures with progress and prints the table; 4 when rows are missing."""
    from rich.console import Console

    from tomas_router.cli.profile_view import profile_view, show_progress

    session = _session(args)
    if args.registry_out is not None:
        _write_registry(session.tools, args.registry_out)
    retry_spread = math.inf if args.retry_spread is None else args.retry_spread
    running = session.run(fresh=args.fresh, retry_failed=args.retry_failed, retry_spread=retry_spread)
    steps = show_progress(session, running)
    Console().print(profile_view(steps, session))
    return OK if all(step.measurement.status == "ok" for step in steps) else INCOMPLETE


def _session(args: argparse.Namespace) -> Session:
    from tomas_router.profiling.configuration import parse_configuration
    from tomas_router.profiling.results import Settings
    from tomas_router.profiling.session import Session
    from tomas_router.profiling.target import load_tools

    settings = Settings(
        target=args.target, warmup=args.warmup, repeats=args.repeats, timeout_s=args.timeout,
        headroom=args.headroom, min_gain=args.min_gain, gpu_index=args.gpu_index,
    )  # fmt: skip
    configurations = list(dict.fromkeys(parse_configuration(text) for text in args.configs))
    tools = _chosen(load_tools(args.target), args.tools)
    return Session(tools, list(dict.fromkeys(args.sizes)), configurations, settings, args.out)


def _chosen(tools: tuple[ProfiledTool, ...], names: list[str] | None) -> tuple[ProfiledTool, ...]:
    from tomas_router.profiling.tool import ProfiledToolError

    by_name = {tool.name: tool for tool in tools}
    for name in names or ():
        if name not in by_name:
            raise ProfiledToolError(f"--tools: {name!r} is none of {', '.join(by_name)}")
    return tools if names is None else tuple(by_name[name] for name in dict.fromkeys(names))


def _write_registry(tools: Any, path: Path) -> None:
    from tomas_router.schema.registry import ToolRegistry

    path.parent.mkdir(parents=True, exist_ok=True)
    ToolRegistry.from_tools([tool.spec() for tool in tools]).to_json(path)


def _at_least(smallest: int) -> Any:
    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {smallest}, got {text!r}")
        return int(text)

    return whole


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _positive(text: str) -> float:
    if not 0 < _number(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be > 0 and finite, got {text!r}")
    return float(text)


def _not_negative(text: str) -> float:
    if not 0 <= _number(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be >= 0 and finite, got {text!r}")
    return float(text)
