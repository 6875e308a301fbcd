"""Compares the levels of quantisation on the same requests: size, error, equal plans, right tools.

    python -m export.compare_levels --checkpoint DIR [--levels none int8 int4] [--data FILE ...] [--limit N] --out DIR

Each level is exported to ``OUT/LEVEL`` (one that lies there from the same checkpoint is taken as it is). Every request
is then decoded at every level and set beside ``none``, which is float32: a plan is equal when both or neither ask for
tools, and tools, input sizes and dependencies are the same. Where rows say which tools are right, the tools are scored
too, twins counted as right. Writes ``OUT/levels.md`` and ``OUT/levels.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console

from export.onnx import export
from export.parity import ParityError
from tomas_router.datasets.rows import Row
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.errors import TomasRouterError
from tomas_router.evaluation.intervals import Interval, Tally
from tomas_router.evaluation.sources import EvalSource, load_source
from tomas_router.planner.decoding import RawPlan
from tomas_router.planner.planner import Planner
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.manifest import MANIFEST, Quantisation, parse_manifest
from tomas_router.shipped import instructions_path
from tomas_router.training.checkpoint import Checkpoint, load_checkpoint

REFERENCE: Quantisation = "none"
WEIGHTS = "weights.bin"
Decision = tuple[bool, tuple[tuple[str, int, tuple[int, ...]], ...]]
"""Whether tools are needed; tool, size and dependencies of every step."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Agreement:
    """One level beside float32 on one source; shares with 95 % intervals."""

    equal_plans: Interval
    equal_tools: Interval
    right_tools: Interval | None  # None where no row says which tools are right


@dataclass
class Level:
    """What one level costs and keeps."""

    quantisation: str
    bytes_in_all: int = 0
    bytes_of_weights: int = 0
    largest_error: float = 0.0
    largest_error_in: str = ""
    sources: dict[str, Agreement] = field(default_factory=dict)
    failed: str = ""
    """Why the level did not pass parity; the other fields then say nothing."""


def compare(
    checkpoint: Checkpoint, sources: Sequence[EvalSource], levels: Sequence[Quantisation], out: Path
) -> list[Level]:
    """Exports every level and decodes every row with each; float32 comes first."""
    ordered = [REFERENCE, *(level for level in levels if level != REFERENCE)]
    fingerprint = TorchEngine(checkpoint).fingerprint
    found: list[Level] = []
    reference: dict[str, list[Decision]] = {}
    for quantisation in ordered:
        directory = out / quantisation
        try:
            if not _is_there(directory, quantisation, fingerprint):
                export(checkpoint, directory, quantisation)
        except ParityError as error:
            if quantisation == REFERENCE:
                raise
            found.append(Level(quantisation, failed=str(error)))
            continue
        level = _described(directory, quantisation)
        planner = Planner.load(directory, cache_dir=out / "cache")
        for source in sources:
            console.print(f"{quantisation}: {source.name}, {len(source.rows)} requests", highlight=False)
            decisions = [decision(planner, source, row) for row in source.rows]
            level.sources[source.name] = _agreement(source, decisions, reference.setdefault(source.name, decisions))
        found.append(level)
    return found


def decision(planner: Planner, source: EvalSource, row: Row) -> Decision:
    """What the network decides about a row, on an idle machine."""
    raw = planner.propose(source.request(row), source.registry, source.profiling, SystemTimeline.default())
    return raw.no_tool is None, _steps(raw, source.registry.names)


def _steps(raw: RawPlan, names: Sequence[str]) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    return tuple((names[step.tool], int(np.argmax(step.size_logits)), step.depends_on) for step in raw.steps)


def _is_there(directory: Path, quantisation: Quantisation, training_fingerprint: str) -> bool:
    """Whether the same was exported there before."""
    path = directory / MANIFEST
    if not path.exists():
        return False
    manifest = parse_manifest(path)
    return (manifest.quantisation, manifest.training_fingerprint) == (quantisation, training_fingerprint)


