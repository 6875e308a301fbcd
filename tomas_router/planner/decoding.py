"""The decision grammar as one state machine, in numpy, for every engine.

gate {text, plan}; then tool after tool, closed by END. N tools, K steps so far; every logits array over tools has N + 1
entries, the last of which is END. What comes out are proposals: which tools could do each step, how large its input is,
what the network expects it to need, and which earlier steps it waits for. Nothing here knows of capacity or time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomas_router.planner.engine import (
    BatchEngine,
    Calibration,
    CurveWindow,
    Opening,
    OpenRequest,
    RoutingEngine,
    StepOutcome,
    ToolEncodings,
)

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

Links = Literal["dataflow", "order"]
NoToolReason = Literal["not_needed", "no_match"]

MAX_STEPS = 12
ALTERNATIVES = 5
FIRST_SLOT_WEIGHT = 0.5
"""Of the first slot's logits in later ones, where a request wants a fixed number of named candidates."""
FARTHEST_BEHIND = 5.0
"""Logits by which the words of training requests may put a tool behind the one they speak for most; then weighted."""


@dataclass(frozen=True)
class DecodingOptions:
    """How to read the network."""

    num_steps: int | None = None
    """Exactly so many steps: the gate, END and the confidence threshold have no say, because the caller has decided."""
    candidates_N: Bool | None = None  # True = may be chosen; None = all
    novel_N: Bool | None = None  # True = training never or hardly showed the tool; None = nobody knows
    overlap_N: Float | None = None  # words that request and tool have in common, 0 to 1
    undescribed_N: Bool | None = None  # True = the description says no more than the name
    word_logits_N: Float | None = None  # by the words of training requests; NaN = none asked for the tool
    word_source_N: NDArray[np.int64] | None = None  # logits of the same number may be compared; None = all may
    links: Links = "dataflow"
    max_steps: int = MAX_STEPS
    alternatives: int = ALTERNATIVES
    """How many tools a step proposes, the chosen one included."""
    beam_width: int = 1


@dataclass(frozen=True)
class ToolChoice:
    """A tool that could do a step."""

    tool: int
    confidence: float  # probability after calibration, END competing
    margin: float  # logits below the best tool; 0 for the best


@dataclass(frozen=True)
class StepProposal:
    """One step as the network sees it."""

    choices: tuple[ToolChoice, ...]  # the first is the one that was fed back
    size_logits: tuple[float, float, float]  # small, medium, large
    resources: tuple[float, float, float, float, float]  # cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms
    depends_on: tuple[int, ...]  # earlier steps

    @property
    def tool(self) -> int:
        return self.choices[0].tool


@dataclass(frozen=True)
class RawPlan:
    """Proposals in call order, or the reason why there are none."""

    steps: tuple[StepProposal, ...]
    no_tool: NoToolReason | None
    gate_confidence: float  # probability that the request needs tools
    log_probability: float  # of the tools chosen, END included where it was read


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class _Branch:
    """A partial plan; engine states are immutable, so branches may share them."""

    state: object
    tool_logits: Float  # for the next slot
    first_logits: Float  # what the network said to the first slot
    steps: tuple[StepProposal, ...]
    log_probability: float


def decode(
    engine: RoutingEngine,
    instruction: str,
    tools: ToolEncodings,
    shortlist: NDArray[np.int64],
    window: CurveWindow,
    options: DecodingOptions,
) -> RawPlan:
    """Runs the grammar once. With ``beam_width`` 1 the likeliest tool is taken at every slot.

    Raises:
        ValueError: ``candidates_N`` allows no tool, or ``num_steps`` is not in 1..``max_steps``.
    """
    _check(options)
    grammar = _grammar(engine.open(instruction, tools, shortlist, window, options.links), engine.calibration, options)
    return _finished(grammar, step=lambda asked: [engine.step(*one) for one in asked])[0]


