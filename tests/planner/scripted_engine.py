"""A routing engine that says what a test tells it to say, through the real protocol."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tomas_router.features.known_tools import KnownTools
from tomas_router.planner.engine import (
    Calibration,
    CurveWindow,
    Float,
    Int,
    Opening,
    StepOutcome,
    ToolBatch,
    ToolEncodings,
)

WIDTH = 64
UNSAID = -20.0
END = "END"


@dataclass(frozen=True)
class Slot:
    """What is said at one tool slot: logits by tool name (and ``END``); all others are ``UNSAID``."""

    logits: Mapping[str, float]
    size: str = "medium"
    resources: tuple[float, float, float, float, float] = (1.0, 1.0, 0.0, 0.0, 1000.0)
    depends: tuple[float, ...] = ()  # logits for the earlier steps; missing ones are UNSAID


@dataclass(frozen=True)
class Script:
    """Answers to one instruction; after the last slot the engine says END."""

    slots: tuple[Slot, ...] = ()
    gate_logit: float = 10.0
    after: Mapping[tuple[str, ...], Mapping[str, float]] = field(default_factory=dict)
    """Logits after a given sequence of tools, in place of the slot's; for tests of the beam."""


@dataclass(frozen=True)
class _State:
    script: Script
    names: tuple[str, ...]  # by position in the encodings
    taken: tuple[str, ...]


class ScriptedEngine:
    """Tools are known by name; ``calls`` counts what was asked."""

    name = "scripted"
    max_prefix_tools = 64
    known_tools: KnownTools | None = None

    def __init__(
        self,
        scripts: Mapping[str, Script] | Script,
        calibration: Calibration | None = None,
        fingerprint: str = "scripted-1",
    ) -> None:
        self._scripts = scripts
        self.calibration = calibration or Calibration()
        self.fingerprint = fingerprint
        self.encoded: list[str] = []
        self.windows: list[CurveWindow] = []
        self.shortlists: list[list[str]] = []

    def prepare_tools(self, tools: Sequence[Any], profiling: Any | None) -> ToolBatch:
        ids = np.stack([_spelled(tool.name) for tool in tools])
        rows = [len(profiling.rows(tool.name)) if profiling is not None else 0 for tool in tools]
        return ToolBatch(
            ids,
            ids > 0,
            np.array(rows, dtype=np.float32)[:, None, None] * np.ones((1, 1, 6), dtype=np.float32),
            np.array(rows)[:, None] > 0,
        )

    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        keys = batch.token_ids_NL.astype(np.float32)
        names = [_read(key) for key in keys]
        self.encoded += names
        aware = keys.copy()
        aware[:, -1] = batch.rows_NR6[:, 0, 0]
        vectors = np.stack([_words(name.replace("_", " ")) for name in names])
        prefix = np.zeros((len(names), 2, 1, 4), dtype=np.float32) + keys.sum(axis=1)[:, None, None, None]
        return ToolEncodings(aware, keys, vectors, prefix, prefix + 1)

    def retrieval_vector(self, instruction: str) -> Float:
        return _words(instruction)

    def open(self, instruction: str, tools: ToolEncodings, shortlist: Int, window: CurveWindow, links: str) -> Opening:
        script = self._scripts if isinstance(self._scripts, Script) else self._scripts[instruction]
        state = _State(script, tuple(_read(key) for key in tools.key_ND), ())
        self.windows.append(window)
        self.shortlists.append([state.names[i] for i in shortlist.tolist()])
        return Opening(state, script.gate_logit, self._logits(state))

    def step(self, state: _State, tool_index: int) -> StepOutcome:
        slot = state.script.slots[len(state.taken)] if len(state.taken) < len(state.script.slots) else Slot({})
        after = _State(state.script, state.names, (*state.taken, state.names[tool_index]))
        depends = [*slot.depends, *[UNSAID] * len(state.taken)][: len(state.taken)]
        sizes = [5.0 if size == slot.size else 0.0 for size in ("small", "medium", "large")]
        return StepOutcome(
            after,
            self._logits(after),
            np.array(sizes, dtype=np.float32),
            np.array(slot.resources, dtype=np.float32),
            np.array(depends, dtype=np.float32),
        )

    def explain(self, instruction: str, tools: ToolEncodings, window: CurveWindow, max_tokens: int) -> Iterator[str]:
        yield from ("Because ", "the test ", "says so.")

    def _logits(self, state: _State) -> Float:
        script, position = state.script, len(state.taken)
        said = script.after.get(state.taken)
        if said is None:
            said = script.slots[position].logits if position < len(script.slots) else {END: 10.0}
        logits = np.full(len(state.names) + 1, UNSAID, dtype=np.float32)
        for place, name in enumerate(state.names):
            logits[place] = said.get(name, UNSAID)
        logits[-1] = said.get(END, UNSAID)
        return logits


def _spelled(name: str) -> Int:
    """(WIDTH,) the characters of a name, so that encodings alone say which tool they are."""
    codes = np.zeros(WIDTH, dtype=np.int64)
    codes[: len(name)] = [ord(c) for c in name]
    return codes


def _read(key_D: Float) -> str:
    return "".join(chr(int(code)) for code in key_D if code)


def _words(text: str) -> Float:
    vector = np.full(WIDTH, 1e-6, dtype=np.float32)
    for word in text.lower().split():
        vector[zlib.crc32(word.strip(".,").encode()) % WIDTH] += 1
    return vector / np.linalg.norm(vector)
