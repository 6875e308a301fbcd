"""What a plan says about tools and order, without resources: the thing that plan metrics compare."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

Edge = tuple[tuple[str, int], tuple[str, int]]


@dataclass(frozen=True)
class PlanShape:
    """Tools in call order and, for each, the indices of the earlier steps that it needs."""

    tools: tuple[str, ...]
    depends_on: tuple[tuple[int, ...], ...]

    @classmethod
    def chain(cls, tools: tuple[str, ...]) -> PlanShape:
        """Each step needs the one before it."""
        return cls(tools, tuple((k - 1,) if k else () for k in range(len(tools))))

    def links(self) -> tuple[tuple[str, str], ...]:
        """Edges as (tool, tool) pairs: the form in which published tables score them."""
        return tuple((self.tools[d], self.tools[k]) for k, needs in enumerate(self.depends_on) for d in needs)

    def edges(self) -> frozenset[Edge]:
        """Edges between occurrences, so that two calls of one tool stay apart: ((tool, nth call), (tool, nth call))."""
        seen: Counter[str] = Counter()
        nodes: list[tuple[str, int]] = []
        for tool in self.tools:
            nodes.append((tool, seen[tool]))
            seen[tool] += 1
        return frozenset((nodes[d], nodes[k]) for k, needs in enumerate(self.depends_on) for d in needs)


NO_PLAN = PlanShape((), ())
