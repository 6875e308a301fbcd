"""Draws training batches: requests of one source over a pool of candidate tools, with labels and augmentation.

B requests, N tools of the pool, K plan steps. Everything is numpy and seeded; torch enters in ``to_tensors``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from tomas_router.datasets.oracle import label
from tomas_router.datasets.rows import Row, Step
from tomas_router.datasets.timeline_generator import draw_timeline
from tomas_router.datasets.wordy import wordy
from tomas_router.features.tool_rows import SIZE_INDEX
from tomas_router.runtime.resource_predictor import ResourcePredictor
from tomas_router.schema.registry import ToolSpec
from tomas_router.training.short_lists import short_list
from tomas_router.training.sources import GATE_ONLY, Source

JOINERS = (
    "{a} Also, {b}", "{a} {b}", "{a} And then: {b}", "First: {a} Second: {b}", "{a} Besides that, {b}",
    "{a} I also need this: {b}", "{a} One more thing. {b}", "Two things: {a} {b}", "{a} Meanwhile, {b}",
)  # fmt: skip
FUSED_JOINERS = (
    "{a} and {b}", "{a} and also {b}", "{a}, and {b}", "{a}, and also {b}", "{a}, plus {b}", "{a} and then {b}",
    "{a}; {b}", "{a}, {b}", "{a} and, while you are at it, {b}", "{a} and at the same time {b}",
)  # fmt: skip
"""Ways to make one sentence of two requests, whose place it takes is not marked by a capital or a full stop."""
FUSED_SHARE = 0.5
"""Of composed requests."""
KEEP_CAPITAL = ("I ", "I'", "I’")
T_INF_MS = 500
CHARS_PER_TOKEN = 4.2
WIDE = re.compile(r"[\u2e80-\uffff]")
TOKENS_PER_WIDE = 2.0
"""The vocabulary holds few Chinese characters; most are spelt in bytes."""
MOST_WORLDS = 8
"""Worlds in one batch, at most."""
BUCKET_BATCHES = 8
"""A batch's rows are alike in length among this many times as many random ones."""
NARROWEST, WIDEST = 0.04, 0.8
"""Share of the pool that a narrowed candidate list keeps; as often 5 of 10 tools as 50 of 100."""


@dataclass(frozen=True)
class Example:
    """One request with everything the losses compare against."""

    instruction: str
    tools: tuple[str, ...]
    depends: tuple[tuple[int, ...], ...]
    depends_known: bool
    sizes: tuple[int, ...]  # -1 where unknown
    targets_K5: NDArray[np.float32]  # physical units, NaN where unknown
    needs_tool: bool
    links: str
    series_GT4: NDArray[np.float32]
    log_horizon: float
    free_now_4: NDArray[np.float32]  # capacity at the decision, for the over-allocation penalty
    explanation: str
    candidates: tuple[str, ...] | None


@dataclass(frozen=True)
class Augmentation:
    """How often a training request or tool is changed."""

    compose: float = 0.12
    compose_singles: float = 0.3
    """As ``compose``, in sources whose requests all need one tool."""
    right_tool_absent: float = 0.05
    drop_name: float = 0.12
    drop_desc: float = 0.12
    describe_by_request: float = 0.15
    """Of the tools whose description gives way to a request for them: other words for what the tool does."""
    drop_rows: float = 0.15
    drop_words: float = 0.25
    more_words: float = 0.12
    """Of requests that say in many words what they say in few (``datasets.wordy``)."""
    narrow_candidates: float = 0.5
    short_lists: float = 0.15
    """Of batches in which every request has a few candidates of its own (``short_lists``)."""
    short_list_lacks_tool: float = 0.3
    whole_registry: bool = False
    """Offer tools that no row uses as well: for measuring, not for training (see ``Source.answers``)."""

    def changed(self, shares: Mapping[str, float]) -> Augmentation:
        """The same with other shares.

        Raises:
            ValueError: A name is unknown, or a share does not lie in 0..1.
        """
        names = [field.name for field in fields(self) if field.name != "whole_registry"]
        for name, share in shares.items():
            if name not in names:
                raise ValueError(f"train.augmentation knows {', '.join(names)}, got {name!r}")
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"train.augmentation.{name} must lie in 0..1, got {share}")
        return replace(self, **shares)  # type: ignore[arg-type]  # all of them are shares


NO_AUGMENTATION = Augmentation(*(0.0,) * 12, whole_registry=True)
DROPPED_SHARE = 0.1
"""Of the words of a request that loses some."""
ORDERED_LINKS = {"ultratool", "traject"}
NO_EDGES = {"sealtools"}


def expected_tokens(text: str) -> float:
    """About how many tokens the text takes, without running the tokenizer."""
    wide = len(WIDE.findall(text))
    return (len(text) - wide) / CHARS_PER_TOKEN + TOKENS_PER_WIDE * wide


