"""Ray, or a clear word on how to get it: it comes with the extra ``ray``."""

from __future__ import annotations

from typing import Any

from tomas_router.errors import MissingExtraError, TomasRouterError


class RayNotConnectedError(TomasRouterError):
    """This process is not connected to a Ray cluster."""


def load_ray(purpose: str) -> Any:
    """The module ray.

    Args:
        purpose: begins the message, for example "RayExecutor".

    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(f'{purpose} needs Ray: pip install "tomas-router[ray]"') from error
    return ray


def connected_ray(purpose: str) -> Any:
    """The module ray, of a process that is connected to a cluster.

    Raises:
        MissingExtraError: Ray is not installed.
        RayNotConnectedError: ``ray.init`` was not called.
    """
    ray = load_ray(purpose)
    if not ray.is_initialized():
        raise RayNotConnectedError(
            f'{purpose} needs a connection to a cluster: call ray.init() for one on this machine, or ray.init("auto")'
        )
    return ray


def first_line(error: BaseException) -> str:
    """Kind and message of an error of Ray, whose further lines are a traceback."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
