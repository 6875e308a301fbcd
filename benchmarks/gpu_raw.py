"""The raw results of a GPU profile: a line of JSON for the machine, each probe, each cell that began, each result."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

SIZES = ("small", "medium", "large")
TOOLS = Path(__file__).parents[1] / "examples" / "gpu_tools.py"


def load_tools() -> ModuleType:
    """The module of the example, which is no part of a package."""
    name = TOOLS.stem
    if name not in sys.modules:
        spec = spec_from_file_location(name, TOOLS)
        assert spec is not None and spec.loader is not None, "a .py file always has a loader"  # noqa: PT018
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def read_raw(path: Path) -> list[dict[str, Any]]:
    """All whole lines; an interrupted run may have left half of one."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def key_of(line: dict[str, Any]) -> tuple[str, str, float]:
    """Which cell a line is about."""
    return line["tool"], line["input_size"], line["share"]
