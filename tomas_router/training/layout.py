"""Where every token of a request and its plan stands, and where the heads read.

One sequence a request: ``[curve V][task][<TOOL_PLAN>][<TOOL_ID>]([tool][<RESOURCE_CFG>][<TOOL_ID>])*``.
The tool classifier reads at ``<TOOL_ID>``, size, resources and dependencies at ``<RESOURCE_CFG>``, the gate at the
last task token. Engines feed the same order piece by piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.special_tokens import RESOURCE_CFG, SPECIAL_TOKENS, TOOL_ID, TOOL_PLAN

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Gather indices into ``[virtual V | task S | special 4 | plan tools K]`` and read positions."""

    source_BT: Int
    mask_BT: NDArray[np.bool_]
    gate_pos_B: Int
    slot_pos_BK1: Int
    step_pos_BK: Int


def lay_out(task_lengths: list[int], plan_lengths: list[int], virtual_tokens: int) -> Layout:
    """Builds the layout of a batch; padded slots point at position 0 and must be masked by the plan length."""
    batch, max_task, max_steps = len(task_lengths), max(task_lengths), max(max(plan_lengths), 1)
    special = virtual_tokens + max_task
    plan_id, slot_id, config_id = (special + SPECIAL_TOKENS.index(t) for t in (TOOL_PLAN, TOOL_ID, RESOURCE_CFG))
    first_tool = special + len(SPECIAL_TOKENS)

    rows: list[list[int]] = []
    slots = np.zeros((batch, max_steps + 1), dtype=np.int64)
    steps = np.zeros((batch, max_steps), dtype=np.int64)
    gates = np.zeros(batch, dtype=np.int64)
    for b, (task_length, plan_length) in enumerate(zip(task_lengths, plan_lengths, strict=True)):
        row = list(range(virtual_tokens)) + list(range(virtual_tokens, virtual_tokens + task_length))
        gates[b] = len(row) - 1
        row += [plan_id, slot_id]
        slots[b, 0] = len(row) - 1
        for k in range(plan_length):
            row += [first_tool + k, config_id, slot_id]
            steps[b, k], slots[b, k + 1] = len(row) - 2, len(row) - 1
        rows.append(row)

    length = max(map(len, rows))
    source = np.zeros((batch, length), dtype=np.int64)
    mask = np.zeros((batch, length), dtype=bool)
    for b, row in enumerate(rows):
        source[b, : len(row)] = row
        mask[b, : len(row)] = True
    return Layout(source, mask, gates, slots, steps)
