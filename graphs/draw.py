"""Draws every graph of ``langgraph.json`` from its code into ``docs/graphs.md``: ``python -m graphs.draw``.

``--check`` writes nothing and ends with 1 when the page is not what the code draws.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "graphs.md"
HEAD = """# The graphs, drawn

Made by `python -m graphs.draw` from the code; a test compares. What each is for: [agents](langgraph.md#examples).
"""


def served_graphs() -> dict[str, Any]:
    """The graphs that ``langgraph.json`` names, by name."""
    targets = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))["graphs"]
    found = {}
    for name, target in targets.items():
        path, _, variable = target.partition(":")
        module = Path(path).with_suffix("").as_posix().removeprefix("./").replace("/", ".")
        found[name] = getattr(import_module(module), variable)
    return found


def drawn() -> str:
    """The page."""
    parts = [HEAD]
    for name, graph in served_graphs().items():
        parts.append(f"## {name}\n\n```mermaid\n{graph.get_graph().draw_mermaid().strip()}\n```\n")
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Writes or checks the page."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m graphs.draw [--check]\n")
        return 2
    page = drawn()
    if not arguments:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
