"""Composes requests from phrasings: single, chain, parallel, DAG, repeated tool, with the plan each implies."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tomas_router.datasets import connectives as words
from tomas_router.datasets.entities import SLOT, draw_bucket, fill, sized_slots
from tomas_router.datasets.flow import followers, result_kind, result_size, step_size, unit_tool
from tomas_router.datasets.phrasings import ToolPhrases
from tomas_router.datasets.pick import pick
from tomas_router.datasets.rows import Step
from tomas_router.datasets.telling import Asked, Teller
from tomas_router.datasets.wording import command, name_result, result_nouns, sentence
from tomas_router.schema.registry import ToolRegistry

PINNED_SHARE = 0.16
"""Share of single requests for a twin group whose wording names one of its tools."""
NOUN_SHARE = 0.4


@dataclass(frozen=True)
class Composed:
    """A request and its plan."""

    text: str
    steps: tuple[Step, ...]
    kind: str


@dataclass(frozen=True)
class Part:
    """One step in words: ``unit`` says what it is, ``out_size`` how large its result is."""

    text: str
    step: Step
    unit: str
    out_size: str


class Composer:
    """Draws requests from a set of units, in training wording or in held-out wording."""

    def __init__(
        self, registry: ToolRegistry, units: list[ToolPhrases], rng: np.random.Generator, held_out_share: float
    ) -> None:
        self.registry, self.rng, self.held_out_share = registry, rng, held_out_share
        self.tell = Teller(rng, self._held)
        self.units = {unit.name: unit for unit in units}
        self.followers = {
            name: [f for f in followers(registry, name) if f in self.units and self._has_followups(f)]
            for name in self.units
        }

    # ---- kinds ------------------------------------------------------------------------------------------------

    def single(self, unit: str | None = None) -> Composed:
        """One call; a twin group is sometimes pinned to one of its tools by the wording."""
        part = self.ask(unit or self.any_unit())
        text, step = self.tell.polite(_asked(part.text)), part.step
        if step.group and self.rng.random() < PINNED_SHARE:
            text, step = self._pinned(text, step)
        return Composed(text, (step,), "single")

    def pinned(self, unit: str, device: str) -> Composed:
        """One call whose wording names the member of a twin group that runs on a device, ``gpu`` or ``cpu``."""
        part = self.ask(unit)
        text, step = self._pinned(self.tell.polite(_asked(part.text)), part.step, device)
        return Composed(text, (step,), "single")

    def chain(self) -> Composed:
        """Two to five calls, each working on what the one before produced."""
        path = self._path(int(self.rng.choice((2, 3, 4, 5), p=(0.46, 0.32, 0.14, 0.08))))
        parts = [self.ask(path[0])]
        for index, unit in enumerate(path[1:]):
            parts.append(self.followup(unit, parts[-1], (index,)))
        steps = [part.step for part in parts]
        asked = parts[0].text
        if steps[0].group and self.rng.random() < 0.06:
            asked, steps[0] = self._pinned(asked, steps[0])
        return Composed(self.tell.chain(_asked(asked), [part.text for part in parts[1:]]), tuple(steps), "chain")

    def parallel(self) -> Composed:
        """Two to four calls that have nothing to do with each other."""
        count = int(self.rng.choice((2, 3, 4), p=(0.58, 0.3, 0.12)))
        parts = [self.ask(unit) for unit in self._distinct(count)]
        return Composed(self.tell.parallel([_asked(p.text) for p in parts]), tuple(p.step for p in parts), "parallel")

    def repeated(self) -> Composed:
        """The same tool on two or three inputs."""
        unit, template, slot = self._repeatable()
        bucket = draw_bucket(self.rng)
        first = fill(template, self.rng, self._held(), bucket)
        text, steps = sentence(first.text), [self._step(unit, bucket)]
        others: list[str] = []
        for _ in range(2 if self.rng.random() < 0.2 else 1):
            other = fill("{" + slot + "}", self.rng, self._held())
            if other.text in first.text or other.text in others:
                continue
            others.append(other.text)
            steps.append(self._step(unit, other.size))
            text += " " + self.tell.again(other.text)
        return Composed(text, tuple(steps), "parallel" if len(steps) > 1 else "single")

    def fan_out(self) -> Composed:
        """One result used two or three times, sometimes brought together again."""
        root_unit = self._unit_with_followers(2)
        root = self.ask(root_unit)
        options = self.followers[root_unit]
        count = 3 if len(options) >= 3 and self.rng.random() < 0.2 else 2
        branches = [
            self.followup(str(u), root, (0,), noun_share=0.0) for u in self.rng.choice(options, count, replace=False)
        ]
        text = self.tell.branches(root.text, self._noun(root_unit), [p.text for p in branches])
        steps = [root.step, *(p.step for p in branches)]
        if count == 2 and self.rng.random() < 0.4 and not {p.unit for p in branches} & set(words.BOTH):
            joined = self.join(branches, (1, 2))
            text += " " + self.tell.last(joined.text)
            steps.append(joined.step)
        return Composed(text, tuple(steps), "dag")

    def fan_in(self) -> Composed:
        """Two independent results, one of them perhaps worked on further, used by one call."""
        first, second = (self.ask(unit) for unit in self._producers())
        text, steps = f"{first.text} {self.tell.also(_asked(second.text))}", [first.step, second.step]
        joined = self.join([first, second], (0, 1))
        steps.append(joined.step)
        text += " " + self.tell.last(joined.text)
        if (
            joined.unit in ("text_generation", "merge_pdfs", "merge_videos", "compress_files")
            and self.rng.random() < 0.35
        ):
            options = [u for u in self.followers[joined.unit] if u not in {first.unit, second.unit}]
            more = self.followup(pick(self.rng, options), joined, (2,))
            text, steps = f"{text} {self.tell.then(more.text)}", [*steps, more.step]
        return Composed(text, tuple(steps), "dag")

    def chain_and_other(self) -> Composed:
        """A chain of two beside an unrelated call, in either order."""
        root = self.ask(self._unit_with_followers(1))
        follow = self.followup(pick(self.rng, self.followers[root.unit]), root, (0,))
        other = self.ask(self._distinct(1, exclude={root.unit, follow.unit})[0])
        if self.rng.random() < 0.5:
            text = f"{root.text} {self.tell.then(follow.text)} {self.tell.also(_asked(other.text))}"
            return Composed(text, (root.step, follow.step, other.step), "dag")
        moved = Step(follow.step.tool, (1,), follow.step.input_size, follow.step.group)
        text = f"{other.text} {self.tell.also(_asked(root.text))} {self.tell.then(follow.text)}"
        return Composed(text, (other.step, root.step, moved), "dag")

    # ---- steps ------------------------------------------------------------------------------------------------

    def ask(self, unit: str) -> Part:
        """A stand-alone request for a unit."""
        phrases = self.units[unit]
        filled = fill(self._template(phrases.asks, phrases.held_out_asks), self.rng, self._held())
        step = self._step(unit, filled.size)
        return self._part(sentence(filled.text), step, unit)

    def followup(self, unit: str, before: Part, depends_on: tuple[int, ...], noun_share: float = NOUN_SHARE) -> Part:
        """A clause about the result of an earlier step, whose size carries over."""
        phrases = self.units[unit]
        filled = fill(
            self._template(phrases.followups, phrases.held_out_followups), self.rng, self._held(), before.out_size
        )
        clause = name_result(filled.text, self._noun(before.unit)) if self.rng.random() < noun_share else filled.text
        return self._part(clause, self._step(unit, None, depends_on, before.out_size), unit)

    def join(self, parts: list[Part], depends_on: tuple[int, ...]) -> Part:
        """A clause that uses two results."""
        kinds = {result_kind(self.registry, p.unit) for p in parts}
        options = ["send_email", "post_chat_message", "upload_to_cloud", "compress_files"]
        if kinds <= {"text", "findings", "keywords", "links", "short"}:
            options = ["send_email", "post_chat_message", "text_generation", "text_generation"]
        special = {"document": "merge_pdfs", "video": "merge_videos"}
        unit = special.get(next(iter(kinds)), "") if len(kinds) == 1 else ""
        if not unit or self.rng.random() < 0.2:
            unit = pick(self.rng, options)
        phrases = self.units[unit]
        if unit in words.BOTH:
            wording = words.BOTH[unit].draw(self.rng, self._held())
        else:
            wording = self._template(phrases.fan_ins, phrases.held_out_fan_ins)
        sizes = ("small", "medium", "large")
        incoming = max((p.out_size for p in parts), key=sizes.index)
        clause = fill(wording, self.rng, self._held()).text
        return self._part(clause, self._step(unit, None, depends_on, incoming), unit)

    def any_unit(self) -> str:
        return pick(self.rng, list(self.units))

    def _part(self, text: str, step: Step, unit: str) -> Part:
        return Part(text, step, unit, result_size(self.registry, unit, step.input_size or "medium"))

    def _step(
        self, unit: str, wording: str | None, depends_on: tuple[int, ...] = (), incoming: str | None = None
    ) -> Step:
        size = step_size(self.registry, unit, wording, incoming)
        return Step(unit_tool(self.registry, unit), depends_on, size, unit if self.units[unit].is_group else None)

    def _pinned(self, text: str, step: Step, device: str = "") -> tuple[str, Step]:
        members = self.registry.in_group(step.group)
        gpu = next(m for m in members if re.search("_gpu|_large|_neural", m))
        cpu = next(m for m in members if m != gpu)
        device = device or ("gpu" if self.rng.random() < 0.5 else "cpu")
        wording = words.PINNED[device].draw(self.rng, self._held())
        return f"{text} {wording}", Step(gpu if device == "gpu" else cpu, step.depends_on, step.input_size, None)

    def _noun(self, unit: str) -> str:
        return pick(self.rng, result_nouns()[unit])

    # ---- drawing ----------------------------------------------------------------------------------------------

    def _template(self, seen: list[str], held_out: list[str]) -> str:
        options = held_out if held_out and (self._held() or not seen) else seen
        return pick(self.rng, options)

    def _has_followups(self, unit: str) -> bool:
        return bool(self.units[unit].followups or self.units[unit].held_out_followups)

    def _path(self, length: int) -> list[str]:
        while True:
            path = [self._unit_with_followers(1)]
            while len(path) < length:
                options = [u for u in self.followers[path[-1]] if u not in path]
                if not options:
                    break
                path.append(pick(self.rng, options))
            if len(path) == length:
                return path

    def _unit_with_followers(self, count: int) -> str:
        return pick(self.rng, [u for u, found in self.followers.items() if len(found) >= count])

    def _distinct(self, count: int, exclude: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
        options = [u for u in self.units if u not in exclude]
        return [str(u) for u in self.rng.choice(options, count, replace=False)]

    def _producers(self) -> list[str]:
        """Two units whose results somebody can use, half of the time of one kind."""
        options = [u for u in self.units if self.followers[u] and u not in words.BOTH]
        first = pick(self.rng, options)
        alike = [
            u for u in options if u != first and result_kind(self.registry, u) == result_kind(self.registry, first)
        ]
        pool = alike if alike and self.rng.random() < 0.5 else [u for u in options if u != first]
        return [first, pick(self.rng, pool)]

    def _repeatable(self) -> tuple[str, str, str]:
        """A unit, one of its requests with exactly one sized slot, and that slot."""
        while True:
            unit = self.any_unit()
            phrases = self.units[unit]
            template = self._template(phrases.asks, phrases.held_out_asks)
            slots = [s for s in SLOT.findall(template) if s in sized_slots()]
            if len(slots) == 1 and slots[0] not in ("number", "picture", "topicmusic", "writing", "thing"):
                return unit, template, slots[0]

    def _held(self) -> bool:
        return bool(self.rng.random() < self.held_out_share)


def _asked(text: str) -> Asked:
    return Asked(text, command(text))
