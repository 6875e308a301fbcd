"""``[a|b|c]`` in a written request stands for one of its parts."""

from __future__ import annotations

import re

import numpy as np

from tomas_router.datasets.pick import pick

ALTERNATIVES = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


def draw_alternatives(text: str, rng: np.random.Generator) -> str:
    """The text with one part of each pair of brackets, drawn at random."""
    return ALTERNATIVES.sub(lambda match: pick(rng, match.group(1).split("|")), text)
