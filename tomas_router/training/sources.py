"""Data sources of a training run: rows with their registry and, for our own data, profiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path

import numpy as np

from tomas_router.datasets.instruction_generator import more_training_rows
from tomas_router.datasets.rows import Row, load_rows
from tomas_router.datasets.worlds import (
    ROWS,
    TONGUE_ROWS,
    load_tongues,
    load_worlds,
    tongue_rows,
    world_registry,
    world_rows,
)
from tomas_router.features.tool_rows import Float, raw_features
from tomas_router.schema.findings import FindingLog
from tomas_router.schema.profiling import ProfilingTable, load_profiling_matrix
from tomas_router.schema.registry import ToolRegistry, ToolSpec, load_tool_registry
from tomas_router.shipped import instructions_path, profiling_path, registry_path
from tomas_router.training.prepared_rows import Part, read_prepared
from tomas_router.training.short_lists import WordLikeness

OWN = "own"
GATE_ONLY = "tool_needed"
WORLDS = "worlds"
GENERATED = (OWN, WORLDS)
"""Sources that the project composes; others are public and read from a folder."""
FAMILIAR_ROWS = 20
"""From so many rows on a tool is known by heart; before, what its text says decides (docs/experiments.md, 14)."""
MAX_STEPS = 8
"""Longer plans are left out of training batches, where every request is padded to the longest."""


@dataclass(frozen=True)
class Source:
    """Rows that share one registry."""

    name: str
    registry: ToolRegistry
    profiling: ProfilingTable | None
    rows: tuple[Row, ...]

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """Tools that rows use or that could stand in for those (twins), in the registry's order.

        Training draws wrong candidates from these alone. A tool that is always wrong is learnt by heart as wrong, and
        then never chosen when a request asks for it. Rows that teach nothing about tools (gate data) offer all.
        """
        used = {step.tool for row in self.rows for step in row.steps} or set(self.registry.names)
        groups = {self.registry[name].group for name in used} - {None, ""}
        return tuple(tool.name for tool in self.registry if tool.name in used or tool.group in groups)

    @cached_property
    def familiar(self) -> tuple[ToolSpec, ...]:
        """Tools that at least ``FAMILIAR_ROWS`` rows use; rows of twins count for each other: the curve decides."""
        uses = Counter(tool for row in self.rows for tool in {step.tool for step in row.steps})
        twins = {tool.name: self.registry.in_group(tool.group) or (tool.name,) for tool in self.registry}
        return tuple(tool for tool in self.registry if sum(uses[twin] for twin in twins[tool.name]) >= FAMILIAR_ROWS)

    @cached_property
    def requests_of(self) -> dict[str, tuple[str, ...]]:
        """By tool, what people say who want just that tool."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if len(row.steps) == 1:
                found.setdefault(row.steps[0].tool, []).append(row.instruction)
        return {tool: tuple(texts) for tool, texts in found.items()}

    @cached_property
    def word_likeness(self) -> WordLikeness:
        """How alike the tools are by their words."""
        return WordLikeness(self.registry)

    @cached_property
    def neighbourhoods(self) -> tuple[tuple[int, ...], ...]:
        """Indices of rows whose tools are alike, and hard to tell apart: a world each, else all in one."""
        if self.name != WORLDS:
            return (tuple(range(len(self.rows))),)
        indices: dict[str | None, list[int]] = {}
        for index, row in enumerate(self.rows):
            indices.setdefault(row.domain, []).append(index)
        return tuple(map(tuple, indices.values()))

    def profile_features(self, tool: str) -> Float:
        """(R, 6) in physical units; (0, 6) for a tool without rows."""
        rows = self.profiling.rows(tool) if self.profiling is not None and self.profiling.has(tool) else ()
        return raw_features(rows) if rows else np.zeros((0, 6), dtype=np.float32)


def load_own(split: str, generated_rows: int = 0, prepared: Part | None = None) -> Source:
    """The shipped instructions with the shipped registry and profiles; training may add fresh compositions.

    ``prepared`` holds the rows where they were made before.
    """
    registry = load_tool_registry(registry_path())
    rows = load_rows(instructions_path(split)) if prepared is None else prepared.rows
    if generated_rows and split == "train" and prepared is None:
        rows = [*rows, *more_training_rows(registry, generated_rows)]
    return Source(OWN, registry, load_profiling_matrix(profiling_path(), registry), tuple(rows))