def decode_batch(
    engine: BatchEngine, requests: Sequence[OpenRequest], tools: ToolEncodings, options: Sequence[DecodingOptions]
) -> list[RawPlan]:
    """The same for several requests over the same tools: every pass of the network is shared by those not finished.

    Raises:
        ValueError: As for ``decode``.
    """
    for one in options:
        _check(one)
    openings = engine.open_batch(requests, tools)
    grammars = [_grammar(o, engine.calibration, own) for o, own in zip(openings, options, strict=True)]
    return _finished(*grammars, step=lambda asked: engine.step_batch(*zip(*asked, strict=True)))


Ask = tuple[object, int]
"""A state and the tool that is fed back to it."""
Grammar = Generator[Ask, StepOutcome, RawPlan]


def _grammar(opening: Opening, calibration: Calibration, options: DecodingOptions) -> Grammar:
    """The state machine of one request; it asks for steps and never touches an engine."""
    gate_confidence = _sigmoid(float(opening.gate_logit) - calibration.gate_threshold)
    forced = options.num_steps is not None
    if not forced and opening.gate_logit <= calibration.gate_threshold:
        return RawPlan((), "not_needed", gate_confidence, 0.0)
    if not forced and _nothing_matches(opening, calibration, options):
        return RawPlan((), "no_match", gate_confidence, 0.0)
    best = yield from _beam(opening, calibration, options)
    return RawPlan(best.steps, None, gate_confidence, best.log_probability)


def _finished(*grammars: Grammar, step: Callable[[list[Ask]], Sequence[StepOutcome]]) -> list[RawPlan]:
    """Runs grammars side by side until each has its plan."""
    plans: dict[int, RawPlan] = {}
    asked: dict[int, Ask] = {}

    def go_on(place: int, outcome: StepOutcome | None) -> None:
        try:
            # A generator that has just begun takes None.
            asked[place] = grammars[place].send(outcome)  # type: ignore[arg-type]
        except StopIteration as done:
            plans[place] = done.value

    for place in range(len(grammars)):
        go_on(place, None)
    while asked:
        places, questions = list(asked), list(asked.values())
        asked.clear()
        for place, outcome in zip(places, step(questions), strict=True):
            go_on(place, outcome)
    return [plans[place] for place in range(len(grammars))]


def heard(
    tool_logits: NDArray[np.floating],
    calibration: Calibration,
    options: DecodingOptions,
    taken: Sequence[int] = (),
) -> Float:
    """A slot's logits with what the network does not hear: words, and that it knows some tools better than others.

    Tools that training requests asked for fall behind the one whose requests were worded most like this one. Tools that
    training never showed are ranked by the words they share with the request, and get ``novelty_bonus`` where others
    are known. Only the order of tools changes: the best one stands to END as the best one did before.

    Args:
        tool_logits: (N + 1,), END last.
        calibration: how much each counts.
        options: what is known of the tools.
        taken: tools of earlier slots.
    """
    logits = np.array(tool_logits, dtype=np.float64)
    offered = np.ones(len(logits) - 1, dtype=bool) if options.candidates_N is None else options.candidates_N
    before = logits[:-1][offered].max()
    changed = _hear_words(logits, calibration, options, offered, taken)
    changed |= _hear_novelty(logits, calibration, options, offered)
    if changed:
        logits[:-1] += before - logits[:-1][offered].max()
    return logits


def _hear_words(
    logits: Float, calibration: Calibration, options: DecodingOptions, offered: Bool, taken: Sequence[int]
) -> bool:
    """Of the tools that requests of one source asked for, the one that words speak for most keeps its logit.

    A new tool of which there is only a name counts as one that they speak for as much as for most.
    """
    words, source_N = options.word_logits_N, options.word_source_N
    if words is None:
        return False
    asked_for = offered & ~np.isnan(words)
    open_to = asked_for.copy()
    open_to[list(taken)] = False
    behind_N = np.zeros(len(words))
    usual = -np.inf
    for source in [None] if source_N is None else np.unique(source_N[open_to]).tolist():
        own = asked_for if source is None else asked_for & (source_N == source)
        if not (own & open_to).any():
            continue
        most = words[own & open_to].max()
        behind_N[own] = np.clip(words[own] - most, -FARTHEST_BEHIND, 0.0)
        usual = max(usual, float(np.median(words[own & open_to])) - most, -FARTHEST_BEHIND)
    if usual == -np.inf:
        return False
    if options.novel_N is not None and options.undescribed_N is not None:
        behind_N[offered & options.novel_N & options.undescribed_N & ~asked_for] = usual
    logits[:-1] += calibration.words_weight * behind_N
    return True


