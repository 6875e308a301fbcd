"""Generates the shipped instructions: seeded, hand-written phrasings composed into requests with their plans.

Training uses the wordings marked for it; validation mixes both, and test uses held-out wordings only, mostly with other
fillers, and with tools that training never shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np

from tomas_router.datasets.composer import Composed, Composer
from tomas_router.datasets.explanations import explain
from tomas_router.datasets.no_tool import NoToolRequests
from tomas_router.datasets.phrasings import ToolPhrases, load_bank
from tomas_router.datasets.rows import Row
from tomas_router.datasets.wording import PURPOSE_SHARE, dress
from tomas_router.schema.registry import ToolRegistry

SIZES = {"train": 2600, "val": 300, "test": 400}
HELD_OUT_SHARE = {"train": 0.0, "val": 0.5, "test": 1.0}
MIX: dict[str, float] = {
    "single": 0.27, "chain": 0.31, "parallel": 0.1, "repeated": 0.04, "fan_out": 0.08, "fan_in": 0.07,
    "chain_and_other": 0.04, "no_tool": 0.09,
}  # fmt: skip
MAX_CHARACTERS = 700


def generate(registry: ToolRegistry, seed: int = 7) -> dict[str, list[Row]]:
    """Rows by split; no instruction occurs twice.

    Test rows are drawn first: however the training wording grows, they stay what they are.
    """
    bank = load_bank()
    check_coverage(registry, bank)
    told: set[str] = set()
    splits: dict[str, list[Row]] = {}
    for number, (split, size) in reversed([*enumerate(SIZES.items())]):
        rng = np.random.default_rng([seed, number])
        units = [unit for unit in bank.values() if split != "train" or not unit.unseen]
        composer = Composer(registry, units, rng, HELD_OUT_SHARE[split])
        splits[split] = _split(split, size, registry, composer, told)
    return {split: splits[split] for split in SIZES}


def more_training_rows(registry: ToolRegistry, count: int, seed: int = 1007) -> list[Row]:
    """Further rows in training wording, made when they are needed and never shipped."""
    bank = load_bank()
    composer = Composer(registry, [u for u in bank.values() if not u.unseen], np.random.default_rng(seed), 0.0)
    return _split("train", count, registry, composer, set())


def unseen_tools(bank: dict[str, ToolPhrases]) -> list[str]:
    """Tools that no training row uses."""
    return [unit.name for unit in bank.values() if unit.unseen]


def check_coverage(registry: ToolRegistry, bank: dict[str, ToolPhrases]) -> None:
    """Every tool must have phrasings of its own or of its group.

    Raises:
        ValueError: Lists tools without phrasings and units without tools.
    """
    known = {tool.name for tool in registry if not tool.group} | {tool.group for tool in registry if tool.group}
    missing, unknown = sorted(known - set(bank)), sorted(set(bank) - known)
    if missing or unknown:
        raise ValueError(f"tools without phrasings: {missing}; phrasings without tools: {unknown}")


def normalised(text: str) -> str:
    """Letters and digits only, for telling duplicates."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def _split(split: str, size: int, registry: ToolRegistry, composer: Composer, told: set[str]) -> list[Row]:
    rng, rows = composer.rng, list[Row]()
    held_out = HELD_OUT_SHARE[split]
    chat = NoToolRequests()
    makers: dict[str, Callable[[], Composed]] = {name: getattr(composer, name) for name in MIX if name != "no_tool"}
    makers["no_tool"] = lambda: Composed(chat.draw(rng, bool(rng.random() < held_out)), (), "no_tool")
    first = _coverage(composer, everything=split == "train")
    while len(rows) < size:
        kind = str(rng.choice(list(MIX), p=list(MIX.values())))
        made = first.pop()() if first else makers[kind]()
        text = dress(made.text, rng, bool(rng.random() < held_out), PURPOSE_SHARE if split == "train" else 0.0)
        if normalised(text) in told or len(text) > MAX_CHARACTERS:
            continue
        told.add(normalised(text))
        rows.append(_row(split, text, made, registry))
    order = rng.permutation(len(rows))
    return [_numbered(rows[int(i)], split, number) for number, i in enumerate(order)]


def _coverage(composer: Composer, everything: bool) -> list[Callable[[], Composed]]:
    """What has to occur whatever is drawn: unseen tools; in training every unit and every member of every group."""
    wanted = [unit for unit in composer.units.values() if everything or unit.unseen]
    makers: list[Callable[[], Composed]] = [partial(composer.single, unit.name) for unit in wanted]
    groups = [unit.name for unit in wanted if unit.is_group]
    return makers + [
        partial(composer.pinned, name, device) for name in groups for device in ("gpu", "cpu", "gpu", "cpu")
    ]


def _row(split: str, text: str, made: Composed, registry: ToolRegistry) -> Row:
    return Row(
        id="", instruction=text, steps=made.steps, needs_tool=bool(made.steps), kind=made.kind,
        explanation=explain(made.steps, registry), split=split,
    )  # fmt: skip


def _numbered(row: Row, split: str, number: int) -> Row:
    return Row(
        id=f"{split}-{number:04d}", instruction=row.instruction, steps=row.steps, needs_tool=row.needs_tool,
        kind=row.kind, explanation=row.explanation, split=split,
    )  # fmt: skip
