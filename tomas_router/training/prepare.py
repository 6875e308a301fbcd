"""Composes the rows of a training run ahead of it, on any machine, without torch: ``tomas prepare``.

``tomas train --prepared FILE`` then reads them. With ``--data-dir`` the public sources of the mixture go into the file
too, rows of training and of validation, so that the machine with the GPU needs no other data.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tomas_router.config import TrainConfig, load_config
from tomas_router.schema.registry import ToolRegistry
from tomas_router.training.prepared_rows import Part, write_prepared
from tomas_router.training.sources import (
    GENERATED,
    Source,
    generation_settings,
    load_directory_source,
    load_own,
    load_world_source,
)


def parts_of(config: TrainConfig, held_out: frozenset[str] = frozenset()) -> dict[tuple[str, str], Part]:
    """The rows that a run of this configuration would compose or read, by source and split.

    Training rows of public sources that use a tool of ``held_out``, or offer one as a candidate, are left out, and so
    are those tools: training must not draw them as wrong candidates either.

    Raises:
        ValueError: A tool of ``held_out`` is in no public registry of the run.
    """
    own = load_own("train", config.generated_rows)
    worlds = load_world_source("train", config.generated_world_rows)
    parts = {(source.name, "train"): Part(source.rows) for source in (own, worlds) if source.name in config.mixture}
    for name in config.mixture if config.data_dirs else ():
        if name not in GENERATED:
            for split in ("train", "val"):
                parts[name, split] = _part(load_directory_source(name, config.data_dirs, split, own.registry), own)
    known = {name for part in parts.values() if part.registry is not None for name in part.registry.names}
    if held_out - known:
        raise ValueError(f"--held-out must name tools of the public sources, got {', '.join(sorted(held_out - known))}")
    return {key: _without(part, held_out) if key[1] == "train" else part for key, part in parts.items()}


def _without(part: Part, held_out: frozenset[str]) -> Part:
    kept = (row for row in part.rows if not held_out & {*(step.tool for step in row.steps), *(row.candidates or ())})
    registry = part.registry and ToolRegistry(tool for tool in part.registry if tool.name not in held_out)
    return Part(tuple(kept), registry)


def _part(source: Source, own: Source) -> Part:
    return Part(source.rows, None if source.registry is own.registry else source.registry)


def main(argv: list[str] | None = None) -> int:
    """Writes the file and says what is in it."""
    parser = argparse.ArgumentParser(prog="tomas prepare", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the YAML file that training will be given")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="for example rows.jsonl.gz")
    parser.add_argument(
        "--data-dir",
        action="append",
        default=[],
        help="folder with NAME.jsonl and NAME.tools.json; put them in as well",
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="FILE",
        help="text file, one tool a line, of tools that training shall never see; for tomas eval --held-out",
    )
    args = parser.parse_args(argv)
    config = load_config(args.config).train
    if config is None:
        parser.error(f"{args.config}: a 'train' section is needed; see configs/embedded.yaml")
    if args.data_dir:
        config = config.model_copy(update={"data_dirs": tuple(args.data_dir)})
    began = time.monotonic()
    lines = args.held_out.read_text(encoding="utf-8").splitlines() if args.held_out else []
    try:
        parts = parts_of(config, frozenset(name for name in map(str.strip, lines) if name))
    except ValueError as error:
        parser.error(str(error))
    manifest = write_prepared(args.out, parts, generation_settings(config.generated_rows, config.generated_world_rows))
    seconds, size_mib = time.monotonic() - began, args.out.stat().st_size / 2**20
    counts = ", ".join(f"{name} {count}" for name, count in manifest["counts"].items())
    sys.stdout.write(f"wrote {args.out} ({size_mib:.1f} MiB) in {seconds:.0f} s: {counts}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