def load_world_source(split: str, rows_in_training: int = ROWS["train"], prepared: Part | None = None) -> Source:
    """Generated requests over the written worlds of a split, with their tools as the registry.

    Training also gets requests in other languages; validation keeps to the rows that are shipped. ``prepared`` holds
    the rows where they were made before.
    """
    worlds = load_worlds(split)
    if prepared is not None:
        return Source(WORLDS, world_registry(worlds), None, prepared.rows)
    count = rows_in_training if split == "train" else ROWS[split]
    rows = world_rows(worlds, count, split)
    if split == "train":
        tongues = round(count * TONGUE_ROWS["train"] / ROWS["train"])
        rows += tongue_rows(load_tongues(worlds), tongues, split)
    return Source(WORLDS, world_registry(worlds), None, tuple(rows))


def load_directory_source(name: str, directories: tuple[str, ...], split: str, registry: ToolRegistry) -> Source:
    """``NAME.jsonl`` with ``NAME.tools.json`` from the first directory, or file of prepared rows, that has it.

    A source without a registry of its own (gate data) borrows ``registry`` as its candidates.

    Raises:
        FileNotFoundError: No directory holds ``NAME.jsonl``.
    """
    for directory in map(Path, directories):
        if directory.is_file():
            part = read_prepared(directory).parts.get((name, split))
            if part is not None:
                return Source(name, part.registry or registry, None, part.rows)
            continue
        path = directory / f"{name}.jsonl"
        if path.exists():
            tools = directory / f"{name}.tools.json"
            known = load_tool_registry(tools) if tools.exists() else registry
            rows = tuple(row for row in load_rows(path) if row.split == split and _usable(row, known))
            return Source(name, known, None, rows)
    raise FileNotFoundError(f"no {name}.jsonl in {list(directories)}; add its folder to train.data_dirs")


def _usable(row: Row, registry: ToolRegistry) -> bool:
    """Public rows name a few tools that their registry lacks; candidates may come from a wider registry too."""
    names = set(registry.names)
    return (
        len(row.steps) <= MAX_STEPS
        and all(step.tool in names for step in row.steps)
        and all(c in names for c in row.candidates or ())
    )


def load_sources(
    names: list[str],
    directories: tuple[str, ...],
    split: str,
    generated_rows: int = 0,
    generated_world_rows: int = ROWS["train"],
    prepared: str | None = None,
) -> dict[str, Source]:
    """Every named source, empty ones left out; without directories only what the project wrote.

    Args:
        names: Those of the mixture.
        directories: Folders of public sources, or files of prepared rows.
        split: ``train``, ``val`` or ``test``.
        generated_rows: ``train.generated_rows``.
        generated_world_rows: ``train.generated_world_rows``.
        prepared: File with the rows of ``own`` and ``worlds`` in training, which are then not composed.

    Raises:
        FileNotFoundError: No directory has a source.
        DataValidationError: ``prepared`` is of another version, of other settings, or lacks a source.
    """
    made = _prepared_training(names, prepared, generated_rows, generated_world_rows) if prepared else {}
    own = load_own(split, generated_rows, made.get((OWN, split)))
    sources: dict[str, Source] = {}
    for name in names:
        if name == OWN:
            sources[name] = own
        elif name == WORLDS:
            sources[name] = load_world_source(split, generated_world_rows, made.get((WORLDS, split)))
        elif directories:
            sources[name] = load_directory_source(name, directories, split, own.registry)
    return {name: source for name, source in sources.items() if source.rows}


def generation_settings(generated_rows: int, generated_world_rows: int) -> dict[str, object]:
    """What composed rows depend on beside the version of the package: how many, and the seeds, which are constants."""
    seeds = {
        "own": _seed(more_training_rows),
        "worlds": _seed(world_rows),
        "tongues": _seed(tongue_rows),
    }
    return {"generated_rows": generated_rows, "generated_world_rows": generated_world_rows, "seeds": seeds}


def _seed(function: Callable[..., object]) -> int:
    seed: int = signature(function).parameters["seed"].default
    return seed


def _prepared_training(
    names: Sequence[str], path: str, generated_rows: int, generated_world_rows: int
) -> Mapping[tuple[str, str], Part]:
    found = read_prepared(path)
    found.expect(generation_settings(generated_rows, generated_world_rows))
    missing = [name for name in names if name in GENERATED and (name, "train") not in found.parts]
    if missing:
        log = FindingLog.of(path)
        log.error(
            f"must hold the training rows of {', '.join(missing)}; make the file anew with: tomas prepare", line=1
        )
        log.finish()
    return found.parts


def validation_paths(names: list[str], directories: tuple[str, ...]) -> list[Path]:
    """The file of every named source that has validation rows, found as ``load_sources`` finds them."""
    shipped = {OWN: instructions_path("val"), WORLDS: instructions_path("worlds_val")}
    found: list[Path] = []
    for name in names:
        places = [Path(directory) / f"{name}.jsonl" for directory in directories]
        path = shipped.get(name) or next((place for place in places if place.exists()), None)
        if path is not None and any(row.split == "val" for row in load_rows(path)):
            found.append(path)
    return found