def _described(directory: Path, quantisation: Quantisation) -> Level:
    errors = json.loads((directory / "parity.json").read_text(encoding="utf-8"))["relative_error"]
    worst = max(errors, key=errors.__getitem__)
    files = parse_manifest(directory / MANIFEST).files
    return Level(quantisation, sum(entry.bytes for entry in files.values()), files[WEIGHTS].bytes, errors[worst], worst)


# ---- agreement ------------------------------------------------------------------------------------------------------


def _agreement(source: EvalSource, ours: Sequence[Decision], reference: Sequence[Decision]) -> Agreement:
    plans, tools, right = Tally.empty(), Tally.empty(), Tally.empty()
    for row, our, their in zip(source.rows, ours, reference, strict=True):
        plans.add(row.id, our == their)
        tools.add(row.id, _tools(our) == _tools(their))
        if row.steps or not row.needs_tool:  # some rows say that a tool is needed without saying which
            right.add(row.id, _jobs(source, _tools(our)) == _jobs(source, [step.tool for step in row.steps]))
    equal_plans, equal_tools = plans.interval(), tools.interval()
    assert equal_plans is not None, "a source has rows"
    assert equal_tools is not None, "a source has rows"
    return Agreement(equal_plans, equal_tools, right.interval())


def _tools(found: Decision) -> list[str]:
    return [tool for tool, _, _ in found[1]]


def _jobs(source: EvalSource, tools: Sequence[str]) -> Counter[str]:
    """Twins do one job."""
    return Counter(source.registry[tool].group or tool for tool in tools)


# ---- report ---------------------------------------------------------------------------------------------------------


def table(levels: Sequence[Level], title: str) -> str:
    """Markdown: one row a level and source."""
    lines = [
        f"# Levels of quantisation: {title}",
        "",
        "Equal: beside float32 on the same requests. Right: beside the rows, twins counted as right. 95 % intervals.",
        "",
        "| level | MB in all | weights, MB | largest error | requests | equal plans, % | equal tools | right tools |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level in levels:
        if level.failed:
            lines.append(f"| {level.quantisation} | failed parity: {level.failed} | | | | | | |")
        size = f"{level.bytes_in_all / 1e6:.1f} | {level.bytes_of_weights / 1e6:.1f}"
        error = f"{level.largest_error:.2g} ({level.largest_error_in})"
        for name, found in level.sources.items():
            cells = " | ".join(map(_percent, (found.equal_plans, found.equal_tools, found.right_tools)))
            lines.append(f"| {level.quantisation} | {size} | {error} | {name}: {found.equal_plans.rows} | {cells} |")
    return "\n".join(lines) + "\n"


def _percent(share: Interval | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share.value:.1f} ({100 * share.low:.1f}-{100 * share.high:.1f})"


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when compared, 1 when float32 itself fails parity, 2 when something cannot be read."""
    choices = get_args(Quantisation)
    parser = argparse.ArgumentParser(prog="python -m export.compare_levels", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="what training wrote (OUT/final)")
    parser.add_argument("--levels", nargs="+", choices=choices, default=choices, help="float32 is always among them")
    parser.add_argument("--data", type=Path, nargs="+", help="NAME.jsonl files (default: the shipped requests)")
    parser.add_argument("--split", default="val", help="only rows of this split are asked (default: val)")
    parser.add_argument("--limit", type=int, default=200, help="first N rows of each file (default: 200)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the exports and the two reports")
    args = parser.parse_args(argv)
    try:
        checkpoint = load_checkpoint(args.checkpoint)
        paths = args.data or [instructions_path(args.split)]
        sources = [load_source(path, args.split, limit=args.limit) for path in paths]
        args.out.mkdir(parents=True, exist_ok=True)
        levels = compare(checkpoint, sources, args.levels, args.out)
    except ParityError as error:
        console.print(f"float32 fails parity: {error}", soft_wrap=True)
        return 1
    except (TomasRouterError, ValueError, OSError) as error:
        console.print(f"cannot compare: {error}", soft_wrap=True)
        return 2
    text = table(levels, checkpoint.config.name)
    (args.out / "levels.md").write_text(text, encoding="utf-8")
    record = [asdict(level) for level in levels]
    (args.out / "levels.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
