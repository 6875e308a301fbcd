"""Optional packages, or a clear word on how to get them: each comes with an extra of this one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tomas_router.errors import MissingExtraError


def import_extra(module: str, extra: str, reason: str, or_else: str | None = None) -> Any:
    """A module that needs a package which may not be installed.

    Args:
        module: its full name, for example "psutil".
        extra: what brings the package, for example "host".
        reason: begins the message, for example "measuring tools needs psutil".
        or_else: ends the message: what else would do.

    Raises:
        MissingExtraError: It cannot be imported; says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        way_out = "" if or_else is None else f", or {or_else}"
        raise MissingExtraError(f'{reason}: pip install "tomas-router[{extra}]"{way_out}') from error