def _hear_novelty(logits: Float, calibration: Calibration, options: DecodingOptions, offered: Bool) -> bool:
    """Tools that training never showed, by shared words and a bonus; none for those that are but a name."""
    novel = options.novel_N
    if novel is None or not novel[offered].any():
        return False
    if options.overlap_N is not None:
        lead_N = options.overlap_N - options.overlap_N[novel & offered].max()
        logits[:-1] += calibration.overlap_weight * novel * lead_N
    if not novel[offered].all():
        named_alone = False if options.undescribed_N is None else options.undescribed_N
        logits[:-1] += calibration.novelty_bonus * (novel & ~np.asarray(named_alone))
    return True


def tool_probabilities(tool_logits: NDArray[np.floating], calibration: Calibration, candidates_N: Bool | None) -> Float:
    """(N + 1,) calibrated probabilities over the candidates and END; 0 for all others."""
    scaled = np.asarray(tool_logits, dtype=np.float64) / calibration.temperature
    if candidates_N is not None:
        scaled = np.where(np.append(candidates_N, True), scaled, -np.inf)
    weights = np.exp(scaled - scaled.max())
    probabilities: Float = weights / weights.sum()
    return probabilities


def first_choice(opening: Opening, calibration: Calibration, candidates_N: Bool | None) -> tuple[float, float]:
    """(logits by which the best first tool leads END, its probability)."""
    logits = np.asarray(opening.tool_logits, dtype=np.float64)
    best = int((logits[:-1] if candidates_N is None else np.where(candidates_N, logits[:-1], -np.inf)).argmax())
    probability = tool_probabilities(logits, calibration, candidates_N)[best]
    return float(logits[best] - logits[-1]), float(probability)


def _nothing_matches(opening: Opening, calibration: Calibration, options: DecodingOptions) -> bool:
    lead, confidence = first_choice(opening, calibration, options.candidates_N)
    return lead < calibration.match_margin or confidence < calibration.min_confidence


def _beam(opening: Opening, calibration: Calibration, options: DecodingOptions) -> Generator[Ask, StepOutcome, _Branch]:
    """The likeliest complete plan of those that the beam keeps; plans compare by log-probability a decision."""
    limit = options.num_steps or options.max_steps
    first_logits = np.array(opening.tool_logits, dtype=np.float64)
    branches = [_Branch(opening.state, heard(first_logits, calibration, options), first_logits, (), 0.0)]
    finished: list[_Branch] = []
    for position in range(limit):
        may_end = options.num_steps is None and position > 0
        moves = [move for branch in branches for move in _moves(branch, calibration, options, may_end=may_end)]
        moves.sort(key=lambda move: (-move[0], move[1]))
        branches = []
        for log_probability, tool, branch in moves[: options.beam_width]:
            if tool < 0:
                finished.append(replace(branch, log_probability=log_probability))
            else:
                outcome = yield branch.state, tool
                branches.append(_taken(outcome, branch, tool, log_probability, calibration, options))
        if not branches:
            break
    complete = finished + branches
    return max(complete, key=lambda b: b.log_probability / (len(b.steps) + (b in finished)))


def _moves(
    branch: _Branch, calibration: Calibration, options: DecodingOptions, *, may_end: bool
) -> list[tuple[float, int, _Branch]]:
    """(log-probability of the plan so far, tool or -1 for END, branch) of the likeliest continuations."""
    probabilities = tool_probabilities(branch.tool_logits, calibration, _allowed(branch, options))
    if not may_end:
        probabilities = np.append(probabilities[:-1] / max(float(probabilities[:-1].sum()), 1e-300), 0.0)
    order = np.argsort(-probabilities, kind="stable")[: options.beam_width]
    end = len(probabilities) - 1
    return [
        (branch.log_probability + math.log(max(float(probabilities[i]), 1e-300)), -1 if i == end else int(i), branch)
        for i in order.tolist()
        if probabilities[i] > 0 or not may_end
    ]


