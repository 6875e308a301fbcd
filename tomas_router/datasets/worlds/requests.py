"""Composes requests over worlds: seeded, as many as wanted, each with the plan it implies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from tomas_router.datasets.alternatives import draw_alternatives
from tomas_router.datasets.composer import Composed
from tomas_router.datasets.pick import pick
from tomas_router.datasets.rows import Row, Step
from tomas_router.datasets.telling import Asked, Teller
from tomas_router.datasets.wording import PURPOSE_SHARE, dress
from tomas_router.datasets.worlds.world import World, WorldTool
from tomas_router.schema.registry import ToolRegistry, ToolSpec

MIX: dict[str, float] = {
    "single": 0.36, "written": 0.18, "chain": 0.18, "parallel": 0.12, "repeated": 0.05, "fan_out": 0.05,
    "chain_and_other": 0.06,
}  # fmt: skip
ROWS = {"train": 36_000, "val": 300, "test": 400}
"""Requests by split; those of training are drawn anew for every run, the others are shipped."""
ORDER_SHARE = 0.4
OTHER_WORLD_SHARE = 0.3
HELD_OUT_SHARE = {"train": 0.0, "val": 0.5, "test": 1.0}
"""Share of held-out connecting words; tools and requests of held-out worlds are new in any case."""
NOUNS = ("the result", "the result", "that result", "what you get", "that", "the outcome")
MAX_DRAWS = 40


def world_registry(worlds: Sequence[World]) -> ToolRegistry:
    """The tools of all worlds; where two worlds use one name, the first keeps it."""
    specs = {
        tool.name: ToolSpec(name=tool.name, desc=tool.desc)
        for world in reversed(worlds)
        for tool in world.tools.values()
    }
    return ToolRegistry(specs.values())


def world_rows(worlds: Sequence[World], count: int, split: str, seed: int = 11) -> list[Row]:
    """``count`` rows (fewer where the worlds are too small for so many different ones); ``domain`` is the world."""
    rng = np.random.default_rng([seed, *split.encode()])
    composer = WorldComposer(worlds, rng, Teller(rng, lambda: bool(rng.random() < HELD_OUT_SHARE[split])))
    makers: dict[str, Callable[[World], Composed]] = {name: getattr(composer, name) for name in MIX}
    told: set[str] = set()
    rows: list[Row] = []
    for _ in range(count):
        for _ in range(MAX_DRAWS):
            world = worlds[int(rng.integers(len(worlds)))]
            made = makers[str(rng.choice(list(MIX), p=list(MIX.values())))](world)
            purposes = PURPOSE_SHARE if split == "train" else 0.0
            text = dress(made.text, rng, bool(rng.random() < HELD_OUT_SHARE[split]), purposes)
            if text not in told:
                told.add(text)
                rows.append(_row(f"{split}-{len(rows):05d}", text, made, split, world))
                break
    return rows


class Telling(Protocol):
    """Says several things at once, in one language."""

    def sentence(self, text: str) -> str: ...
    def chain(self, asked: Asked, clauses: Sequence[str]) -> str: ...
    def parallel(self, asked: Sequence[Asked]) -> str: ...
    def branches(self, asked: str, noun: str, clauses: Sequence[str], /) -> str: ...
    def polite(self, asked: Asked) -> str: ...
    def then(self, clause: str) -> str: ...
    def also(self, asked: Asked) -> str: ...


def tool_owners(worlds: Sequence[World]) -> dict[str, str]:
    """By tool name, the world it counts for: the first that has it."""
    owners: dict[str, str] = {}
    for world in worlds:
        for name in world.tools:
            owners.setdefault(name, world.name)
    return owners


class WorldComposer:
    """Draws requests of one world; unrelated jobs may come from another."""

    def __init__(self, worlds: Sequence[World], rng: np.random.Generator, tell: Telling) -> None:
        self.rng, self.tell = rng, tell
        owners = tool_owners(worlds)
        self.tools = {w.name: [t for t in w.tools.values() if owners[t.name] == w.name] for w in worlds}
        self.roots = {w.name: [t for t in self.tools[w.name] if len(self._followers(w, t)) > 0] for w in worlds}
        self.worlds = list(worlds)

    def single(self, world: World) -> Composed:
        """One call."""
        tool = self._any(world)
        return Composed(self.tell.polite(self._asked(tool)), (Step(tool.name),), "single")

    def written(self, world: World) -> Composed:
        """A whole request as its author wrote it."""
        plan = world.plans[int(self.rng.integers(len(world.plans)))]
        return Composed(self._filled(plan.text), plan.steps, "written")

    def chain(self, world: World) -> Composed:
        """Two to four calls, each working on what the one before produced."""
        tool = self._root(world)
        path = [tool]
        for _ in range(int(self.rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1)))):
            options = [t for t in self._followers(world, path[-1]) if t not in path]
            if not options:
                break
            path.append(options[int(self.rng.integers(len(options)))])
        text = self.tell.chain(self._asked(tool), [self._then(t) for t in path[1:]])
        steps = tuple(Step(t.name, (i - 1,) if i else ()) for i, t in enumerate(path))
        return Composed(text, steps, "chain")

    def parallel(self, world: World) -> Composed:
        """Two to four calls that have nothing to do with each other."""
        count = int(self.rng.choice((2, 3, 4), p=(0.58, 0.3, 0.12)))
        drawn = [self._any(world), *(self._any(self._maybe_other(world)) for _ in range(count - 1))]
        tools = list({tool.name: tool for tool in drawn}.values())
        if len(tools) == 1:
            return self.single(world)
        return Composed(
            self.tell.parallel([self._asked(t) for t in tools]), tuple(Step(t.name) for t in tools), "parallel"
        )

    def repeated(self, world: World) -> Composed:
        """One tool asked for twice, on different inputs."""
        tool = self._any(world)
        first, second = self._asked(tool), self._asked(tool)
        if first.text == second.text:
            return Composed(first.text, (Step(tool.name),), "single")
        return Composed(self.tell.parallel([first, second]), (Step(tool.name), Step(tool.name)), "parallel")

    def fan_out(self, world: World) -> Composed:
        """One result used two or three times."""
        root = self._root(world)
        options = self._followers(world, root)
        if len(options) < 2:
            return self.chain(world)
        count = 3 if len(options) >= 3 and self.rng.random() < 0.25 else 2
        branches = [options[int(i)] for i in self.rng.permutation(len(options))[:count]]
        text = self.tell.branches(self._asked(root).text, pick(self.rng, NOUNS), [self._then(t) for t in branches])
        return Composed(text, (Step(root.name), *(Step(t.name, (0,)) for t in branches)), "dag")

    def chain_and_other(self, world: World) -> Composed:
        """A chain of two beside an unrelated call, in either order."""
        root = self._root(world)
        options = self._followers(world, root)
        follow, other = options[int(self.rng.integers(len(options)))], self._any(self._maybe_other(world))
        asked, unrelated, clause = self._asked(root), self._asked(other), self.tell.then(self._then(follow))
        if self.rng.random() < 0.5:
            steps = (Step(root.name), Step(follow.name, (0,)), Step(other.name))
            return Composed(f"{asked.text} {clause} {self.tell.also(unrelated)}", steps, "dag")
        steps = (Step(other.name), Step(root.name), Step(follow.name, (1,)))
        return Composed(f"{unrelated.text} {self.tell.also(asked)} {clause}", steps, "dag")

    def _asked(self, tool: WorldTool) -> Asked:
        if (self.rng.random() < ORDER_SHARE or not tool.asks) and tool.orders:
            order = self._filled(pick(self.rng, tool.orders))
            return Asked(self.tell.sentence(order), order)
        return Asked(self.tell.sentence(self._filled(pick(self.rng, tool.asks))))

    def _then(self, tool: WorldTool) -> str:
        return self._filled(pick(self.rng, tool.thens))

    def _filled(self, text: str) -> str:
        return draw_alternatives(text, self.rng)

    def _any(self, world: World) -> WorldTool:
        tools = self.tools[world.name]
        return tools[int(self.rng.integers(len(tools)))]

    def _root(self, world: World) -> WorldTool:
        tools = self.roots[world.name]
        return tools[int(self.rng.integers(len(tools)))]

    def _followers(self, world: World, tool: WorldTool) -> list[WorldTool]:
        known = {t.name for t in self.tools[world.name]}
        return [world.tools[name] for name in tool.feeds if name in known and name != tool.name]

    def _maybe_other(self, world: World) -> World:
        if self.rng.random() >= OTHER_WORLD_SHARE:
            return world
        return self.worlds[int(self.rng.integers(len(self.worlds)))]


def _row(row_id: str, text: str, made: Composed, split: str, world: World) -> Row:
    return Row(
        id=row_id, instruction=text, steps=made.steps, kind=made.kind, split=split, domain=world.name,
    )  # fmt: skip
