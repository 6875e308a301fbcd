"""Ways to guess what a tool without profile rows needs, from the rows of all other tools.

A guess is (5,): cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.network_guess import Guesses
from tomas_router.evaluation.resource_baselines import as_numbers, footprint
from tomas_router.evaluation.text_vectors import TfidfVectors, cosine
from tomas_router.features.tool_text import tool_text
from tomas_router.planner.margins import PredictionMargins, conformal_factor
from tomas_router.schema.profiling import InputSize, ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

Guess = NDArray[np.float64]
Key = tuple[str, InputSize]
Guesser = Callable[[str, InputSize], Guess]
QUANTILE_RULE = 0.9
COMPONENTS, FOLDS, TREES, SEED = 16, 5, 50, 0
ENOUGH = 1e-3
"""GiB; below it a ratio of memories says nothing."""


def other_rows(profiling: ProfilingTable, tool: str, size: InputSize) -> NDArray[np.float64]:
    """(R, 5) rows of every other tool at this size."""
    return np.array([as_numbers(r) for r in profiling.all_rows if r.tool != tool and r.input_size == size])


def mean_of_others(profiling: ProfilingTable) -> Guesser:
    return lambda tool, size: other_rows(profiling, tool, size).mean(axis=0)


def quantile_of_others(profiling: ProfilingTable) -> Guesser:
    """Each field at the upper quantile of all other tools: the rule of thumb without any text."""
    return lambda tool, size: np.quantile(other_rows(profiling, tool, size), QUANTILE_RULE, axis=0)


def nearest_by_text(
    profiling: ProfilingTable, registry: ToolRegistry, choose: Callable[[Sequence[ProfileRow]], Guess]
) -> Guesser:
    """``choose`` of the rows of the tool whose text is most alike (TF-IDF)."""
    texts = [tool_text(tool.name, tool.desc) for tool in registry.tools]
    vectors = TfidfVectors().fit(texts).rows(texts)
    likeness_NN = cosine(vectors, vectors)

    def guess(tool: str, size: InputSize) -> Guess:
        here = registry.index(tool)
        order = np.argsort(-likeness_NN[here], kind="stable").tolist()
        rows = next(r for o in order if o != here and (r := profiling.rows(registry.names[o], size)))
        return choose(rows)

    return guess


def mean_row(rows: Sequence[ProfileRow]) -> Guess:
    return np.asarray(np.mean([as_numbers(row) for row in rows], axis=0))


def largest_row(rows: Sequence[ProfileRow]) -> Guess:
    """The row of the largest footprint, for as long as the slowest row takes."""
    guess = as_numbers(max(rows, key=footprint))
    guess[4] = max(row.latency_ms for row in rows)
    return guess


def quantile_trees(profiling: ProfilingTable, registry: ToolRegistry) -> Guesser:
    """Gradient boosting on the quantile loss (scikit-learn), over text and size, in folds of whole tools."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [tool_text(tool.name, tool.desc) for tool in registry.tools]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts)
    text_ND = TruncatedSVD(min(COMPONENTS, len(texts) - 1), random_state=SEED).fit_transform(words)
    rows = profiling.all_rows
    size_of = {"small": 0.0, "medium": 1.0, "large": 2.0}
    x = np.array([[*text_ND[registry.index(r.tool)], size_of[r.input_size]] for r in rows])
    y = np.log1p([as_numbers(r) for r in rows])
    fold_of = {tool: i % FOLDS for i, tool in enumerate(profiling.tools)}
    fold_R = np.array([fold_of[r.tool] for r in rows])
    made: dict[int, list[HistGradientBoostingRegressor]] = {}

    def guess(tool: str, size: InputSize) -> Guess:
        fold = fold_of[tool]
        if fold not in made:
            made[fold] = [
                HistGradientBoostingRegressor(
                    loss="quantile", quantile=QUANTILE_RULE, max_iter=TREES, random_state=SEED
                ).fit(x[fold_R != fold], y[fold_R != fold, f])
                for f in range(5)
            ]
        asked = np.array([[*text_ND[registry.index(tool)], size_of[size]]])
        found = np.expm1([max(float(model.predict(asked)[0]), 0.0) for model in made[fold]])
        found[2] = min(found[2], 100.0)
        return np.asarray(found)

    return guess


# --- the network's prediction with room above it -----------------------------------------------------------------


def ratios(guesses: Guesses, profiling: ProfilingTable, tools: Sequence[str], field: int) -> list[float]:
    """True over predicted need in one field, each (tool, size) once; rows nearest to the predicted configuration."""
    found = []
    for (tool, size), guess in guesses.items():
        if tool not in tools:
            continue
        row = nearest_row(profiling.rows(tool, size), guess)
        true = as_numbers(row)[field]
        if field == 4 or (true > ENOUGH and guess[field] > ENOUGH):
            found.append(float(true / guess[field]))
    return found


def nearest_row(rows: Sequence[ProfileRow], guess: Guess) -> ProfileRow:
    """The row whose cores and share of a GPU are most like the guess."""
    return min(
        rows,
        key=lambda r: abs(np.log1p(r.cpu_core) - np.log1p(guess[0])) + abs(np.log1p(r.gpu_sm) - np.log1p(guess[2])),
    )


def margins_from(
    guesses: Guesses, profiling: ProfilingTable, tools: Sequence[str], memory_q: float, latency_q: float
) -> PredictionMargins:
    """Conformal margins over these tools; a field that none of them has gets none."""

    def factor(field: int, quantile: float) -> float:
        known = ratios(guesses, profiling, tools, field)
        return conformal_factor(known, quantile) if known else 1.0

    return PredictionMargins(factor(1, memory_q), factor(3, memory_q), factor(4, latency_q))
