"""Requests for a world's tools in another language: ``WORLD.LANGUAGE.txt`` beside ``WORLD.txt``.

=========  ==================================================================================================
line       meaning
=========  ==================================================================================================
``tool``   the name of a tool of the world; its lines follow. Tools may be left out
``order``  a request in the imperative (Chinese: a verb phrase), small letters, no full stop
``ask``    a request in any other form; a tool needs at least one ``order`` or ``ask``
``then``   an imperative clause about the result of an earlier step; without one nothing leads to the tool
``plan``   a whole request with its steps, as in the world's own file
``#``      a comment
=========  ==================================================================================================

Names and descriptions stay as they are: registries are mostly English, whatever language their users speak.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tomas_router.datasets.tongues import LANGUAGES
from tomas_router.datasets.worlds.requests import tool_owners
from tomas_router.datasets.worlds.world import World, WorldTool, add_line, keyed_lines, parse_plan
from tomas_router.schema.findings import FindingLog, finish


def load_tongues(worlds: Sequence[World], folder: Path = Path(__file__).parent) -> dict[str, list[World]]:
    """By language, the given worlds as far as they are written in it.

    Every world returned holds only tools with lines in that language, and feeds only tools with a ``then``.

    Raises:
        DataValidationError: Lists every finding of every file, with its line.
    """
    known, owners = {world.name: world for world in worlds}, tool_owners(worlds)
    logs: list[FindingLog] = []
    spoken: dict[str, list[World]] = {language: [] for language in LANGUAGES}
    for path in sorted(folder.glob("*.*.txt")):
        name, _, language = path.stem.partition(".")
        log = FindingLog.of(path)
        logs.append(log)
        if language not in LANGUAGES:
            log.error(f"must be named WORLD.LANGUAGE.txt with a language of {', '.join(LANGUAGES)}", value=language)
        elif not (folder / f"{name}.txt").exists():
            log.error(f"must stand beside the world that it belongs to, {name}.txt", value=name)
        elif name in known:
            world = read_tongue(path, known[name], log)
            spoken[language].append(_connected(world, known[name], owners))
    finish(finding for log in logs for finding in log.findings)
    return {language: found for language, found in spoken.items() if any(world.tools for world in found)}


def read_tongue(path: Path, world: World, log: FindingLog) -> World:
    """One file as a world of its own, without feeds; everything that is wrong with it goes into ``log``."""
    spoken, tool = World(world.name), None
    for number, key, value in keyed_lines(path, log):
        if key == "tool":
            if value not in world.tools:
                log.error(f"must be a tool of {world.name}.txt", line=number, field=key, value=value)
            if value in spoken.tools:
                log.error("must be new in its file", line=number, field=key, value=value)
            tool = spoken.tools[value] = WorldTool(value, number)
        elif key == "plan":
            plan = parse_plan(value, number, world, log)
            if plan is not None:
                spoken.plans.append(plan)
        elif key in ("order", "ask", "then") and tool is not None:
            add_line(tool, key, value)
        else:
            log.error("must be tool, plan, or order, ask or then behind a tool", line=number, value=key)
    for tool in spoken.tools.values():
        if not tool.orders and not tool.asks:
            log.error("must have at least one line 'order' or 'ask'", line=tool.line, value=tool.name)
    return spoken


def _connected(spoken: World, world: World, owners: dict[str, str]) -> World:
    """Only tools that count for this world, with the feeds of the world between them."""
    tools = {name: tool for name, tool in spoken.tools.items() if owners.get(name) == world.name}
    for name, tool in tools.items():
        tool.feeds = [n for n in world.tools[name].feeds if n != name and n in tools and tools[n].thens]
    return World(world.name, tools, spoken.plans)
