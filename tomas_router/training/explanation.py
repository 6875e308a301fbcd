"""The language-model loss on explanations, and the gate inside generated text.

Sequence: ``[curve V][task][cue][explanation]``. The cue is ordinary text, so generation needs no further token. While
text goes on the gate says text; at its last token the gate says plan, so that one generation can explain and plan.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tomas_router.features.special_tokens import EXPLANATION_CUE
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.model.tomas_model import EncodedTools, TeacherForcing, TOMASLLMModel
from tomas_router.training.batches import Batch

MAX_EXPLANATION_TOKENS = 48


def explanation_loss(
    model: TOMASLLMModel,
    tools: EncodedTools,
    forcing: TeacherForcing,
    batch: Batch,
    tokenizer: TextTokenizer,
    limit: int = 16,
) -> Tensor | None:
    """Mean of the text loss and the gate-within-text loss over up to ``limit`` explained requests."""
    chosen = [
        b for b, e in enumerate(batch.examples) if e.explanation and (batch.plans[b] or not batch.wants_tools[b])
    ][:limit]
    if not chosen:
        return None
    device = forcing.task_ids_BS.device
    cue = tokenizer.encode(EXPLANATION_CUE)
    sequences, starts = [], []
    for b in chosen:
        task = forcing.task_ids_BS[b, forcing.task_mask_BS[b]].tolist()
        text = tokenizer.encode(" " + batch.examples[b].explanation)[:MAX_EXPLANATION_TOKENS]
        sequences.append(task + cue + text)
        starts.append(len(task) + len(cue))
    longest = max(map(len, sequences))
    ids = torch.zeros(len(chosen), longest, dtype=torch.long, device=device)
    mask = torch.zeros(len(chosen), longest, dtype=torch.bool, device=device)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, device=device)
        mask[row, : len(sequence)] = True

    index = torch.tensor(chosen, device=device)
    _, virtual = model.curve_context(forcing.series_BGT4[index], forcing.log_horizon_B1[index])
    embeds = torch.cat([virtual, model.backbone.text_states(ids, mask)], dim=1)
    width = virtual.shape[1]
    full_mask = F.pad(mask, (width, 0), value=True)
    hidden = model.conditioned_hidden(tools, forcing.prefix_mask_BN[index], embeds, full_mask)[:, width:]

    text_positions = mask.clone()
    for row, start in enumerate(starts):
        text_positions[row, :start] = False
    predicts = text_positions[:, 1:]  # position t predicts token t + 1
    logits = model.backbone.lm_logits(hidden[:, :-1][predicts])
    text_loss = F.cross_entropy(logits, ids[:, 1:][predicts])

    gate = model.gate(model.state_norm(hidden))[text_positions]
    position = torch.arange(longest, device=device).expand_as(ids)
    is_last = (position == mask.sum(1, keepdim=True) - 1)[text_positions]
    gate_loss = F.binary_cross_entropy_with_logits(gate, is_last.to(gate.dtype))
    return text_loss + 0.5 * gate_loss
