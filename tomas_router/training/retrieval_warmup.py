"""Trains the retrieval vectors alone, before anything else: on frozen text states this takes minutes.

The classifier adds the retrieval similarity to its logits, so a good one spares the costly layers from learning what
the words of request and tool say anyway.

B requests, N tools of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from tomas_router.datasets.rows import Row
from tomas_router.features.tokenizer import TextTokenizer, pad
from tomas_router.features.tool_text import tool_text
from tomas_router.model.tomas_model import RETRIEVAL_SCALE, TOMASLLMModel
from tomas_router.training.sources import GATE_ONLY, Source
from tomas_router.training.tensors import Limits

States = Callable[[Tensor, Tensor], Tensor]
BATCH = 256
POOL = 384
DROP_SHARE = 0.12
"""Share of tools shown without name, and as many without description."""
PEAK_RATE = 2e-3


def train_retrieval(
    model: TOMASLLMModel,
    sources: dict[str, Source],
    mixture: dict[str, float],
    tokenizer: TextTokenizer,
    states: States,
    limits: Limits,
    steps: int,
    seed: int,
) -> list[float]:
    """Contrastive cross-entropy of requests against a pool of their registry's tools; returns the losses."""
    rng = np.random.default_rng(seed)
    names = [n for n in mixture if n in sources and n != GATE_ONLY and mixture[n] > 0]
    weights = np.array([mixture[n] for n in names]) / sum(mixture[n] for n in names)
    optimizer = torch.optim.AdamW(model.retrieval.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    losses = []
    for step in track(range(steps), description="retrieval"):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (step + 1) / 50) * (1.0 - step / steps)
        source = sources[names[int(rng.choice(len(names), p=weights))]]
        loss = _loss(model, source, tokenizer, states, limits, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _loss(
    model: TOMASLLMModel,
    source: Source,
    tokenizer: TextTokenizer,
    states: States,
    limits: Limits,
    rng: np.random.Generator,
) -> Tensor:
    rows = [source.rows[int(i)] for i in rng.integers(0, len(source.rows), BATCH)]
    rows = [row for row in rows if row.steps]
    wanted_names = [_wanted(row, source) for row in rows]
    pool = list(dict.fromkeys(name for names in wanted_names for name in names))
    known = set(pool)
    others = [name for name in source.answers if name not in known]
    pool += [others[int(i)] for i in rng.permutation(len(others))[: max(0, POOL - len(pool))]]
    index = {name: i for i, name in enumerate(pool)}
    texts = [_text(name, source.registry[name].desc, float(rng.random())) for name in pool]
    tool_NE = _vectors(model, [tokenizer.encode(t, limits.tool_tokens) or [0] for t in texts], states)
    task_BE = _vectors(model, [tokenizer.encode(r.instruction, limits.task_tokens) or [0] for r in rows], states)
    wanted = torch.zeros(len(rows), len(pool))
    for b, names in enumerate(wanted_names):
        wanted[b, [index[name] for name in names]] = 1.0
    log_probs = (RETRIEVAL_SCALE * task_BE @ tool_NE.T).log_softmax(-1)
    wanted = wanted.to(log_probs.device)
    return -((log_probs * wanted).sum(-1) / wanted.sum(-1)).mean()


def _wanted(row: Row, source: Source) -> list[str]:
    """Every tool that can do a step of the row: a twin group counts as a whole, the curve decides within it."""
    names: list[str] = []
    for step in row.steps:
        names += source.registry.in_group(step.group) or (step.tool,)
    return list(dict.fromkeys(names))


def _vectors(model: TOMASLLMModel, ids: Sequence[Sequence[int]], states: States) -> Tensor:
    table = model.backbone.embedding_table.weight
    array, mask_array = pad([list(i) for i in ids])
    ids_BS, mask_BS = torch.from_numpy(array).to(table.device), torch.from_numpy(mask_array).to(table.device)
    vectors: Tensor = model.retrieval(model.backbone.embed(ids_BS), states(ids_BS, mask_BS), ids_BS, mask_BS)
    return vectors


def _text(name: str, desc: str, draw: float) -> str:
    if draw < DROP_SHARE:
        return tool_text("", desc)
    return tool_text(name, "" if draw > 1.0 - DROP_SHARE else desc)
