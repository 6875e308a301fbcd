"""Scores of one row, as pure functions; ``intervals`` turns rows into a table cell.

Node F1, link F1 and exact follow the evaluation code of GNN4TaskPlan (arXiv 2405.19119), so that a number stands
rightly beside their tables, with one difference that can only lower ours: every row counts, and one without a usable
prediction scores 0. Their code divides by the length of the *lists*, so a tool that is used twice costs points even
where the plan is right; ``published_f1`` keeps that, ``set_f1`` does not. Both are reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence

from tomas_router.evaluation.plan_shape import PlanShape

EXACT_F1 = 0.99  # their threshold; it absorbs the 1e-9 of the formula


def published_f1(predicted: Sequence[Hashable], gold: Sequence[Hashable]) -> float:
    """F1 as GNN4TaskPlan computes it: shared distinct items over the lengths of both lists; 0 if either is empty."""
    if not predicted or not gold:
        return 0.0
    shared = len(set(predicted) & set(gold))
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall + 1e-9)


def set_f1(predicted: Collection[Hashable], gold: Collection[Hashable]) -> float:
    """``published_f1`` over distinct items: repeats neither help nor hurt."""
    return published_f1(tuple(set(predicted)), tuple(set(gold)))


def micro_f1(predicted: Collection[Hashable], gold: Collection[Hashable]) -> tuple[int, int]:
    """Numerator and denominator of one row's part in F1 over all rows, as TaskBench computes it (arXiv 2311.18760).

    Distinct items of every row are pooled before the ratio is taken, so a row with many items weighs more, and a row
    without links still counts the links that were made up for it. Both are 0 for a row that says and wants nothing.
    """
    said, wanted = set(predicted), set(gold)
    return 2 * len(said & wanted), len(said) + len(wanted)


def is_exact(node_f1: float) -> float:
    """1.0 where every tool and no other was named."""
    return float(node_f1 >= EXACT_F1)


def edge_f1(predicted: PlanShape, gold: PlanShape) -> float:
    """F1 of the dependency graph; a plan that rightly has no dependencies scores 1.

    Links of the published tables are blind to both: rows without links are left out there, and two calls of one
    tool are one node.
    """
    found, wanted = predicted.edges(), gold.edges()
    if not found and not wanted:
        return float(bool(predicted.tools))
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def same_tools(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """1.0 if both name the same tools equally often, in whatever order."""
    return float(Counter(predicted) == Counter(gold))


def first_tool(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """1.0 if the first tool is right."""
    return float(bool(predicted) and predicted[0] == gold[0])


def matched_steps(
    predicted: Sequence[str], gold: Sequence[str], alike: Callable[[int, str], bool] | None = None
) -> int:
    """How many gold steps found a predicted step of their own; order does not matter.

    Args:
        predicted: Tools of the plan.
        gold: Tools that were expected.
        alike: ``(gold step, tool)`` -> whether another tool does the same job there. Equal names are paired first.
    """
    left = Counter(predicted)
    unmatched: list[int] = []
    for k, tool in enumerate(gold):
        if left[tool]:
            left[tool] -= 1
        else:
            unmatched.append(k)
    matched = len(gold) - len(unmatched)
    if alike is None:
        return matched
    for k in unmatched:
        twin = next((tool for tool in +left if alike(k, tool)), None)
        if twin is not None:
            left[twin] -= 1
            matched += 1
    return matched


def aligned_steps(predicted: Sequence[str], gold: Sequence[str]) -> list[tuple[int, int]]:
    """(predicted step, gold step) pairs with the same tool, each step at most once, earliest first."""
    free = list(range(len(predicted)))
    pairs: list[tuple[int, int]] = []
    for k, tool in enumerate(gold):
        hit = next((p for p in free if predicted[p] == tool), None)
        if hit is not None:
            free.remove(hit)
            pairs.append((hit, k))
    return pairs


def absolute_percentage_error(predicted: float, actual: float) -> float | None:
    """|error| as a share of the true value; None where the true value is 0 and a share has no meaning."""
    return abs(predicted - actual) / abs(actual) if actual else None
