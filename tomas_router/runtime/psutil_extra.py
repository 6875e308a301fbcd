"""psutil, or a clear word on how to get it: it comes with the extra ``host``."""

from __future__ import annotations

from typing import Any

from tomas_router.errors import MissingExtraError


def load_psutil(purpose: str) -> Any:
    """The module psutil.

    Args:
        purpose: begins the message, for example "a live snapshot of this host".

    Raises:
        MissingExtraError: psutil is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError(f'{purpose} needs psutil: pip install "tomas-router[host]"') from error
    return psutil
