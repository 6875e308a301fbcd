"""Public names of a package that are loaded on first use, so that importing the package is instant (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def load_name(package: str, home_of: Mapping[str, str], name: str) -> Any:
    """What a package's ``__getattr__`` returns; kept in the package, which is not asked again.

    Args:
        package: its ``__name__``.
        home_of: the module of each public name.
        name: what was asked for.

    Raises:
        AttributeError: It is no public name.
    """
    if name not in home_of:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(import_module(home_of[name]), name)
    setattr(sys.modules[package], name, value)
    return value
