"""Reads a registry as the model does and says what will be confused, cut off or guessed, and what to do about it.

Likeness is the cosine of the model's classifier keys, which is what tools are chosen by; it tells far better than
shared words which tools will be confused (docs/decisions/registry-lint.md). N tools, Q key width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.tool_text import tool_text
from tomas_router.features.words import words
from tomas_router.schema.profiling import SIZES, ProfilingTable
from tomas_router.schema.registry import ToolRegistry, ToolSpec

SAME = 0.9
"""Cosine at which twins of the shipped registry lie (0.90 to 0.94 for the packaged model)."""
ALIKE = 0.8
"""Cosine above which 18 % of all pairs were confused, and below which 0.5 % (five sets, packaged model)."""
FEWEST_WORDS = 4
"""Shorter descriptions say little more than a name; 95 % of the shipped ones have six or more."""
BLOCK = 512  # rows of the cosine matrix at once; 512 x 10,000 are 20 MB

Kind = Literal["same", "alike", "mistaken", "duplicate", "short", "repeats", "long", "unprofiled", "unsized"]
Severity = Literal["problem", "hint"]
SEVERITY: dict[Kind, Severity] = {
    "same": "problem", "alike": "hint", "mistaken": "problem", "duplicate": "problem", "short": "hint",
    "repeats": "hint", "long": "problem", "unprofiled": "hint", "unsized": "hint",
}  # fmt: skip


@dataclass(frozen=True)
class Advice:
    """One finding."""

    kind: Kind
    tools: tuple[str, ...]
    finding: str
    advice: str

    @property
    def severity(self) -> Severity:
        """A problem makes wrong plans; a hint may be as it should be."""
        return SEVERITY[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"severity": self.severity, **asdict(self)}


@dataclass(frozen=True)
class Reading:
    """What the model makes of a registry."""

    key_NQ: NDArray[np.float32]
    tokens: tuple[int, ...]  # of every tool's text, uncut
    max_tokens: int
    chosen: tuple[str | None, ...]  # asked with each tool's own description; empty where nobody asked


def lint(registry: ToolRegistry, profiling: ProfilingTable | None, reading: Reading) -> list[Advice]:
    """Everything worth changing, problems first.

    Args:
        registry: The tools.
        profiling: Their profiles; None leaves out what concerns profiles.
        reading: What the model makes of them.
    """
    found = [
        *_duplicates(registry),
        *_mistaken(registry, reading.chosen),
        *_confusable(registry, reading.key_NQ),
        *_too_long(registry, reading),
        *_too_short(registry),
        *(() if profiling is None else _without_profile(registry, profiling)),
    ]
    return sorted(found, key=lambda advice: advice.severity != "problem")  # stable: the order above within each


def alike_pairs(key_NQ: NDArray[np.float32], least: float) -> Iterator[tuple[int, int, float]]:
    """(tool, later tool, cosine) of all pairs at or above ``least``, in registry order."""
    unit_NQ = key_NQ / np.maximum(np.linalg.norm(key_NQ, axis=1, keepdims=True), 1e-12)
    for first in range(0, len(unit_NQ), BLOCK):
        cosine = unit_NQ[first : first + BLOCK] @ unit_NQ.T
        for row, column in np.argwhere(cosine >= least).tolist():
            if column > first + row:
                yield first + row, column, float(cosine[row, column])


def _confusable(registry: ToolRegistry, key_NQ: NDArray[np.float32]) -> Iterator[Advice]:
    pairs = sorted(alike_pairs(key_NQ, ALIKE), key=lambda pair: -pair[2])
    for i, j, cosine in pairs:
        a, b = registry.tools[i], registry.tools[j]
        if _twins(a, b):
            continue
        kind: Kind = "same" if cosine >= SAME else "alike"
        finding = f"likeness {cosine:.2f}, {'as of twins' if kind == 'same' else 'so they may be confused'}"
        advice = "say in each what the other cannot do; if they do one job, tag both 'group:NAME'"
        yield Advice(kind, (a.name, b.name), finding, advice)


def _mistaken(registry: ToolRegistry, chosen: Sequence[str | None]) -> Iterator[Advice]:
    for tool, said in zip(registry, chosen, strict=False):
        if said is not None and said != tool.name and not _twins(tool, registry[said]):
            finding = f"asked with the description of {tool.name}, the model takes {said}"
            yield Advice("mistaken", (tool.name, said), finding, "name the object and the result that only it has")


def _duplicates(registry: ToolRegistry) -> Iterator[Advice]:
    reads: tuple[tuple[str, Callable[[ToolSpec], str]], ...] = (
        ("name, but for case and signs", lambda tool: tool.name),
        ("description", lambda tool: tool.desc),
    )
    for what, text in reads:
        groups: dict[tuple[str, ...], list[ToolSpec]] = defaultdict(list)
        for tool in registry:
            groups[tuple(words(text(tool)))].append(tool)
        for plain, tools in groups.items():
            if plain and len(tools) > 1 and not all(_twins(tools[0], other) for other in tools[1:]):
                names = tuple(tool.name for tool in tools)
                yield Advice("duplicate", names, f"the same {what}", "drop all but one, or say how they differ")


def _too_long(registry: ToolRegistry, reading: Reading) -> Iterator[Advice]:
    for tool, count in zip(registry, reading.tokens, strict=True):
        if count > reading.max_tokens:
            finding = f"{count} tokens with its name; the model reads the first {reading.max_tokens}"
            yield Advice("long", (tool.name,), finding, "begin with what it does to what; leave terms and limits out")


def _too_short(registry: ToolRegistry) -> Iterator[Advice]:
    for tool in registry:
        said = words(tool.desc)
        if set(said) <= set(words(tool.name)):
            yield Advice(
                "repeats", (tool.name,), "the description only repeats the name", "say what it takes and gives"
            )
        elif len(said) < FEWEST_WORDS:
            yield Advice("short", (tool.name,), f"a description of {len(said)} words", "say what it takes and gives")


def _without_profile(registry: ToolRegistry, profiling: ProfilingTable) -> Iterator[Advice]:
    for tool in registry:
        missing = [size for size in SIZES if not (profiling.has(tool.name) and profiling.rows(tool.name, size))]
        if len(missing) == len(SIZES):
            finding = "no profile: plans will rest on a predicted demand"
            yield Advice("unprofiled", (tool.name,), finding, "measure it at one size at least")
        elif missing:
            finding = f"no profile at size {' and '.join(missing)}"
            advice = "measure it there, else the next larger size or a prediction stands in"
            yield Advice("unsized", (tool.name,), finding, advice)


def _twins(a: ToolSpec, b: ToolSpec) -> bool:
    """Tools of one group may well be alike: the curve decides between them."""
    return a.group is not None and a.group == b.group


def read_as_model(
    planner: Any, registry: ToolRegistry, profiling: ProfilingTable | None, asks: Iterable[ToolSpec]
) -> Reading:
    """Asks a ``Planner`` with an exported model.

    Args:
        planner: It encodes the registry.
        registry: The tools.
        profiling: Their profiles, which are part of what the model knows of a tool.
        asks: Tools that are asked for in their own words, in the registry's order from its first; may be lazy.
    """
    preparation = planner.engine.preparation
    tokens = tuple(len(preparation.tokenizer.encode(tool_text(tool.name, tool.desc))) for tool in registry)
    chosen = tuple(_choice(planner, tool, registry, profiling) for tool in asks)
    return Reading(planner.encode(registry, profiling).key_ND, tokens, preparation.max_tool_tokens, chosen)


def _choice(planner: Any, tool: ToolSpec, registry: ToolRegistry, profiling: ProfilingTable | None) -> str | None:
    raw = planner.propose({"instruction": tool.desc, "num_steps": 1}, registry, profiling)
    return registry.names[raw.steps[0].tool] if raw.steps else None
