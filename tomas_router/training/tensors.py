"""A drawn batch as tensors: the last step before the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tomas_router.features.curve import CurveScaler, window_features
from tomas_router.features.tokenizer import TextTokenizer, pad
from tomas_router.features.tool_rows import RowScaler, pad_rows
from tomas_router.features.tool_text import tool_text
from tomas_router.model.tomas_model import LINKS, TeacherForcing
from tomas_router.training.batches import Batch
from tomas_router.training.layout import lay_out


@dataclass(frozen=True)
class Limits:
    """Longest sequences of a run, in tokens or rows."""

    task_tokens: int
    tool_tokens: int
    rows: int
    virtual_tokens: int


@dataclass(frozen=True)
class ToolTensors:
    """The pool of a batch; N tools."""

    ids_NL: Tensor
    mask_NL: Tensor
    rows_NR6: Tensor
    row_mask_NR: Tensor
    states_NLD: Tensor | None = None
    pooled_NX: Tensor | None = None  # tool texts after all layers, pooled


@dataclass(frozen=True)
class Targets:
    """What the losses compare the decisions with; B requests, K steps."""

    tool_BK1: Tensor  # (B, K + 1) index into tools, N = END, -100 = no slot
    gate_B: Tensor
    size_BK: Tensor  # -100 unknown
    scaled_BK5: Tensor  # NaN unknown
    free_scaled_B4: Tensor
    depends_BKK: Tensor
    depends_mask_BKK: Tensor
    retrieval_BN: Tensor  # True = a tool of the plan


@dataclass(frozen=True)
class Prepared:
    """A drawn batch as the network takes it."""

    batch: Batch
    tools: ToolTensors
    forcing: TeacherForcing
    targets: Targets

    def to(self, device: str) -> Prepared:
        """The same on another device."""
        return Prepared(
            self.batch, _moved(self.tools, device), _moved(self.forcing, device), _moved(self.targets, device)
        )

    def with_states(self, states: Callable[[Tensor, Tensor], Tensor]) -> Prepared:
        """The same with the texts' states, which ``states`` knows by ids and mask."""
        tools = replace(self.tools, states_NLD=states(self.tools.ids_NL, self.tools.mask_NL))
        tasks = states(self.forcing.task_ids_BS, self.forcing.task_mask_BS)
        return replace(self, tools=tools, forcing=replace(self.forcing, task_states_BSD=tasks))

    def with_pooled(self, texts: Callable[[Tensor, Tensor, Tensor | None], Tensor]) -> Prepared:
        """The same with what all layers make of the tool texts, which ``texts`` knows by ids and mask."""
        pooled = texts(self.tools.ids_NL, self.tools.mask_NL, self.tools.states_NLD)
        return replace(self, tools=replace(self.tools, pooled_NX=pooled))


Group = TypeVar("Group", ToolTensors, TeacherForcing, Targets)


def _moved(group: Group, device: str) -> Group:
    tensors = {f.name: getattr(group, f.name) for f in fields(group)}
    return replace(group, **{name: t.to(device, non_blocking=True) for name, t in tensors.items() if t is not None})


def to_tensors(
    batch: Batch,
    tokenizer: TextTokenizer,
    rows: RowScaler,
    curves: CurveScaler,
    limits: Limits,
) -> Prepared:
    """Tokenises, scales and pads a batch."""
    count, size = len(batch.pool), len(batch.examples)
    ids_NL, mask_NL = tokenizer.encode_batch([tool_text(n, d) for n, d in batch.texts], limits.tool_tokens)
    rows_NR6, row_mask_NR = pad_rows(batch.rows, limits.rows)

    tasks = [tokenizer.encode(e.instruction, limits.task_tokens) or [0] for e in batch.examples]
    task_ids, task_mask = pad(tasks)
    plan_lengths = [len(p) for p in batch.plans]
    steps = max(max(plan_lengths), 1)
    layout = lay_out([len(t) for t in tasks], plan_lengths, limits.virtual_tokens)

    plan = np.zeros((size, steps), dtype=np.int64)
    tool = np.full((size, steps + 1), -100, dtype=np.int64)
    sizes = np.full((size, steps), -100, dtype=np.int64)
    scaled = np.full((size, steps, 5), np.nan, dtype=np.float32)
    depends = np.zeros((size, steps, steps), dtype=np.float32)
    depends_mask = np.zeros((size, steps, steps), dtype=bool)
    retrieval = np.zeros((size, count), dtype=bool)
    for b, (example, indices) in enumerate(zip(batch.examples, batch.plans, strict=True)):
        length = len(indices)
        if batch.wants_tools[b] and batch.source != "tool_needed":
            tool[b, :length], tool[b, length] = indices, count
        plan[b, :length] = indices
        if not length:
            continue
        sizes[b, :length] = [s if s >= 0 else -100 for s in example.sizes]
        scaled[b, :length] = rows.transform_targets(example.targets_K5)
        retrieval[b, list(indices)] = True
        if example.depends_known:
            for k, earlier in enumerate(example.depends):
                depends[b, k, [j for j in earlier if j < k]] = 1.0
                depends_mask[b, k, :k] = True

    curve = [window_features(e.series_GT4, e.log_horizon, curves) for e in batch.examples]
    free = np.stack([e.free_now_4 for e in batch.examples])
    free5 = rows.transform_targets(np.concatenate([free, np.zeros((size, 1), np.float32)], axis=1))

    def t(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    tools = ToolTensors(t(ids_NL), t(mask_NL), t(rows.transform(rows_NR6)), t(row_mask_NR))
    forcing = TeacherForcing(
        task_ids_BS=t(task_ids),
        task_mask_BS=t(task_mask),
        links_B=t(np.array([LINKS.index(e.links) for e in batch.examples])),
        plan_tools_BK=t(plan),
        layout_BT=t(layout.source_BT),
        layout_mask_BT=t(layout.mask_BT),
        gate_pos_B=t(layout.gate_pos_B),
        slot_pos_BK1=t(layout.slot_pos_BK1),
        step_pos_BK=t(layout.step_pos_BK),
        candidate_mask_BN=t(batch.candidate_mask_BN),
        prefix_mask_BN=t(batch.prefix_mask_BN),
        series_BGT4=t(np.stack([c[0] for c in curve])),
        log_horizon_B1=t(np.stack([c[1] for c in curve])),
        size_BK=t(np.where(sizes < 0, -1, sizes)),
    )
    targets = Targets(
        tool_BK1=t(tool),
        gate_B=t(np.array(batch.wants_tools, dtype=np.float32)),
        size_BK=t(sizes),
        scaled_BK5=t(scaled),
        free_scaled_B4=t(free5[:, :4]),
        depends_BKK=t(depends),
        depends_mask_BKK=t(depends_mask),
        retrieval_BN=t(retrieval),
    )
    return Prepared(batch, tools, forcing, targets)
