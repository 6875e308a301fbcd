"""Requests that need no tool: small talk, general knowledge, opinions, questions about how things work."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomas_router.datasets.entities import SLOT, Fillers, parse_fillers
from tomas_router.datasets.pick import pick

FOLDER = Path(__file__).parent


class NoToolRequests:
    """Draws requests; held-out lines and fillers serve validation and test."""

    def __init__(self) -> None:
        lines = (FOLDER / "no_tool.txt").read_text(encoding="utf-8").splitlines()
        self.seen = tuple(dict.fromkeys(line[1:].strip() for line in lines if line.startswith(">")))
        self.held_out = tuple(dict.fromkeys(line[1:].strip() for line in lines if line.startswith("=")))
        self.fillers: dict[str, Fillers] = {}
        for line in (FOLDER / "no_tool_fillers.txt").read_text(encoding="utf-8").splitlines():
            name, _, words = line.partition(":")
            self.fillers[name] = parse_fillers(words)

    def draw(self, rng: np.random.Generator, held_out: bool) -> str:
        """One request."""
        text = pick(rng, self.held_out if held_out else self.seen)
        first = ""
        while match := SLOT.search(text):
            slot = match.group(1)
            word = self.fillers[slot.rstrip("2")].draw(rng, held_out)
            while word == first:
                word = self.fillers[slot.rstrip("2")].draw(rng, held_out)
            first = word
            text = text[: match.start()] + word + text[match.end() :]
        return text
