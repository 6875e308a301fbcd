"""A Ray cluster that this process is connected to, and its errors in one line."""

from __future__ import annotations

from typing import Any

from tomas_router.errors import TomasRouterError
from tomas_router.extras import import_extra


class RayNotConnectedError(TomasRouterError):
    """This process is not connected to a Ray cluster."""


def connected_ray(purpose: str) -> Any:
    """The module ray, of a process that is connected to a cluster.

    Args:
        purpose: begins the messages, for example "RayExecutor".

    Raises:
        MissingExtraError: Ray is not installed.
        RayNotConnectedError: ``ray.init`` was not called.
    """
    ray = import_extra("ray", "ray", f"{purpose} needs Ray")
    if not ray.is_initialized():
        raise RayNotConnectedError(
            f'{purpose} needs a connection to a cluster: call ray.init() for one on this machine, or ray.init("auto")'
        )
    return ray


def first_line(error: BaseException) -> str:
    """Kind and message of an error of Ray, whose further lines are a traceback."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
