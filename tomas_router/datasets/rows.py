"""Instruction rows: ours (``data/instructions``) and public data sets in the same shape.

One JSON object a line: ``id, instruction, steps[{tool, depends_on, input_size?, group?}], split`` and optional fields.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tomas_router.schema.findings import FindingLog
from tomas_router.schema.profiling import SIZES
from tomas_router.schema.text_file import read_lines


@dataclass(frozen=True)
class Step:
    """One wanted call."""

    tool: str
    depends_on: tuple[int, ...] = ()
    input_size: str | None = None
    group: str | None = None
    """Set: any tool of this twin group does the job, and the curve decides which."""


@dataclass(frozen=True)
class Row:
    """One request with the plan it should get."""

    id: str
    instruction: str
    steps: tuple[Step, ...]
    needs_tool: bool = True
    kind: str | None = None
    links: str = "dataflow"
    explanation: str = ""
    split: str = ""
    candidates: tuple[str, ...] | None = None
    unordered: bool = False
    domain: str | None = None
    language: str = "en"
    """Known for composed rows; only rows in English are joined further while training."""


def load_rows(path: str | Path) -> list[Row]:
    """Reads a JSON Lines file of rows.

    Raises:
        DataValidationError: Lists file, line and field of every row that is malformed.
    """
    log = FindingLog.of(path)
    rows: list[Row] = []
    for number, line in read_lines(path, log):
        row = _parse(line, number, log)
        if row is not None:
            rows.append(row)
    log.finish()
    return rows


def to_json(row: Row) -> str:
    """One line of our own files."""
    steps = [
        {"tool": s.tool, "depends_on": list(s.depends_on), "input_size": s.input_size, "group": s.group}
        for s in row.steps
    ]
    data = {
        "id": row.id, "instruction": row.instruction, "steps": steps, "needs_tool": row.needs_tool, "kind": row.kind,
        "links": row.links, "explanation": row.explanation, "split": row.split,
    }  # fmt: skip
    return json.dumps(data, ensure_ascii=False)


def _parse(line: str, number: int, log: FindingLog) -> Row | None:
    before = len(log.errors)
    try:
        data = json.loads(line)
    except ValueError as error:
        log.error(f"must be one JSON object a line: {error}", line=number)
        return None
    if not isinstance(data, dict) or not isinstance(data.get("instruction"), str) or not data["instruction"].strip():
        log.error("must be non-empty text", line=number, field="instruction")
        return None
    listed = data.get("steps") or ()
    steps = tuple(_step(step, i, len(listed), number, log) for i, step in enumerate(listed))
    if len(log.errors) > before:
        return None
    ordered = in_call_order(tuple(s for s in steps if s is not None))
    if ordered is None:
        log.error("must not depend on each other in a circle", line=number, field="steps")
        return None
    return Row(
        id=str(data.get("id", number)),
        instruction=data["instruction"],
        steps=ordered,
        needs_tool=bool(data.get("needs_tool", True)),
        kind=data.get("kind") or data.get("type"),
        links=data.get("links", "dataflow"),
        explanation=data.get("explanation") or _explanation(data.get("task_steps") or ()),
        split=data.get("split", ""),
        candidates=tuple(data["candidates"]) if data.get("candidates") else None,
        unordered=bool(data.get("unordered", False)),
        domain=data.get("domain"),
    )


def in_call_order(steps: tuple[Step, ...]) -> tuple[Step, ...] | None:
    """The steps with every step behind those it depends on, else in the order listed; None where they form a circle.

    Public data sets list steps in any order; plans name earlier steps only.
    """
    order: list[int] = []
    while len(order) < len(steps):
        free = [i for i, step in enumerate(steps) if i not in order and set(step.depends_on) <= set(order)]
        if not free:
            return None
        order.append(free[0])
    place = {old: new for new, old in enumerate(order)}
    return tuple(replace(steps[i], depends_on=tuple(sorted(place[d] for d in steps[i].depends_on))) for i in order)


def _step(data: Any, index: int, count: int, number: int, log: FindingLog) -> Step | None:
    if not isinstance(data, dict) or not isinstance(data.get("tool"), str):
        log.error("must be an object with 'tool'", line=number, field=f"steps[{index}]", value=data)
        return None
    depends = data.get("depends_on") or ()
    if any(not isinstance(d, int) or not 0 <= d < count or d == index for d in depends):
        log.error(
            "must name other steps by their index", line=number, field=f"steps[{index}].depends_on", value=depends
        )
    size = data.get("input_size")
    if size is not None and size not in SIZES:
        log.error(f"must be one of {', '.join(SIZES)}", line=number, field=f"steps[{index}].input_size", value=size)
    return Step(data["tool"], tuple(depends), size, data.get("group"))


def _explanation(sentences: Any) -> str:
    """Turns ``Step 1 Call file_write to create a document`` into ``Create a document``."""
    parts = [re.sub(r"^Step \d+:?\s*(Call \S+ to )?", "", str(s)).strip().rstrip(".") for s in sentences]
    return " ".join(f"{p[0].upper()}{p[1:]}." for p in parts if p)
