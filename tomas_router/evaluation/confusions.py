"""Which tools are taken for which: pairs by frequency, and a small table of the tools that are most involved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tomas_router.evaluation.metrics import aligned_steps

NOTHING = ""
"""Stands for a step that is missing, or for one too many."""
MAX_PAIRS = 15
MAX_TOOLS = 12

Pair = tuple[str, str]  # wanted, said


@dataclass(frozen=True)
class Confusion:
    """One tool named in place of another."""

    wanted: str
    said: str
    times: int
    of: int  # steps that wanted the tool


@dataclass(frozen=True)
class Confusions:
    """The worst of them."""

    pairs: tuple[Confusion, ...]
    tools: tuple[str, ...]  # of the heat map
    counts: tuple[tuple[int, ...], ...]  # wanted down, said across


def step_pairs(said: Sequence[str], wanted: Sequence[str]) -> list[Pair]:
    """What was said for each wanted step: the tool itself where it was named, else the next one left over.

    A step without partner is paired with ``NOTHING``, on either side.
    """
    aligned = aligned_steps(said, wanted)
    pairs = [(wanted[g], said[p]) for p, g in aligned]
    hit, found = {g for _, g in aligned}, {p for p, _ in aligned}
    missed = [tool for g, tool in enumerate(wanted) if g not in hit]
    extra = [tool for p, tool in enumerate(said) if p not in found]
    return pairs + list(zip_longest(missed, extra, fillvalue=NOTHING))


def confusions(pairs: Sequence[Pair]) -> Confusions | None:
    """The most frequent pairs of two different tools; None where nothing was confused."""
    counted = Counter(pairs)
    wrong = {pair: n for pair, n in counted.items() if pair[0] != pair[1] and NOTHING not in pair}
    if not wrong:
        return None
    of = Counter(wanted for wanted, _ in pairs)
    ranked = sorted(wrong, key=lambda pair: (-wrong[pair], -wrong[pair] / of[pair[0]], pair))
    worst = tuple(Confusion(w, s, wrong[w, s], of[w]) for w, s in ranked[:MAX_PAIRS])
    tools = tuple(dict.fromkeys(tool for pair in ranked for tool in pair))[:MAX_TOOLS]
    return Confusions(worst, tools, tuple(tuple(counted[w, s] for s in tools) for w in tools))
