"""Which tools, which machine and which model: the options that several commands share, and what they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomas_router.planner.planner import Planner
    from tomas_router.runtime.timeline import SystemTimeline
    from tomas_router.schema.profiling import ProfilingTable
    from tomas_router.schema.registry import ToolRegistry


def add_system_options(p: argparse.ArgumentParser) -> None:
    """The options that say which tools, which machine and which model."""
    p.add_argument("--registry", type=Path, metavar="FILE", help="tools.json")
    p.add_argument("--profiling", type=Path, metavar="FILE", help="profiling.csv")
    machine = p.add_mutually_exclusive_group()
    machine.add_argument("--timeline", type=Path, metavar="FILE", help="system_profiling.csv")
    machine.add_argument("--live", action="store_true", help="what this host has free now (needs the extra 'host')")
    p.add_argument("--model", type=Path, metavar="DIR", help="an exported model (default: the packaged one)")
    p.add_argument("--tail", choices=("strict", "hold"), help="what follows the timeline's last row")
    p.add_argument("--horizon-ms", type=int, metavar="N", help="end of the timeline")


def load_planner(args: argparse.Namespace) -> Planner:
    """The planner with ``--model`` or the packaged model."""
    from tomas_router.cli.cache_dir import cache_dir
    from tomas_router.planner.planner import Planner

    exact_ms = getattr(args, "exact_ms", None)
    if exact_ms is None:
        return Planner.load(args.model, cache_dir=cache_dir())
    from tomas_router.planner.plan_search import SearchLimits

    return Planner.load(args.model, cache_dir=cache_dir(), limits=SearchLimits(exact_ms=exact_ms))


def load_system(
    args: argparse.Namespace,
) -> tuple[ToolRegistry | None, ProfilingTable | None, SystemTimeline]:
    """Registry and profile as named, None meaning the shipped ones, and the timeline, by default an idle machine.

    A registry given without a profile is planned by predicted demand: the shipped profile belongs to the shipped tools.
    """
    from tomas_router.runtime.timeline import SystemTimeline
    from tomas_router.schema.profiling import ProfilingTable

    registry = None if args.registry is None else registry_or_shipped(args.registry)
    profiling = (
        None
        if args.profiling is None
        else ProfilingTable.from_csv(args.profiling, registry or registry_or_shipped(None))
    )
    if args.timeline is not None:
        timeline = SystemTimeline.from_csv(args.timeline, tail=args.tail, horizon_ms=args.horizon_ms)
    elif args.live:
        from tomas_router.runtime.snapshot import live_timeline

        timeline = live_timeline().with_tail(args.tail, args.horizon_ms)
    else:
        timeline = SystemTimeline.default().with_tail(args.tail, args.horizon_ms)
    return registry, profiling, timeline


def registry_or_shipped(path: Path | None) -> ToolRegistry:
    """The registry of ``path``, or the one that the package ships."""
    from tomas_router import shipped
    from tomas_router.schema.registry import ToolRegistry

    return ToolRegistry.from_json(path or shipped.registry_path())
