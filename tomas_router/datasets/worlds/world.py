"""The format of a world: the tools of one domain and how people ask for them, a text file beside this module.

=========  ================================================================================================
line       meaning
=========  ================================================================================================
``tool``   begins a tool: its name
``desc``   what the registry says about it
``feeds``  tools of the same world that can work on its result, separated by commas; optional
``order``  a request in the imperative, small letters, no full stop, complete by itself (at least three)
``ask``    a request in any other form: a question, a need, a problem, several sentences (at least four)
``then``   an imperative clause about the result of an earlier step (at least two)
``plan``   a whole request, ``=>``, its steps in call order, separated by ``;``. ``(0, 1)`` behind a step are the
           earlier steps, counted from 0, whose results it uses
``#``      a comment
=========  ================================================================================================

``[a|b|c]`` anywhere in a request stands for one of its parts, drawn at random. Example::

    tool find_flights
    desc Searches scheduled flights between two airports and lists fares.
    feeds hold_fare
    order find flights from [Lisbon to Oslo|Quito to Lima] on [3 May|Friday]
    ask My sister marries in [Cancun|Krakow], how do I get there for under 400 euros?
    then look up flights that get there in time
    plan Get me from Lisbon to Oslo on 3 May and hold the cheapest seat. => find_flights; hold_fare(0)

Whole worlds are held out: training sees neither the tools nor the requests of ``VAL_WORLDS`` and ``TEST_WORLDS``.
Requests in other languages stand in files of their own (``tongues``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tomas_router.datasets.rows import Step
from tomas_router.schema.findings import FindingLog, finish
from tomas_router.schema.text_file import read_lines

VAL_WORLDS = ("events", "music")
TEST_WORLDS = ("logistics", "sports")
LEAST = {"order": 3, "ask": 4, "then": 2}
STEP = re.compile(r"(.+?)\s*(?:\(([\d,\s]*)\))?")


@dataclass
class WorldTool:
    """One tool and how people ask for it."""

    name: str
    line: int
    desc: str = ""
    feeds: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    thens: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class WorldPlan:
    """A whole request as written, with its steps."""

    text: str
    steps: tuple[Step, ...]


@dataclass
class World:
    """The tools of one domain by name, in the file's order, and whole requests."""

    name: str
    tools: dict[str, WorldTool] = field(default_factory=dict)
    plans: list[WorldPlan] = field(default_factory=list)


def load_worlds(split: str, folder: Path = Path(__file__).parent) -> list[World]:
    """The worlds of a split: ``train``, ``val`` or ``test``.

    Raises:
        DataValidationError: Lists every finding of every file, with its line.
        ValueError: There is no such split.
    """
    held_out = {"val": VAL_WORLDS, "test": TEST_WORLDS}
    if split not in ("train", *held_out):
        raise ValueError(f"split must be train, val or test, got {split!r}")
    paths = [path for path in sorted(folder.glob("*.txt")) if "." not in path.stem]
    if split == "train":
        paths = [p for p in paths if p.stem not in (*VAL_WORLDS, *TEST_WORLDS)]
    else:
        paths = [p for p in paths if p.stem in held_out[split]]
    logs = [FindingLog.of(path) for path in paths]
    worlds = [read_world(path, log) for path, log in zip(paths, logs, strict=True)]
    finish(finding for log in logs for finding in log.findings)
    return worlds


def read_world(path: Path, log: FindingLog) -> World:
    """One file; everything that is wrong with it goes into ``log``."""
    world, tool = World(path.stem), None
    plans: list[tuple[int, str]] = []
    for number, key, value in keyed_lines(path, log):
        if key == "tool":
            if value in world.tools:
                log.error("must be new in its world", line=number, field=key, value=value)
            tool = world.tools[value] = WorldTool(value, number)
        elif key == "plan":
            plans.append((number, value))
        elif key in ("desc", "feeds", "order", "ask", "then") and tool is not None:
            add_line(tool, key, value)
        else:
            log.error("must be a keyword of the format, behind a tool", line=number, value=key)
    world.plans = [plan for number, text in plans if (plan := parse_plan(text, number, world, log))]
    _check(world, log)
    return world


def keyed_lines(path: Path, log: FindingLog) -> Iterator[tuple[int, str, str]]:
    """(number, keyword, rest) of every line that is no comment; square brackets must hold alternatives."""
    for number, line in read_lines(path, log):
        key, _, value = line.strip().partition(" ")
        if not key.startswith("#"):
            _check_brackets(key, value.strip(), number, log)
            yield number, key, value.strip()


def _check_brackets(key: str, value: str, number: int, log: FindingLog) -> None:
    if any("|" not in part for part in re.findall(r"\[([^\[\]]*)\]", value)):
        log.error("must hold alternatives like [a|b] or no square brackets", line=number, field=key, value=value)


def add_line(tool: WorldTool, key: str, value: str) -> None:
    """One line of a tool other than its name."""
    if key == "desc":
        tool.desc = value
    elif key == "feeds":
        tool.feeds = [name.strip() for name in value.split(",") if name.strip()]
    else:
        {"order": tool.orders, "ask": tool.asks, "then": tool.thens}[key].append(value)


def parse_plan(text: str, number: int, world: World, log: FindingLog) -> WorldPlan | None:
    """A request and its steps, which must be tools of the world; None after a finding."""
    request, arrow, listed = text.rpartition("=>")
    if not arrow:
        log.error("must have '=>' between request and steps", line=number, field="plan")
        return None
    steps: list[Step] = []
    for index, part in enumerate(listed.split(";")):
        match = STEP.fullmatch(part.strip())
        if not match or match.group(1) not in world.tools:
            log.error("must be a tool of this world", line=number, field=f"step {index}", value=part.strip())
            return None
        depends = tuple(int(d) for d in re.findall(r"\d+", match.group(2) or ""))
        if any(d >= index for d in depends):
            log.error("must use earlier steps only", line=number, field=f"step {index}", value=part.strip())
            return None
        steps.append(Step(match.group(1), depends))
    return WorldPlan(request.strip(), tuple(steps))


def _check(world: World, log: FindingLog) -> None:
    for tool in world.tools.values():
        if not tool.desc:
            log.error("must have a desc", line=tool.line, value=tool.name)
        for key, lines in (("order", tool.orders), ("ask", tool.asks), ("then", tool.thens)):
            if len(lines) < LEAST[key]:
                log.error(f"must have at least {LEAST[key]} lines {key!r}", line=tool.line, value=tool.name)
        for name in tool.feeds:
            if name not in world.tools:
                log.error("must name tools of this world", line=tool.line, field="feeds", value=name)
