"""Registries that the model never met in training, taken together: what leave-registry-out means for a given model."""

from __future__ import annotations

from collections.abc import Sequence

from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.report import Methods, SourceReport, cells
from tomas_router.evaluation.scores import Tallies

POOLED = ("node_f1", "exact", "link_f1", "edge_f1", "top1")


def pooled(sources: Sequence[SourceReport], seed: int) -> Methods:
    """Plan measures over all rows of the sources; only methods that answered all of them."""
    if not sources:
        return {}
    shared = [name for name in sources[0].tallies if all(name in source.tallies for source in sources)]
    return {name: cells(_joined([source.tallies[name] for source in sources]), seed) for name in shared}


def _joined(parts: Sequence[Tallies]) -> Tallies:
    found: Tallies = {}
    for i, tallies in enumerate(parts):
        for measure in POOLED:
            if measure in tallies:
                part, whole = tallies[measure], found.setdefault(measure, Tally.empty())
                whole.rows += [f"{i} {row}" for row in part.rows]
                whole.totals += part.totals
                whole.weights += part.weights
    return found
