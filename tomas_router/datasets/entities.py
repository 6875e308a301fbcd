"""What fills the slots of phrasings, and which size bucket the wording implies.

A sized slot draws a bucket first, then words that imply it (``entities.txt``); plain slots imply none
(``entities_plain.txt``). Part of every list is held out: training never shows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tomas_router.datasets.alternatives import draw_alternatives
from tomas_router.datasets.pick import pick

SLOT = re.compile(r"\{(\w+)\}")
PREPOSITION = re.compile(r"\b(in|of|from|with|at|on|over|about|for|to|into|through|within|than) $", re.IGNORECASE)
BUCKETS = ("small", "medium", "large")
BUCKET_SHARES = (0.32, 0.4, 0.28)
NEW_FILLER_SHARE = 0.75
"""Share of held-out fillers where held-out wording is wanted."""

SINGULAR = ("is", "was", "has", "needs", "sounds", "exists", "contains", "holds", "looks", "says", "does", "takes",
            "shows", "refuses", "stutters", "crackles", "reads")  # fmt: skip
PLURAL = ("are", "were", "have", "need", "sound", "exist", "contain", "hold", "look", "say", "do", "take",
          "show", "refuse", "stutter", "crackle", "read")  # fmt: skip
INVERTING = {"is": "are", "was": "were", "has": "have", "does": "do"}


@dataclass(frozen=True)
class Fillers:
    """What training may use and what it may not."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...]

    def draw(self, rng: np.random.Generator, held_out: bool) -> str:
        new = held_out and self.held_out and rng.random() < NEW_FILLER_SHARE
        return pick(rng, self.held_out if new else self.seen)


@dataclass(frozen=True)
class Filled:
    """A phrasing without slots, and the size bucket its words imply (None = they imply nothing)."""

    text: str
    size: str | None


@cache
def sized_slots() -> dict[str, dict[str, Fillers]]:
    """Fillers by slot and bucket."""
    slots: dict[str, dict[str, Fillers]] = {}
    bucket_of = {name[0]: name for name in BUCKETS}
    name = ""
    for line in _lines("entities.txt"):
        head, colon, rest = line.partition(":")
        if colon:
            slots[name][bucket_of[head]] = parse_fillers(rest)
        else:
            name = line
            slots[name] = {}
    return slots


@cache
def plain_slots() -> dict[str, Fillers]:
    """Fillers by slot."""
    return {line.partition(":")[0]: parse_fillers(line.partition(":")[2]) for line in _lines("entities_plain.txt")}


def draw_bucket(rng: np.random.Generator) -> str:
    """A size bucket."""
    return str(rng.choice(BUCKETS, p=BUCKET_SHARES))


def fill(template: str, rng: np.random.Generator, held_out: bool, size: str | None = None) -> Filled:
    """Fills every slot; all sized slots of a phrasing share one bucket, drawn unless given."""
    is_sized = any(name in sized_slots() for name in SLOT.findall(template))
    bucket = (size or draw_bucket(rng)) if is_sized else None
    text = template
    used: set[str] = set()
    while match := SLOT.search(text):
        slot = match.group(1)
        fillers = sized_slots()[slot][bucket] if bucket and slot in sized_slots() else plain_slots()[slot]
        words = fillers.draw(rng, held_out)
        for _ in range(5):
            if words not in used:
                break
            words = fillers.draw(rng, held_out)
        used.add(words)
        before, after = text[: match.start()], text[match.end() :]
        if slot in sized_slots():
            is_plural = words.startswith("~")
            words = words.removeprefix("~")
            before, after = _agree(before, after, is_plural)
        text = before + draw_alternatives(words, rng) + after
    return Filled(text, bucket)


def _agree(before: str, after: str, is_plural: bool) -> tuple[str, str]:
    """Lets the verb right after or right before the slot agree with the filler."""
    if PREPOSITION.search(before):
        return before, after
    pairs = dict(zip(SINGULAR, PLURAL, strict=True)) if is_plural else dict(zip(PLURAL, SINGULAR, strict=True))
    inverting = INVERTING if is_plural else {v: k for k, v in INVERTING.items()}
    verb = re.match(r" (\w+)\b", after)
    if verb and verb.group(1) in pairs:
        after = f" {pairs[verb.group(1)]}{after[verb.end() :]}"
    asked = re.search(r"(?:^|(?<=[\s]))(\w+) $", before)
    if asked and asked.group(1).lower() in inverting:
        word = inverting[asked.group(1).lower()]
        word = word.capitalize() if asked.group(1)[0].isupper() else word
        before = before[: asked.start(1)] + word + " "
    return before, after


def _lines(name: str) -> list[str]:
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def parse_fillers(text: str) -> Fillers:
    """Reads ``seen; seen || held out; held out``."""
    seen, _, held_out = text.partition("||")
    return Fillers(_parts(seen), _parts(held_out))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())
