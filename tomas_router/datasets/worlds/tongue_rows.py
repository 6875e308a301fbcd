"""Composes requests over worlds in other languages than English, each request within one language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tomas_router.datasets.alternatives import draw_alternatives
from tomas_router.datasets.composer import Composed
from tomas_router.datasets.rows import Row
from tomas_router.datasets.tongues import TongueTeller, load_words
from tomas_router.datasets.worlds.requests import MAX_DRAWS, ROWS, WorldComposer
from tomas_router.datasets.worlds.world import World

MIX: dict[str, float] = {
    "single": 0.36, "written": 0.13, "chain": 0.17, "parallel": 0.11, "repeated": 0.05, "fan_out": 0.05,
    "chain_and_other": 0.06, "no_tool": 0.07,
}  # fmt: skip
CHAINED = ("chain", "fan_out", "chain_and_other")
LANGUAGE_SHARES = {"de": 0.32, "es": 0.32, "zh": 0.27, "fr": 0.09}
TONGUE_SHARE = 0.18
"""Of all rows of worlds in training."""
TONGUE_ROWS = {"train": round(ROWS["train"] * TONGUE_SHARE / (1 - TONGUE_SHARE)), "test": 160}


def tongue_rows(spoken: Mapping[str, Sequence[World]], count: int, split: str, seed: int = 23) -> list[Row]:
    """About ``count`` rows over the worlds of each language (fewer where there is too little to say)."""
    shares = {language: LANGUAGE_SHARES[language] for language in spoken}
    rows: list[Row] = []
    for language, worlds in spoken.items():
        wanted = round(count * shares[language] / sum(shares.values()))
        rng = np.random.default_rng([seed, *language.encode(), *split.encode()])
        rows += _rows(language, [world for world in worlds if world.tools], wanted, split, rng)
    return rows


def _rows(language: str, worlds: Sequence[World], count: int, split: str, rng: np.random.Generator) -> list[Row]:
    draw = _Draw(worlds, TongueTeller(load_words(language), rng), rng, held_out=split != "train")
    told: set[str] = set()
    rows: list[Row] = []
    for _ in range(count):
        for _ in range(MAX_DRAWS):
            world = worlds[int(rng.integers(len(worlds)))]
            made = draw(world)
            text = draw.tell.dress(made.text)
            if text not in told:
                told.add(text)
                rows.append(Row(
                    id=f"{split}-{language}-{len(rows):05d}", instruction=text, steps=made.steps,
                    needs_tool=bool(made.steps), kind=made.kind, split=split, domain=world.name,
                    language=language,
                ))  # fmt: skip
                break
    return rows


class _Draw:
    """One request of a world, of a kind that the world has lines for."""

    def __init__(self, worlds: Sequence[World], tell: TongueTeller, rng: np.random.Generator, held_out: bool) -> None:
        self.tell, self.rng, self.held_out = tell, rng, held_out
        self.composer = WorldComposer(worlds, rng, tell)

    def __call__(self, world: World) -> Composed:
        kind = str(self.rng.choice(list(MIX), p=list(MIX.values())))
        if kind == "no_tool":
            return Composed(draw_alternatives(self.tell.chat(self.held_out), self.rng), (), "no_tool")
        if (kind == "written" and not world.plans) or (kind in CHAINED and not self.composer.roots[world.name]):
            kind = "single"
        make: Callable[[World], Composed] = getattr(self.composer, kind)
        return make(world)
