"""Which machine a live timeline is of: the options that ``snapshot`` and ``record`` share."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomas_router.runtime.timeline_source import TimelineSource

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
DEFAULT_SELECTOR = 'job="node"'


def add_source_options(p: argparse.ArgumentParser) -> None:
    """The options that choose this host or one that Prometheus watches."""
    p.add_argument("--prometheus", metavar="URL", help="ask Prometheus instead of this host")
    p.add_argument(
        "--select", default=DEFAULT_SELECTOR, metavar="LABELS",
        help=f"labels of the machine's node exporter (default: {DEFAULT_SELECTOR})",
    )  # fmt: skip
    p.add_argument("--select-gpus", metavar="LABELS", help="labels of its DCGM exporter (default: no GPUs)")
    p.add_argument("--window", default="1m", metavar="TIME", help="of CPU use in Prometheus (default: 1m)")


def load_source(args: argparse.Namespace) -> TimelineSource:
    """The source that the options choose."""
    if args.prometheus is None:
        from tomas_router.runtime.timeline_source import HostSource

        return HostSource()
    from tomas_router.errors import TomasRouterError
    from tomas_router.runtime.prometheus_source import PrometheusSource, Queries

    try:
        return PrometheusSource(args.prometheus, Queries(args.select, args.select_gpus, args.window))
    except ValueError as error:
        raise TomasRouterError(f"--prometheus: {error}") from error


def duration_ms(text: str) -> int:
    """Reads ``500ms``, ``1s``, ``2m`` or ``1.5h`` for argparse."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a time such as 500ms, 1s, 2m or 1h, got {text!r}")
    return max(round(float(match[1]) * UNITS_MS[match[2]]), 1)
