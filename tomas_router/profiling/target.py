"""Finds the tools that ``my_module:tools`` or ``folder/my_file.py:tools`` names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tomas_router.profiling.tool import ProfiledTool, ProfiledToolError


def load_tools(target: str) -> tuple[ProfiledTool, ...]:
    """The tools of a target, in order.

    The attribute is a ``ProfiledTool``, several of them in a list, tuple or dictionary, or a function without
    parameters that returns such. Modules are looked for in the current folder too.

    Raises:
        ProfiledToolError: The target cannot be imported, or holds something else, or names repeat.
    """
    tools = _as_tools(load_attribute(target), target)
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ProfiledToolError(f"target {target!r}: the name {name!r} repeats; names must be unique")
    return tools


def load_attribute(target: str) -> Any:
    """What a target names, whatever it is.

    Raises:
        ProfiledToolError: The target cannot be imported.
    """
    place, _, attribute = target.rpartition(":")
    if not place or not attribute:
        raise ProfiledToolError(f"target must be my_module:tools or my_file.py:tools, got {target!r}")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, attribute):
        raise ProfiledToolError(f"target {target!r}: {place} has no {attribute!r}")
    return getattr(module, attribute)


def _as_tools(found: Any, target: str) -> tuple[ProfiledTool, ...]:
    if callable(found) and not isinstance(found, type) and not hasattr(found, "invoke"):
        found = found()
    if isinstance(found, ProfiledTool):
        return (found,)
    members = found.values() if isinstance(found, Mapping) else found
    if not isinstance(members, Iterable) or isinstance(members, (str, bytes)):
        raise ProfiledToolError(f"target {target!r} must hold ProfiledTool objects, got {type(found).__name__}")
    tools = tuple(members)
    for position, tool in enumerate(tools):
        if not isinstance(tool, ProfiledTool):
            raise ProfiledToolError(
                f"target {target!r}: element {position} must be a ProfiledTool, which adds inputs to a function or "
                f"LangChain tool, got {type(tool).__name__}"
            )
    if not tools:
        raise ProfiledToolError(f"target {target!r} must hold at least one ProfiledTool, got none")
    return tools


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # the module is there; something that it imports is not
        raise ProfiledToolError(f"target: there is no module {name!r} here or installed") from error


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ProfiledToolError(f"target: there is no file {str(path)!r}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a .py file always has a loader"
    assert spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickling look their module up
    spec.loader.exec_module(module)
    return module
