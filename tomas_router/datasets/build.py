"""Rebuilds the generated part of ``data/`` byte for byte.

python -m tomas_router.datasets.build --out data --seed 7
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tomas_router.datasets.instruction_generator import generate, unseen_tools
from tomas_router.datasets.nearest_copy import copied_plan_share
from tomas_router.datasets.phrasings import load_bank
from tomas_router.datasets.profile_generator import generate as generate_profiles
from tomas_router.datasets.rows import Row, to_json
from tomas_router.datasets.worlds import (
    ROWS,
    TONGUE_ROWS,
    World,
    load_tongues,
    load_worlds,
    tongue_rows,
    world_registry,
    world_rows,
)
from tomas_router.schema.registry import ToolRegistry, load_tool_registry


def build_instructions(folder: Path, registry: ToolRegistry, seed: int) -> dict[str, object]:
    """Writes the three splits and ``meta.json``; returns what ``meta.json`` holds."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = generate(registry, seed)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")
    meta = describe(splits, seed)
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    return meta


def build_worlds(folder: Path) -> None:
    """Writes requests over the held-out worlds, ``worlds_SPLIT.jsonl`` with their tools in ``worlds_SPLIT.tools.json``.

    ``worlds_tongues_test`` asks for the tools of all of them in other languages than English.
    Requests over the other worlds are made when training needs them (``worlds.world_rows``).
    """
    held_out = {split: load_worlds(split) for split in ("val", "test")}
    for split, worlds in held_out.items():
        _write_worlds(folder, f"worlds_{split}", world_rows(worlds, ROWS[split], split), worlds)
    worlds = [*held_out["val"], *held_out["test"]]
    rows = tongue_rows(load_tongues(worlds), TONGUE_ROWS["test"], "test")
    _write_worlds(folder, "worlds_tongues_test", rows, worlds)


def _write_worlds(folder: Path, name: str, rows: list[Row], worlds: list[World]) -> None:
    tools = [{"name": tool.name, "desc": tool.desc} for tool in world_registry(worlds)]
    (folder / f"{name}.jsonl").write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")
    lines = ",\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    (folder / f"{name}.tools.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def describe(splits: dict[str, list[Row]], seed: int) -> dict[str, object]:
    """Seed, unseen tools, counts by kind, and how often a copied plan would be right."""
    counts = {split: dict(sorted(Counter(str(row.kind) for row in rows).items())) for split, rows in splits.items()}
    copied = {name: round(copied_plan_share(splits["train"], splits[name]), 4) for name in ("val", "test")}
    return {"seed": seed, "unseen_tools": unseen_tools(load_bank()), "kinds": counts, "nearest_copy_exact_plan": copied}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tomas_router.datasets.build", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="the data folder; its registry is read, the rest written"
    )
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)
    registry = load_tool_registry(args.out / "tool_registry" / "tools.json")
    generate_profiles(args.seed).to_csv(args.out / "profiling" / "profiling.csv")
    meta = build_instructions(args.out / "instructions", registry, args.seed)
    build_worlds(args.out / "instructions")
    sys.stdout.write(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()
