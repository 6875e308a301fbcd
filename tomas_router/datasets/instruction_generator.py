"""Generates the shipped instructions: seeded, hand-written phrasings composed into requests with their plans.

Training uses the phrasings marked for it; validation and test mostly use held-out ones, other fillers, and tools that
training never shows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tomas_router.datasets.composer import Composed, Composer
from tomas_router.datasets.phrasings import Phrases, load_phrases
from tomas_router.datasets.rows import Row
from tomas_router.schema.registry import ToolRegistry

SIZES = {"train": 2800, "val": 320, "test": 420}
HELD_OUT_SHARE = {"train": 0.0, "val": 0.7, "test": 0.9}
MIX: dict[str, float] = {
    "single": 0.37, "chain": 0.25, "parallel": 0.11, "fan_out": 0.06, "fan_in": 0.05, "chain_and_other": 0.05,
    "repeated": 0.03, "no_tool": 0.08,
}  # fmt: skip

CONCEPTS = (
    "inflation",
    "photosynthesis",
    "gravity",
    "democracy",
    "entropy",
    "a black hole",
    "recursion",
    "irony",
    "a tariff",
)
WORDS = ("serendipity", "frugal", "ubiquitous", "candid", "obsolete", "placate")
COUNTRIES = ("Norway", "Kenya", "Peru", "Mongolia", "Portugal", "Canada", "Laos", "Estonia")
NAMES = ("Ada", "Kofi", "Mei", "Luca", "Anouk", "Ravi")


def generate(registry: ToolRegistry, seed: int = 7) -> dict[str, list[Row]]:
    """Rows by split; no instruction occurs twice."""
    units = load_phrases()
    check_coverage(registry, units)
    seen_text: set[str] = set()
    splits: dict[str, list[Row]] = {}
    for number, (split, size) in enumerate(SIZES.items()):
        rng = np.random.default_rng([seed, number])
        usable = [u for u in units if split != "train" or not u.unseen]
        splits[split] = _split(split, size, registry, Composer(registry, usable, rng, HELD_OUT_SHARE[split]), seen_text)
    return splits


def unseen_tools(units: list[Phrases]) -> list[str]:
    """Tools that no training row uses."""
    return [u.name for u in units if u.unseen]


def check_coverage(registry: ToolRegistry, units: list[Phrases]) -> None:
    """Every tool must have phrasings of its own or of its group.

    Raises:
        ValueError: Lists tools without phrasings and units without tools.
    """
    named = {u.name for u in units if not u.is_group}
    groups = {u.name for u in units if u.is_group}
    missing = [t.name for t in registry if t.name not in named and t.group not in groups]
    unknown = [n for n in named if n not in registry] + sorted(groups - {t.group for t in registry})
    if missing or unknown:
        raise ValueError(f"tools without phrasings: {missing}; phrasings without tools: {unknown}")


def _split(split: str, size: int, registry: ToolRegistry, composer: Composer, seen_text: set[str]) -> list[Row]:
    makers: dict[str, Callable[[], Composed]] = {name: getattr(composer, name) for name in MIX if name != "no_tool"}
    chat = _chat(split)
    rng, rows = composer.rng, list[Row]()
    while len(rows) < size:
        kind = str(rng.choice(list(MIX), p=list(MIX.values())))
        made = Composed(_fill_chat(str(rng.choice(chat)), rng), (), "no_tool") if kind == "no_tool" else makers[kind]()
        text = composer.dress(made.text)
        if text in seen_text or len(text) > 900:
            continue
        seen_text.add(text)
        rows.append(
            Row(
                id=f"{split}-{len(rows):04d}",
                instruction=text,
                steps=made.steps,
                needs_tool=bool(made.steps),
                kind=made.kind,
                explanation=explain(made, registry),
                split=split,
            )
        )
    return rows


def explain(made: Composed, registry: ToolRegistry) -> str:
    """One sentence about what will be done, in which order."""
    if not made.steps:
        return "No tool is needed; this can be answered directly."
    parts = [_verb_phrase(registry[s.tool].desc) for s in made.steps]
    if len(parts) == 1:
        return f"I will {parts[0]}."
    ordered = any(s.depends_on for s in made.steps)
    joined = ", then ".join(parts) if ordered else ", and ".join(parts)
    return f"I will {joined}."


def _verb_phrase(desc: str) -> str:
    """``Transcribe speech recordings to text with a large model.`` becomes ``transcribe speech recordings to text``."""
    text = desc.rstrip(".").split(" with a ")[0].split(" with the ")[0].split(" on the GPU")[0].split(" on CPU")[0]
    return text[0].lower() + text[1:]


def _chat(split: str) -> list[str]:
    lines = (Path(__file__).parent / "no_tool.txt").read_text(encoding="utf-8").splitlines()
    mark = ">" if split == "train" else "="
    return [line[1:].strip() for line in lines if line.startswith(mark)]


def _fill_chat(text: str, rng: np.random.Generator) -> str:
    first, second = (str(c) for c in rng.choice(CONCEPTS, 2, replace=False))
    return text.format(
        concept=first,
        concept2=second,
        word=rng.choice(WORDS),
        place_country=rng.choice(COUNTRIES),
        name=rng.choice(NAMES),
    )
