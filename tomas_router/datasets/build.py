"""Rebuilds the generated part of ``data/`` byte for byte.

python -m tomas_router.datasets.build --out data --seed 7
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tomas_router.datasets.instruction_generator import generate, unseen_tools
from tomas_router.datasets.phrasings import load_phrases
from tomas_router.datasets.profile_generator import generate as generate_profiles
from tomas_router.datasets.rows import to_json
from tomas_router.schema.registry import load_tool_registry


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
    folder = args.out / "instructions"
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in generate(registry, args.seed).items():
        (folder / f"{split}.jsonl").write_text("".join(to_json(r) + "\n" for r in rows), encoding="utf-8")
    meta = {"seed": args.seed, "unseen_tools": unseen_tools(load_phrases())}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
