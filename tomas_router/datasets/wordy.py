"""Says one request in many words: what leads up to it, a roundabout way of asking, what it is good for.

A model that has only met terse requests takes every sentence of a long one for a job of its own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from tomas_router.datasets.pick import pick
from tomas_router.datasets.wording import command, sentence

LEAD_SHARE, TAIL_SHARE = 0.8, 0.4


@cache
def wordy_parts() -> dict[str, tuple[str, ...]]:
    """``lead``, ``ask`` and ``tail``, as written in ``wordy.txt``."""
    parts: dict[str, list[str]] = {}
    lines = (Path(__file__).parent / "wordy.txt").read_text(encoding="utf-8").splitlines()
    for line in (text for text in lines if text and not text.startswith("#")):
        if line.islower() and " " not in line:
            parts[line] = current = []
        else:
            current.append(line)
    return {name: tuple(texts) for name, texts in parts.items()}


def wordy(text: str, rng: np.random.Generator) -> str:
    """The request with the same jobs in it and more words around them."""
    parts, clause = wordy_parts(), command(text)
    said = [pick(rng, parts["lead"])] if rng.random() < LEAD_SHARE else []
    said.append(pick(rng, parts["ask"]).format(a=clause) if clause else sentence(text))
    if rng.random() < TAIL_SHARE:
        said.append(pick(rng, parts["tail"]))
    return " ".join(said)