def _allowed(branch: _Branch, options: DecodingOptions) -> Bool | None:
    """Who may do the next step."""
    named = options.candidates_N
    if named is None or not _each_once(options):
        return named
    rest = named.copy()
    rest[[step.tool for step in branch.steps]] = False
    return rest


def _each_once(options: DecodingOptions) -> bool:
    """A fixed number of named candidates means each once, while others are left."""
    named, count = options.candidates_N, options.num_steps
    return named is not None and count is not None and int(named.sum()) >= count


def _taken(
    outcome: StepOutcome,
    branch: _Branch,
    tool: int,
    log_probability: float,
    calibration: Calibration,
    options: DecodingOptions,
) -> _Branch:
    """The branch with one more step, as the network reads it."""
    step = StepProposal(
        choices=_choices(branch.tool_logits, tool, calibration, options),
        size_logits=_three(outcome.size_logits),
        resources=_five(outcome.resources),
        depends_on=_depends_on(outcome, len(branch.steps), options.links, calibration),
    )
    steps = (*branch.steps, step)
    said = np.array(outcome.tool_logits, dtype=np.float64)
    if _each_once(options):  # what the request said to the first slot of the tools that are left still counts
        both = said[:-1] + FIRST_SLOT_WEIGHT * branch.first_logits[:-1]
        said[:-1] = both / (1 + FIRST_SLOT_WEIGHT)  # as steep as one slot's, for confidence and margins
    logits = heard(said, calibration, options, [one.tool for one in steps])
    logits[-1] -= calibration.end_margin
    return _Branch(outcome.state, logits, branch.first_logits, steps, log_probability)


def _choices(
    tool_logits: Float, tool: int, calibration: Calibration, options: DecodingOptions
) -> tuple[ToolChoice, ...]:
    """The tool taken first, then the others by logit; margins are to the tool taken."""
    probabilities = tool_probabilities(tool_logits, calibration, options.candidates_N)[:-1]
    count = min(options.alternatives, len(probabilities))
    top = np.argpartition(-probabilities, count - 1)[:count]
    top = top[np.argsort(-probabilities[top], kind="stable")]
    ranked = [tool, *(i for i in top.tolist() if i != tool and probabilities[i] > 0)][:count]
    return tuple(ToolChoice(i, float(probabilities[i]), float(tool_logits[tool] - tool_logits[i])) for i in ranked)


def _depends_on(outcome: StepOutcome, position: int, links: Links, calibration: Calibration) -> tuple[int, ...]:
    """``order``: the step before. ``dataflow``: every earlier step that the network links above the threshold."""
    if links == "order":
        return (position - 1,) if position else ()
    logits = np.asarray(outcome.depends_logits)
    return tuple(np.flatnonzero(logits > calibration.depends_threshold).tolist())


def _check(options: DecodingOptions) -> None:
    if options.candidates_N is not None and not options.candidates_N.any():
        raise ValueError("candidates must allow at least one tool, got none")
    if options.num_steps is not None and not 1 <= options.num_steps <= options.max_steps:
        raise ValueError(f"num_steps must lie in 1..{options.max_steps}, got {options.num_steps}")


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def _as_float64(values: Sequence[float] | NDArray[np.floating]) -> Float:
    return np.asarray(values, dtype=np.float64)


def _three(values: NDArray[np.floating]) -> tuple[float, float, float]:
    small, medium, large = (float(v) for v in values)
    return small, medium, large


def _five(values: NDArray[np.floating]) -> tuple[float, float, float, float, float]:
    cpu, memory, sm, gpu_memory, latency = (float(v) for v in values)
    return cpu, memory, sm, gpu_memory, latency
