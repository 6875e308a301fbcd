"""The whole network: left, centre and right panel joined.

B requests, N tools of the batch, L tool-text tokens, R profile rows, S task tokens, T sequence length, G GPUs,
K plan steps, V virtual tokens, D model width, E curve width, Q key width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tomas_router.config import ModelConfig
from tomas_router.encoders.complete_tool_encoder import CompleteToolEncoder
from tomas_router.encoders.task_encoder import RetrievalEncoder, TaskEmbedding, UserTaskEncoder
from tomas_router.encoders.temporal_encoder import TemporalEncoder
from tomas_router.encoders.tool_encoder import NameTokenEncoder
from tomas_router.features.special_tokens import SPECIAL_TOKENS, first_tool_id
from tomas_router.model.backbone import PrefixCache, QwenBackbone
from tomas_router.model.context_projector import ContextProjector, VirtualTokenNorm
from tomas_router.model.heads import DependencyHead, ResourceRegressor, StateNorm, TokenGate, ToolClassifier

LINKS = ("dataflow", "order")
RETRIEVAL_SCALE = 20.0
PRIOR_DROPOUT = 0.4
"""Share of training requests whose pointer must do without the retrieval similarity.

On training rows that similarity is better than it will ever be on new ones; always there, it leaves nothing to learn.
"""

SIMILARITY_NOISE = 2.0
"""Deviation added to the retrieval logits when training chooses a prefix."""
DRAWN_PREFIX_SHARE = 0.15
"""Share of training requests whose prefix is random, as it is where a registry is small."""


@dataclass(frozen=True)
class EncodedTools:
    """Tools after the left panel."""

    v_toolaware_ND: Tensor
    key_NQ: Tensor
    retrieval_NE: Tensor
    prefix: PrefixCache  # batch axis = N, one token each


@dataclass(frozen=True)
class TeacherForcing:
    """A batch of requests with their plans laid out in one sequence each (see ``training.layout``)."""

    task_ids_BS: Tensor
    task_mask_BS: Tensor
    links_B: Tensor  # index into LINKS
    plan_tools_BK: Tensor  # index into the batch's tools; 0 where padded
    layout_BT: Tensor  # index into [virtual V | task S | special 4 | plan tools K]
    layout_mask_BT: Tensor
    gate_pos_B: Tensor
    slot_pos_BK1: Tensor  # K + 1 positions of <TOOL_ID>
    step_pos_BK: Tensor  # positions of <RESOURCE_CFG>
    candidate_mask_BN: Tensor
    prefix_mask_BN: Tensor
    series_BGT4: Tensor
    log_horizon_B1: Tensor
    size_BK: Tensor  # true size bucket, -1 where unknown
    task_states_BSD: Tensor | None = None  # what the text layers say of the tasks, when known already


@dataclass(frozen=True)
class Decisions:
    """Everything the heads say about a teacher-forced batch."""

    gate_B: Tensor
    tool_logits_BKN: Tensor  # (B, K + 1, N + 1), non-candidates at the minimum
    size_logits_BK3: Tensor
    targets_BK5: Tensor
    depends_BKK: Tensor
    retrieval_logits_BN: Tensor


class TOMASLLMModel(nn.Module):
    """Tool router: prefix-conditioned language model with plan heads."""

    def __init__(self, config: ModelConfig, backbone: QwenBackbone, tool_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        d_model, vocab = backbone.config.hidden_size, backbone.config.vocab_size
        rms = float(backbone.embedding_table.weight.detach().float().pow(2).mean().sqrt())
        temporal, heads = config.temporal, config.heads

        # left panel
        self.tools = CompleteToolEncoder(config.tool, d_model)
        self.name_table = (
            NameTokenEncoder(tool_names, d_model - config.tool.d_resource, first_tool_id(vocab))
            if config.tool.encoder == "name"
            else None
        )
        self.tool_token_norm = VirtualTokenNorm(d_model, rms)
        self.retrieval = RetrievalEncoder(vocab, d_model, heads.d_retrieval, config.backbone.text_layers > 0)

        # centre panel
        self.task_embedding = TaskEmbedding(backbone.embedding_table)
        self.task_pool = UserTaskEncoder(heads.task_pooling)
        self.temporal = TemporalEncoder(temporal)
        self.context = ContextProjector(temporal.d_temporal, temporal.virtual_tokens, d_model, rms)
        self.special = nn.Embedding(len(SPECIAL_TOKENS), d_model)
        self.links = nn.Embedding(len(LINKS), d_model)
        nn.init.normal_(self.special.weight, std=rms)
        nn.init.normal_(self.links.weight, std=0.1 * rms)

        # right panel
        self.state_norm = StateNorm(d_model)
        self.gate = TokenGate(d_model)
        self.classifier = ToolClassifier(d_model, temporal.d_temporal, heads.d_key)
        self.dependency = DependencyHead(d_model, heads.d_hidden)
        self.resource = ResourceRegressor(d_model, temporal.d_temporal, heads.d_hidden)

    @classmethod
    def from_config(cls, config: ModelConfig, tool_names: Sequence[str] = ()) -> TOMASLLMModel:
        """Loads or builds the backbone and puts fresh panels around it."""
        return cls(config, QwenBackbone.from_config(config.backbone), tool_names)

    @torch.no_grad()
    def match_state_size(self, states_XD: Tensor) -> None:
        """Gives tools, curve and special tokens the size of the text states (X, D) that they stand beside."""
        rms = float(states_XD.pow(2).mean(-1).sqrt().median())
        before = float(self.special.weight.pow(2).mean().sqrt())
        self.tool_token_norm.gain.fill_(rms)
        self.context.norm.gain.fill_(rms)
        self.special.weight.mul_(rms / before)
        self.links.weight.mul_(rms / before)

    # ---- left panel -------------------------------------------------------------------------------------------

    def tool_text_hidden(self, states_NLD: Tensor, mask_NL: Tensor) -> Tensor:
        """States of tool texts (N, L, D) at the configured depth."""
        if self.config.tool.text_depth == "embeddings":
            return states_NLD
        return self.backbone.states_to_hidden(states_NLD, mask_NL)

    def tool_vectors(self, states_NLD: Tensor, mask_NL: Tensor, rows_NR6: Tensor, row_mask_NR: Tensor) -> Tensor:
        """Tool text and profile rows to v_toolaware (N, D)."""
        hidden_NLD = self.tool_text_hidden(states_NLD, mask_NL)
        vectors_ND: Tensor = self.tools.encode(hidden_NLD, mask_NL, rows_NR6, row_mask_NR)
        return vectors_ND

    def tool_vectors_in_chunks(
        self, states_NLD: Tensor, mask_NL: Tensor, rows_NR6: Tensor, row_mask_NR: Tensor, chunk: int | None = None
    ) -> Tensor:
        """As ``tool_vectors``, with tools of like length together so that little padding is computed."""
        order_N, parts = _by_length(mask_NL, chunk)
        vectors = [
            self.tool_vectors(states_NLD[part, :longest], mask_NL[part, :longest], rows_NR6[part], row_mask_NR[part])
            for part, longest in parts
        ]
        return torch.cat(vectors)[order_N.argsort()]

    def pooled_tool_texts(self, ids_NL: Tensor, mask_NL: Tensor, states_NLD: Tensor | None = None) -> Tensor:
        """(N, 2 D): what of tool texts does not depend on anything outside the backbone."""
        if states_NLD is None:
            states_NLD = self.backbone.text_states(ids_NL, mask_NL)
        order_N, parts = _by_length(mask_NL)
        pooled = []
        for part, longest in parts:
            mask = mask_NL[part, :longest]
            pooled.append(self.tools.text.pool(self.tool_text_hidden(states_NLD[part, :longest], mask), mask))
        return torch.cat(pooled)[order_N.argsort()]

    def named_tool_vectors(self, names: Sequence[str], rows_NR6: Tensor, row_mask_NR: Tensor) -> Tensor:
        """As ``tool_vectors``, with v_tool from the name table (``tool.encoder: name``)."""
        if self.name_table is None:
            raise ValueError("this model encodes tool texts; set tool.encoder to 'name' for the name table")
        ids = self.name_table.token_ids(names).to(rows_NR6.device)
        vectors_ND: Tensor = self.tools.aware(self.name_table(ids), self.tools.resource(rows_NR6, row_mask_NR))
        return vectors_ND

    def encode_tools(
        self,
        ids_NL: Tensor,
        mask_NL: Tensor,
        rows_NR6: Tensor,
        row_mask_NR: Tensor,
        states_NLD: Tensor | None = None,
        pooled_NX: Tensor | None = None,
    ) -> EncodedTools:
        """Everything the request path needs of the tools.

        ``states_NLD`` spares the text layers and ``pooled_NX`` (see ``pooled_tool_texts``) all layers, when known.
        """
        if states_NLD is None:
            states_NLD = self.backbone.text_states(ids_NL, mask_NL)
        if pooled_NX is None:
            v_toolaware_ND = self.tool_vectors_in_chunks(states_NLD, mask_NL, rows_NR6, row_mask_NR)
        else:
            v_toolaware_ND = self.tools.encode_pooled(pooled_NX, rows_NR6, row_mask_NR)
        retrieval_NE = self.retrieval(self.backbone.embed(ids_NL), states_NLD, ids_NL, mask_NL)
        return self.finish_tools(v_toolaware_ND, retrieval_NE)

    def finish_tools(self, v_toolaware_ND: Tensor, retrieval_NE: Tensor) -> EncodedTools:
        """v_toolaware to classifier keys and prefix keys/values."""
        return EncodedTools(
            v_toolaware_ND,
            self.classifier.base_key(v_toolaware_ND),
            retrieval_NE,
            self.backbone.encode_alone(self.tool_token_norm(v_toolaware_ND)),
        )

    # ---- centre panel -----------------------------------------------------------------------------------------

    def retrieval_vector(self, task_ids_BS: Tensor, task_mask_BS: Tensor, states_BSD: Tensor) -> Tensor:
        """Unit vectors (B, d_retrieval) of tasks."""
        vector: Tensor = self.retrieval(self.task_embedding(task_ids_BS), states_BSD, task_ids_BS, task_mask_BS)
        return vector

    def task_states(self, batch: TeacherForcing) -> Tensor:
        """States (B, S, D) of the tasks below the point where tools, curve and plan enter."""
        if batch.task_states_BSD is not None:
            return batch.task_states_BSD
        return self.backbone.text_states(batch.task_ids_BS, batch.task_mask_BS)

    def curve_context(self, series_BGT4: Tensor, log_horizon_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised curves to v_temporal (B, E) and virtual tokens (B, V, D)."""
        v_temporal_BE = self.temporal(series_BGT4, log_horizon_B1)
        return v_temporal_BE, self.context(v_temporal_BE)

    # ---- right panel ------------------------------------------------------------------------------------------

    def candidate_keys(self, tools: EncodedTools, prefix_mask_BN: Tensor) -> Tensor:
        """Classifier keys (B, N, Q): base keys, plus what set attention adds for the shortlist."""
        # Requests of a batch often share their shortlist: set attention runs once for each different one.
        mask_UN, which_B = prefix_mask_BN.unique(dim=0, return_inverse=True)
        tools_UND = tools.v_toolaware_ND.unsqueeze(0).expand(mask_UN.shape[0], -1, -1)
        delta_UNQ = self.classifier.set_delta(self.tools(tools_UND, mask_UN)) * mask_UN.unsqueeze(-1)
        return (tools.key_NQ.unsqueeze(0) + delta_UNQ)[which_B]

    def forward(self, tools: EncodedTools, batch: TeacherForcing) -> Decisions:
        """Teacher forcing: one pass over [curve, task, plan] of every request."""
        size = batch.task_ids_BS.shape[0]
        v_temporal_BE, virtual_BVD = self.curve_context(batch.series_BGT4, batch.log_horizon_B1)
        states_BSD = self.task_states(batch)
        hidden_BTD = self.state_norm(self.sequence_hidden(tools, batch, virtual_BVD, states_BSD))

        rows_B = torch.arange(size, device=hidden_BTD.device)
        task_start = self.config.temporal.virtual_tokens
        task_BSD = hidden_BTD[:, task_start : task_start + batch.task_ids_BS.shape[1]]
        task_BD = self.task_pool(task_BSD, batch.task_mask_BS)
        slot_BKD = hidden_BTD[rows_B[:, None], batch.slot_pos_BK1]
        step_BKD = hidden_BTD[rows_B[:, None], batch.step_pos_BK]

        prior_BN = self.retrieval_logits(tools, batch, states_BSD)
        logits = self.classifier(
            self.classifier.query(slot_BKD, task_BD, v_temporal_BE),
            self.candidate_keys(tools, batch.prefix_mask_BN),
            self._sometimes(prior_BN),
            used_tools(batch.plan_tools_BK, batch.candidate_mask_BN.shape[1]),
        )
        allowed = nn.functional.pad(batch.candidate_mask_BN, (0, 1), value=True).unsqueeze(1)
        size_logits = self.resource.size_logits(step_BKD)
        known = batch.size_BK >= 0
        size_probs = torch.where(
            known.unsqueeze(-1),
            nn.functional.one_hot(batch.size_BK.clamp(min=0), 3).to(size_logits.dtype),
            size_logits.softmax(-1).detach(),
        )
        chosen_BKD = tools.v_toolaware_ND[batch.plan_tools_BK]
        curve_BKE = v_temporal_BE.unsqueeze(1).expand(-1, step_BKD.shape[1], -1)
        return Decisions(
            gate_B=self.gate(hidden_BTD[rows_B, batch.gate_pos_B]),
            tool_logits_BKN=logits.masked_fill(~allowed, -1e4),
            size_logits_BK3=size_logits,
            targets_BK5=self.resource(step_BKD, chosen_BKD, curve_BKE, size_probs),
            depends_BKK=self.dependency(step_BKD),
            retrieval_logits_BN=prior_BN,
        )

    def _sometimes(self, prior_BN: Tensor) -> Tensor:
        if not self.training:
            return prior_BN
        return prior_BN * (torch.rand_like(prior_BN[:, :1]) >= PRIOR_DROPOUT)

    def retrieval_logits(self, tools: EncodedTools, batch: TeacherForcing, states_BSD: Tensor) -> Tensor:
        """Similarity (B, N) of requests and tools that have not met, times ``RETRIEVAL_SCALE``."""
        task_BE = self.retrieval_vector(batch.task_ids_BS, batch.task_mask_BS, states_BSD)
        return RETRIEVAL_SCALE * task_BE @ tools.retrieval_NE.T

    @torch.no_grad()
    def shortlisted(self, tools: EncodedTools, batch: TeacherForcing) -> TeacherForcing:
        """The batch as the planner would ask: prefixes of the same sizes, made of the most similar candidates.

        In training the similarity is noisy, because on new requests it is less right than on those it learnt from, and
        some requests keep the prefix that was drawn.
        """
        similar_BN = self.retrieval_logits(tools, batch, self.task_states(batch))
        if self.training:
            similar_BN = similar_BN + SIMILARITY_NOISE * torch.randn_like(similar_BN)
        similar_BN = similar_BN.masked_fill(~batch.candidate_mask_BN, -torch.inf)
        rank_BN = similar_BN.argsort(dim=1, descending=True).argsort(dim=1)
        prefix_BN = (rank_BN < batch.prefix_mask_BN.sum(1, keepdim=True)) & batch.candidate_mask_BN
        if self.training:
            drawn_B1 = torch.rand_like(similar_BN[:, :1]) < DRAWN_PREFIX_SHARE
            prefix_BN = torch.where(drawn_B1, batch.prefix_mask_BN, prefix_BN)
        return replace(batch, prefix_mask_BN=prefix_BN)

    def sequence_hidden(
        self, tools: EncodedTools, batch: TeacherForcing, virtual_BVD: Tensor, states_BSD: Tensor
    ) -> Tensor:
        """Hidden states (B, T, D) of the laid-out sequences behind the tool prefix."""
        size = batch.task_ids_BS.shape[0]
        special_B4D = self.special.weight.unsqueeze(0).repeat(size, 1, 1)
        special_B4D = torch.cat(
            [special_B4D[:, :1] + self.links(batch.links_B).unsqueeze(1), special_B4D[:, 1:]], dim=1
        )
        source = torch.cat(
            [
                virtual_BVD,
                states_BSD,
                special_B4D,
                self.tool_token_norm(tools.v_toolaware_ND)[batch.plan_tools_BK],
            ],
            dim=1,
        )
        embeds_BTD = source.gather(1, batch.layout_BT.unsqueeze(-1).expand(-1, -1, source.shape[-1]))
        return self.conditioned_hidden(tools, batch.prefix_mask_BN, embeds_BTD, batch.layout_mask_BT)

    def conditioned_hidden(
        self, tools: EncodedTools, prefix_mask_BN: Tensor, embeds_BTD: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Hidden states (B, T, D) of sequences behind the tool prefix; positions start at 1."""
        batch, length, _ = embeds_BTD.shape
        # (N, Y, H, 1, C) -> (1, Y, H, N, C): the tools become the prefix axis of every request
        keys = tools.prefix.keys.permute(3, 1, 2, 0, 4)
        values = tools.prefix.values.permute(3, 1, 2, 0, 4)
        positions = torch.arange(1, length + 1, device=embeds_BTD.device).expand(batch, -1)
        mask = torch.cat([prefix_mask_BN, mask_BT], dim=1)
        hidden_BTD, _ = self.backbone(embeds_BTD, mask, positions, PrefixCache(keys, values).expand(batch))
        return hidden_BTD


def _by_length(mask_NL: Tensor, chunk: int | None = None) -> tuple[Tensor, list[tuple[Tensor, int]]]:
    """Texts by length, in chunks that are computed together, each with its longest length."""
    chunk = chunk or (24 if mask_NL.device.type == "cpu" else 512)  # a GPU minds launches, not padding
    order_N = mask_NL.sum(1).argsort()
    return order_N, [(part, int(mask_NL[part].sum(1).max())) for part in order_N.split(chunk)]


def used_tools(plan_tools_BK: Tensor, num_tools: int) -> Tensor:
    """(B, K + 1, N): whether a tool was chosen before slot k."""
    chosen_BKN = nn.functional.one_hot(plan_tools_BK, num_tools).cumsum(1) > 0
    return nn.functional.pad(chosen_BKN, (0, 0, 1, 0))
