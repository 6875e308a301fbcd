"""Which machine a live timeline is of: the options that ``snapshot`` and ``record`` share."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomas_router.runtime.kubernetes_source import KubernetesSource
    from tomas_router.runtime.timeline_source import TimelineSource

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
DEFAULT_SELECTOR = 'job="node"'


def add_source_options(p: argparse.ArgumentParser) -> None:
    """The options that choose this host, or one that Prometheus, Kubernetes or Ray knows."""
    other = p.add_mutually_exclusive_group()
    other.add_argument("--prometheus", metavar="URL", help="ask Prometheus instead of this host")
    other.add_argument("--kubernetes", metavar="URL", help="ask Kubernetes: the API's URL, or in-cluster")
    other.add_argument("--ray", metavar="ADDRESS", help="ask Ray: the cluster's address, or auto")
    p.add_argument("--node", metavar="NAME", help="which node of Kubernetes or Ray")
    p.add_argument("--token-file", metavar="FILE", help="bearer token for Kubernetes")
    p.add_argument("--ca-file", metavar="FILE", help="certificates that vouch for Kubernetes")
    p.add_argument("--gpu-memory", type=float, metavar="GIB", help="of one GPU, where Kubernetes or Ray does not say")
    p.add_argument(
        "--select", default=DEFAULT_SELECTOR, metavar="LABELS",
        help=f"labels of the machine's node exporter (default: {DEFAULT_SELECTOR})",
    )  # fmt: skip
    p.add_argument("--select-gpus", metavar="LABELS", help="labels of its DCGM exporter (default: no GPUs)")
    p.add_argument("--window", default="1m", metavar="TIME", help="of CPU use in Prometheus (default: 1m)")


def load_source(args: argparse.Namespace) -> TimelineSource:
    """The source that the options choose."""
    if args.kubernetes is not None:
        return _kubernetes(args)
    if args.ray is not None:
        return _ray(args)
    if args.prometheus is None:
        from tomas_router.runtime.timeline_source import HostSource

        return HostSource()
    from tomas_router.errors import TomasRouterError
    from tomas_router.runtime.prometheus_source import PrometheusSource, Queries

    try:
        return PrometheusSource(args.prometheus, Queries(args.select, args.select_gpus, args.window))
    except ValueError as error:
        raise TomasRouterError(f"--prometheus: {error}") from error


def _kubernetes(args: argparse.Namespace) -> KubernetesSource:
    from tomas_router.errors import TomasRouterError
    from tomas_router.runtime.kubernetes_source import KubernetesSource

    if args.node is None:
        raise TomasRouterError("--kubernetes needs --node NAME")
    if args.kubernetes == "in-cluster":
        return KubernetesSource.in_cluster(args.node, gpu_memory_gib=args.gpu_memory)
    files = {"token_file": args.token_file, "ca_file": args.ca_file}
    try:
        return KubernetesSource(args.kubernetes, args.node, gpu_memory_gib=args.gpu_memory, **files)
    except ValueError as error:
        raise TomasRouterError(f"--kubernetes: {error}") from error


def _ray(args: argparse.Namespace) -> TimelineSource:
    from tomas_router.extras import import_extra
    from tomas_router.runtime.ray_source import RaySource

    ray = import_extra("ray", "ray", "--ray needs Ray")
    if not ray.is_initialized():
        ray.init(address=args.ray, log_to_driver=False, configure_logging=False)
    return RaySource(args.node, gpu_memory_gib=args.gpu_memory or 0.0)


def duration_ms(text: str) -> int:
    """Reads ``500ms``, ``1s``, ``2m`` or ``1.5h`` for argparse."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a time such as 500ms, 1s, 2m or 1h, got {text!r}")
    return max(round(float(match[1]) * UNITS_MS[match[2]]), 1)