def build_example(row: Row, source: Source, rng: np.random.Generator) -> Example:
    """Draws a curve for a row and labels it: with profiles by the exact oracle, otherwise by the row alone."""
    timeline = draw_timeline(rng)
    window = ResourcePredictor(timeline).window(T_INF_MS)
    tools = tuple(step.tool for step in row.steps)
    targets = np.full((len(row.steps), 5), np.nan, dtype=np.float32)
    if source.profiling is not None and row.steps:
        oracle = label(row, source.registry, source.profiling, timeline, T_INF_MS)
        tools = tuple(oracle.tools)
        for k, allocation in enumerate(oracle.allocations or ()):
            if source.profiling.has(tools[k]):
                c = allocation.config
                targets[k] = (c.cpu_core, c.cpu_mem_gb, c.gpu_sm, c.gpu_mem_gb, allocation.latency_ms)
    return Example(
        instruction=row.instruction,
        tools=tools,
        depends=tuple(tuple(step.depends_on) for step in row.steps),
        depends_known=source.name not in NO_EDGES and len(row.steps) > 1,
        sizes=tuple(SIZE_INDEX[s.input_size] if s.input_size else -1 for s in row.steps),
        targets_K5=targets,
        needs_tool=row.needs_tool,
        links="order" if source.name in ORDERED_LINKS else row.links,
        series_GT4=window.series_GT4,
        log_horizon=window.log_horizon,
        free_now_4=window.series_GT4[0, 0],
        explanation=row.explanation or "",
        candidates=tuple(row.candidates) if row.candidates else None,
    )


def compose(first: Row, second: Row, rng: np.random.Generator) -> Row:
    """Two independent requests said in one breath."""
    if rng.random() < FUSED_SHARE:
        text = _fused(first.instruction, second.instruction, rng)
    else:
        text = str(rng.choice(JOINERS)).format(a=first.instruction, b=second.instruction)
    shifted = tuple(
        replace(step, depends_on=tuple(d + len(first.steps) for d in step.depends_on)) for step in second.steps
    )
    steps: tuple[Step, ...] = tuple(first.steps) + shifted
    return replace(first, instruction=text, steps=steps, explanation="", candidates=_both_lists(first, second))


def _both_lists(first: Row, second: Row) -> tuple[str, ...] | None:
    """The candidates of two rows in one: those of the first alone would hide the tools of the second."""
    if first.candidates is None or second.candidates is None:
        return None
    return tuple(dict.fromkeys((*first.candidates, *second.candidates)))


def _fused(first: str, second: str, rng: np.random.Generator) -> str:
    """One sentence of two requests."""
    second = second.strip()
    if second[1:2].islower() or (second[1:2] == " " and not second.startswith(KEEP_CAPITAL)):
        second = second[0].lower() + second[1:]
    return str(rng.choice(FUSED_JOINERS)).format(a=first.strip().rstrip(".?!"), b=second)


@dataclass(frozen=True)
class Batch:
    """A pool of tools and the requests over it, before tokenisation."""

    source: str
    pool: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]  # (name, description) as the encoder will see them
    rows: tuple[NDArray[np.float32], ...]  # raw profile features per tool
    examples: tuple[Example, ...]
    plans: tuple[tuple[int, ...], ...]  # tool indices into the pool; () = END at the first slot
    wants_tools: tuple[bool, ...]
    candidate_mask_BN: NDArray[np.bool_]
    prefix_mask_BN: NDArray[np.bool_]


class BatchSampler:
    """Seeded batches: the one of a given number is always the same, whoever draws it and whatever was drawn before."""

    def __init__(
        self,
        sources: dict[str, Source],
        mixture: dict[str, float],
        batch_size: int,
        pool_size: int,
        max_prefix: int,
        seed: int,
        token_budget: float = float("inf"),
        max_task_tokens: int = 10_000,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        self.sources = sources
        self.names = [n for n in mixture if n in sources and mixture[n] > 0]
        weights = np.array([mixture[n] for n in self.names], dtype=np.float64)
        self.weights = weights / weights.sum()
        self.batch_size, self.pool_size, self.max_prefix = batch_size, pool_size, max_prefix
        self.augmentation, self.token_budget, self.max_task_tokens = augmentation, token_budget, max_task_tokens
        self.seed = seed
        self.rng = np.random.default_rng(seed)

    def familiar_tools(self) -> list[ToolSpec]:
        """Tools that so many rows ask for that training knows them by heart (``Source.familiar``)."""
        return [tool for name in self.names for tool in self.sources[name].familiar]

    def draw(self, number: int) -> Batch:
        """Batch ``number``, of one source."""
        self.rng = np.random.default_rng([self.seed, number])
        source = self.sources[str(self.rng.choice(self.names, p=self.weights))]
        rows = [source.rows[i] for i in self._rows_of_like_length(source)]
        return self.batch(source, self._compose_some(rows, source))

    def batch(self, source: Source, rows: Sequence[Row]) -> Batch:
        """A batch of given rows."""
        listed = self.rng.random() < self.augmentation.short_lists
        examples = [self._worded(build_example(row, source, self.rng), row.language) for row in rows]
        needed = list(dict.fromkeys(t for e in examples for t in (*e.tools, *(e.candidates or ()))))
        offered = source.registry.names if self.augmentation.whole_registry else source.answers
        others = [name for name in offered if name not in set(needed)]
        extra = max(0, min(len(others), self.pool_size - len(needed)))
        drawn = [others[i] for i in self.rng.permutation(len(others))[:extra]]
        pool = tuple(str(n) for n in self.rng.permutation(needed + drawn))
        index = {name: i for i, name in enumerate(pool)}

        asked = {row.instruction for row in rows}
        right = [[index[t] for t in dict.fromkeys(e.tools)] for e in examples]
        twins = [[index[t] for t in self._same_job(source, e) if t in index] for e in examples]
        spared = [len(pool) - len({*r, *t}) for r, t in zip(right, twins, strict=True)]  # tools that could stay
        absent = [self._lacks_tool(e, listed) and left > 0 for e, left in zip(examples, spared, strict=True)]
        plans = [() if gone else tuple(index[t] for t in e.tools) for e, gone in zip(examples, absent, strict=True)]
        if listed:
            candidates = self._short_lists(right, twins, absent, source.word_likeness.among(pool))
        else:
            candidates = self._narrowed(plans, len(pool))
        self._keep_to_lists(candidates, examples, index)
        self._take_away(candidates, [r + t if gone else [] for r, t, gone in zip(right, twins, absent, strict=True)])
        return Batch(
            source=source.name,
            pool=pool,
            texts=tuple(self._text(source, name, asked) for name in pool),
            rows=tuple(self._rows(source, name) for name in pool),
            examples=tuple(examples),
            plans=tuple(plans),
            wants_tools=tuple(e.needs_tool for e in examples),
            candidate_mask_BN=candidates,
            prefix_mask_BN=self._prefix(candidates, plans),
        )

    def _rows_of_like_length(self, source: Source) -> list[int]:
        """Random rows, neighbours in length among a larger draw: padding would cost a third of the time."""
        near = self._neighbourhood(source)
        drawn = self.rng.permutation(len(near))[: BUCKET_BATCHES * self.batch_size]
        by_length = sorted((near[int(i)] for i in drawn), key=lambda i: expected_tokens(source.rows[i].instruction))
        parts = np.array_split(np.array(by_length), -(-len(by_length) // self.batch_size))
        part = parts[int(self.rng.integers(len(parts)))]
        return self._within_budget(source, [int(i) for i in self.rng.permutation(part)])

    def _neighbourhood(self, source: Source) -> tuple[int, ...]:
        """All rows, or those of a few worlds: tools of one domain are the hard negatives of its requests."""
        parts = source.neighbourhoods
        if len(parts) == 1:
            return parts[0]
        count = int(self.rng.integers(2, MOST_WORLDS + 1))
        chosen = self.rng.permutation(len(parts))[:count]
        return tuple(index for part in chosen for index in parts[int(part)])

    def _within_budget(self, source: Source, indices: list[int]) -> list[int]:
        """As many of the rows as ``token_budget`` allows, padding counted; at least eight."""
        longest, count = 0.0, 0
        for index in indices:
            row = source.rows[index]
            task_tokens = min(expected_tokens(row.instruction), self.max_task_tokens)
            longest = max(longest, task_tokens + 3 * len(row.steps) + 8)
            if count >= 8 and longest * (count + 1) > self.token_budget:
                break
            count += 1
        return indices[:count]

    def _compose_some(self, rows: list[Row], source: Source) -> list[Row]:
        """Joins all single-step rows of a batch in pairs, or none: a few long rows would pad all the others."""
        singles_only = all(len(row.steps) == 1 for row in rows)
        share = self.augmentation.compose_singles if singles_only else self.augmentation.compose
        if source.name == GATE_ONLY or self.rng.random() >= share:
            return rows
        singles = [row for row in rows if len(row.steps) == 1 and row.language == "en"]
        others = [row for row in rows if len(row.steps) != 1 or row.language != "en"]
        pairs = zip(singles[::2], singles[1::2], strict=False)
        return others + [compose(a, b, self.rng) for a, b in pairs if a.steps[0].tool != b.steps[0].tool]

    def _worded(self, example: Example, language: str) -> Example:
        if example.needs_tool and language == "en" and self.rng.random() < self.augmentation.more_words:
            return replace(example, instruction=wordy(example.instruction, self.rng))
        if self.rng.random() >= self.augmentation.drop_words:
            return example
        words = example.instruction.split(" ")
        kept = [word for word, draw in zip(words, self.rng.random(len(words)), strict=True) if draw >= DROPPED_SHARE]
        return replace(example, instruction=" ".join(kept) or example.instruction)

    @staticmethod
    def _same_job(source: Source, example: Example) -> dict[str, None]:
        """Every tool of the groups of the right ones."""
        return {t: None for name in example.tools for t in source.registry.in_group(source.registry[name].group)}

    def _lacks_tool(self, example: Example, listed: bool) -> bool:
        share = self.augmentation.short_list_lacks_tool if listed else self.augmentation.right_tool_absent
        return bool(example.tools) and self.rng.random() < share

    def _narrowed(self, plans: Sequence[tuple[int, ...]], count: int) -> NDArray[np.bool_]:
        """Groups of requests share a narrowed candidate list, so that set attention is shared too."""
        mask = np.ones((len(plans), count), dtype=bool)
        for group in np.array_split(np.arange(len(plans)), max(1, len(plans) // 16)):
            if self.rng.random() < self.augmentation.narrow_candidates:
                keep = self.rng.random(count) < np.exp(self.rng.uniform(np.log(NARROWEST), np.log(WIDEST)))
                keep[[t for b in group for t in plans[b]]] = True
                if not keep.any():
                    keep[int(self.rng.integers(count))] = True
                mask[group] = keep
        return mask

    def _short_lists(
        self,
        right: Sequence[list[int]],
        twins: Sequence[list[int]],
        absent: Sequence[bool],
        likeness_NN: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Every request over a few tools of its own; one that needs none gets any."""
        mask = np.zeros((len(right), len(likeness_NN)), dtype=bool)
        for b, wanted in enumerate(right):
            base = wanted or [int(self.rng.integers(len(likeness_NN)))]
            mask[b, short_list(base, twins[b], absent[b], likeness_NN, self.rng)] = True
        return mask

    @staticmethod
    def _keep_to_lists(mask: NDArray[np.bool_], examples: Sequence[Example], index: dict[str, int]) -> None:
        """Rows that bring candidates of their own keep those."""
        for b, example in enumerate(examples):
            if example.candidates is not None:
                mask[b] = False
                mask[b, [index[c] for c in example.candidates]] = True

    @staticmethod
    def _take_away(mask: NDArray[np.bool_], gone: Sequence[list[int]]) -> None:
        """The right tools, and those that could stand in for them, of requests whose tool is to be missing."""
        for b, tools in enumerate(gone):
            mask[b, tools] = False
            if not mask[b].any():
                mask[b] = True
                mask[b, tools] = False

    def _prefix(self, candidates: NDArray[np.bool_], plans: Sequence[tuple[int, ...]]) -> NDArray[np.bool_]:
        """At most ``max_prefix`` candidates, in training a random number of them: the others must be scored as well.

        Retrieval is imperfect, so a needed tool is sometimes missing too.
        """
        prefix = candidates.copy()
        priority: NDArray[np.float64] = np.asarray(self.rng.random(candidates.shape[1]))
        for group in np.array_split(np.arange(len(plans)), max(1, len(plans) // 16)):
            wanted = {t for b in group for t in plans[b] if self.rng.random() > 0.05}
            limit = self.max_prefix
            if self.augmentation.narrow_candidates and self.rng.random() < 0.5:
                limit = int(self.rng.integers(4, self.max_prefix + 1))
            for b in group:
                allowed = np.flatnonzero(candidates[b])
                if len(allowed) > limit:
                    score = priority[allowed] + np.array([t in wanted for t in allowed])
                    prefix[b] = False
                    prefix[b, allowed[np.argsort(-score)[:limit]]] = True
        return prefix

    def _text(self, source: Source, name: str, asked: set[str]) -> tuple[str, str]:
        draw, desc = self.rng.random(), source.registry[name].desc
        if self.rng.random() < self.augmentation.describe_by_request:
            desc = self._other_request(source, name, asked) or desc
        if draw < self.augmentation.drop_name:
            return "", desc
        if draw > 1.0 - self.augmentation.drop_desc:
            return name, ""
        return name, desc

    def _other_request(self, source: Source, name: str, asked: set[str]) -> str:
        """A request for the tool that is none of this batch; empty when the draw finds none."""
        texts = source.requests_of.get(name, ())
        text = texts[int(self.rng.integers(len(texts)))] if texts else ""
        return "" if text in asked else text

    def _rows(self, source: Source, name: str) -> NDArray[np.float32]:
        rows = source.profile_features(name)
        return rows[:0] if self.rng.random() < self.augmentation.drop_rows else rows
