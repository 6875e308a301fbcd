"""The causal language model in the Qwen2 layout, conditioned by a prefix.

B requests, S tokens, P prefix tokens, N tools, D model width, H key/value heads, C head width, Y layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
)

from tomas_router.config import BackboneConfig
from tomas_router.model.recomputation import recompute_layers


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of tokens that were encoded earlier; both (B, Y, H, P, C)."""

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        """Number of cached tokens."""
        return int(self.keys.shape[3])

    def expand(self, batch: int) -> PrefixCache:
        """The same prefix for ``batch`` requests, without copying."""
        return PrefixCache(self.keys.expand(batch, -1, -1, -1, -1), self.values.expand(batch, -1, -1, -1, -1))


class QwenBackbone(nn.Module):
    """Qwen2 in two parts: lower layers that read text alone, and upper layers that a prefix conditions.

    ``text_states`` runs the lower part (none of it with ``text_layers`` 0, where a text's states are its token
    embeddings); ``forward`` runs the upper part. The LM head runs only when text is wanted.

    States enter and leave in float32, whatever type the layers have or compute in.
    """

    def __init__(self, model: Qwen2ForCausalLM, text_layers: int = 0) -> None:
        super().__init__()
        self.text = _split_off(model, text_layers)
        self.lm = model
        self.autocast_dtype: torch.dtype | None = None
        """What the layers' products are computed in; None: in the type of their weights."""

    @classmethod
    def from_config(cls, config: BackboneConfig) -> QwenBackbone:
        """Loads (hub id or local directory) or builds (``random``) the backbone.

        A Llama-layout checkpoint is converted to Qwen2 exactly: same sizes, zero q/k/v biases.

        Raises:
            ValueError: ``num_layers`` is more than the checkpoint has, ``text_layers`` leaves no layer above, or the
                layout is neither Qwen2 nor Llama.
        """
        dtype = getattr(torch, config.dtype)
        if config.source == "random":
            assert config.sizes is not None  # the config's validator saw to it
            sizes = Qwen2Config(**config.sizes, attn_implementation=config.attn_implementation)
            model = Qwen2ForCausalLM(sizes).to(dtype)
            return cls(_first_layers(model, config.num_layers), config.text_layers)
        layout = AutoConfig.from_pretrained(config.source).model_type
        if layout not in ("qwen2", "llama"):
            raise ValueError(f"backbone {config.source!r} has layout {layout!r}; qwen2 or llama is expected")
        loaded = AutoModelForCausalLM.from_pretrained(
            config.source,
            dtype=dtype,
            device_map=config.device_map,
            attn_implementation=config.attn_implementation,
        )
        model = loaded if layout == "qwen2" else llama_to_qwen2(loaded)
        return cls(_first_layers(model, config.num_layers), config.text_layers)

    @property
    def config(self) -> Qwen2Config:
        """Sizes of the language model; ``num_hidden_layers`` counts the upper layers, which hold the prefix."""
        config: Qwen2Config = self.lm.config
        return config

    @property
    def layers(self) -> list[nn.Module]:
        """All layers from the lowest, text layers first."""
        return [*(self.text.layers if self.text is not None else ()), *self.lm.model.layers]

    @property
    def embedding_table(self) -> nn.Embedding:
        """The token embedding, (vocabulary, D)."""
        table: nn.Embedding = self.lm.model.embed_tokens
        return table

    def embed(self, token_ids: Tensor) -> Tensor:
        """(..., S) ids to (..., S, D)."""
        embedded: Tensor = self.embedding_table(token_ids)
        return embedded

    def recompute(self) -> None:
        """Layers forget their activations in training passes and compute them again for the gradient."""
        for part in (self.text, self.lm.model):
            if part is not None:
                recompute_layers(part.layers)

    def forward(
        self,
        embeds_BSD: Tensor,
        mask_BT: Tensor,
        position_ids_BS: Tensor,
        prefix: PrefixCache | None = None,
        want_cache: bool = False,
    ) -> tuple[Tensor, PrefixCache | None]:
        """Runs the upper layers.

        Args:
            embeds_BSD: New tokens, texts' states or virtual tokens.
            mask_BT: T = P + S; True = real. A new token sees every real prefix token and the real tokens before it.
            position_ids_BS: Rotary positions of the new tokens.
            prefix: Keys and values of P earlier tokens.
            want_cache: Also return the cache of all T tokens.

        Returns:
            Hidden states (B, S, D) after the final norm, and the cache when wanted.
        """
        with self._autocast(embeds_BSD):
            return _run(self.lm.model, embeds_BSD, mask_BT, position_ids_BS, prefix, want_cache)

    def run_text(
        self,
        embeds_BSD: Tensor,
        mask_BT: Tensor,
        position_ids_BS: Tensor,
        past: PrefixCache | None = None,
        want_cache: bool = False,
    ) -> tuple[Tensor, PrefixCache | None]:
        """Runs the text layers; as ``forward``, without final norm. No layers: the embeddings as they are."""
        if self.text is None:
            return embeds_BSD, past
        with self._autocast(embeds_BSD):
            return _run(self.text, embeds_BSD, mask_BT, position_ids_BS, past, want_cache)

    def text_states(self, token_ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """States (N, L, D) of texts below the point where tools, curve and plan enter; positions from 0."""
        positions = torch.arange(token_ids_NL.shape[1], device=token_ids_NL.device).expand_as(token_ids_NL)
        states_NLD, _ = self.run_text(self.embed(token_ids_NL), mask_NL, positions)
        return states_NLD

    def text_hidden(self, token_ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """Hidden states (N, L, D) of texts that nothing conditions, after all layers."""
        return self.states_to_hidden(self.text_states(token_ids_NL, mask_NL), mask_NL)

    def states_to_hidden(self, states_NLD: Tensor, mask_NL: Tensor) -> Tensor:
        """The upper layers over texts' states: (N, L, D) to (N, L, D)."""
        positions = torch.arange(states_NLD.shape[1], device=states_NLD.device).expand(states_NLD.shape[0], -1)
        hidden_NLD, _ = self(states_NLD, mask_NL, positions)
        return hidden_NLD

    def encode_alone(self, virtual_ND: Tensor) -> PrefixCache:
        """Each virtual token by itself at position 0: keys and values (N, Y, H, 1, C).

        Because no tool sees another, a prefix gathered from these is independent of order, and a cache entry stays
        valid whatever the other candidates are.
        """
        count = virtual_ND.shape[0]
        mask_N1 = torch.ones(count, 1, dtype=torch.bool, device=virtual_ND.device)
        positions_N1 = torch.zeros(count, 1, dtype=torch.long, device=virtual_ND.device)
        _, cache = self(virtual_ND.unsqueeze(1), mask_N1, positions_N1, want_cache=True)
        assert cache is not None
        return cache

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """(..., D) to vocabulary logits (..., W)."""
        with self._autocast(hidden):
            logits: Tensor = self.lm.lm_head(hidden.to(self.lm.lm_head.weight.dtype))
        return logits.float()

    def _autocast(self, states: Tensor) -> AbstractContextManager[object]:
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(states.device.type, self.autocast_dtype)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        context: PrefixCache | None = None,
        virtual_VD: Tensor | None = None,
        stop_ids: Sequence[int] = (),
    ) -> list[list[int]]:
        """Greedy text for each prompt, without context or with one context shared by all prompts.

        Args:
            prompts: Token ids; each non-empty.
            max_new_tokens: Upper bound a prompt.
            context: Prefix keys and values with a batch of 1 (the tools), encoded once.
            virtual_VD: Virtual tokens put before every prompt (the curve).
            stop_ids: Tokens that end a text; they are not returned.
        """
        return [self._generate_one(p, max_new_tokens, context, virtual_VD, frozenset(stop_ids)) for p in prompts]

    def _generate_one(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        context: PrefixCache | None,
        virtual_VD: Tensor | None,
        stop_ids: frozenset[int],
    ) -> list[int]:
        device = self.embedding_table.weight.device
        cache, position, generated = context, 0 if context is None else 1, []
        fresh, text_cache, head, read = list(prompt), None, virtual_VD, 0
        for _ in range(max_new_tokens):
            text_positions = torch.arange(read, read + len(fresh), device=device).unsqueeze(0)
            read += len(fresh)
            text_mask = torch.ones(1, read, dtype=torch.bool, device=device)
            embedded = self.embed(torch.tensor([fresh], device=device))
            states, text_cache = self.run_text(embedded, text_mask, text_positions, text_cache, want_cache=True)
            embeds = states if head is None else torch.cat([head.unsqueeze(0), states], dim=1)
            head, length, past = None, embeds.shape[1], 0 if cache is None else cache.length
            mask = torch.ones(1, past + length, dtype=torch.bool, device=device)
            positions = torch.arange(position, position + length, device=device).unsqueeze(0)
            hidden, cache = self(embeds, mask, positions, cache, want_cache=True)
            position += length
            token = int(self.lm_logits(hidden[:, -1]).argmax())
            if token in stop_ids:
                break
            generated.append(token)
            fresh = [token]
        return generated


def llama_to_qwen2(llama: PreTrainedModel) -> Qwen2ForCausalLM:
    """The same function in the Qwen2 layout (maximum logit difference 0.0)."""
    source = llama.config
    fields = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
        "hidden_act",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
    ]
    config = Qwen2Config(**{f: getattr(source, f) for f in fields}, use_sliding_window=False)
    config._attn_implementation = source._attn_implementation
    model = Qwen2ForCausalLM(config).to(llama.dtype).to(llama.device)
    missing, unexpected = model.load_state_dict(llama.state_dict(), strict=False)
    biases = [name for name in missing if name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))]
    if unexpected or len(biases) != len([m for m in missing if m != "lm_head.weight"]):
        raise ValueError(f"not an exact Llama to Qwen2 conversion: missing {missing}, unexpected {unexpected}")
    with torch.no_grad():
        for name in biases:
            model.get_parameter(name).zero_()
    return model


def save_backbone(model: Qwen2ForCausalLM, directory: str | Path) -> None:
    """Writes the backbone as a local directory that ``BackboneConfig.source`` can name."""
    model.save_pretrained(directory, safe_serialization=True)


def _first_layers(model: Qwen2ForCausalLM, num_layers: int | None) -> Qwen2ForCausalLM:
    available = model.config.num_hidden_layers
    if num_layers is None or num_layers == available:
        return model
    if not 1 <= num_layers <= available:
        raise ValueError(f"num_layers must be between 1 and {available}, got {num_layers}")
    model.model.layers = model.model.layers[:num_layers]
    model.config.num_hidden_layers = num_layers
    model.config.layer_types = model.config.layer_types[:num_layers]
    return model


def _split_off(model: Qwen2ForCausalLM, text_layers: int) -> Qwen2Model | None:
    """Takes the first layers out of ``model`` into a model of their own, without embeddings and final norm."""
    if text_layers == 0:
        return None
    total = model.config.num_hidden_layers
    if not 0 < text_layers < total:
        raise ValueError(f"text_layers must be at least 0 and less than the {total} layers kept, got {text_layers}")
    lower_config = Qwen2Config(**model.config.to_dict())
    lower_config._attn_implementation = model.config._attn_implementation
    lower_config.num_hidden_layers = text_layers
    lower_config.layer_types = model.config.layer_types[:text_layers]
    with torch.device("meta"):
        lower = Qwen2Model(lower_config)
    lower.layers = model.model.layers[:text_layers]
    lower.embed_tokens, lower.norm = None, nn.Identity()
    lower.rotary_emb = model.model.rotary_emb
    model.model.layers = model.model.layers[text_layers:]
    for index, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = index  # its place in a cache
    model.config.num_hidden_layers = total - text_layers
    model.config.layer_types = model.config.layer_types[text_layers:]
    return lower


def _run(
    model: Qwen2Model,
    embeds_BSD: Tensor,
    mask_BT: Tensor,
    positions_BS: Tensor,
    past: PrefixCache | None,
    want_cache: bool,
) -> tuple[Tensor, PrefixCache | None]:
    cache = _as_dynamic(past) if (past is not None or want_cache) else None
    output = model(
        inputs_embeds=embeds_BSD.to(model.layers[0].input_layernorm.weight.dtype),
        attention_mask=mask_BT,
        position_ids=positions_BS,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return output.last_hidden_state.float(), _to_prefix(cache) if want_cache and cache is not None else None


def _as_dynamic(prefix: PrefixCache | None) -> DynamicCache:
    cache = DynamicCache()
    if prefix is not None:
        for layer in range(prefix.keys.shape[1]):
            cache.update(prefix.keys[:, layer], prefix.values[:, layer], layer)
    return cache


def _to_prefix(cache: DynamicCache) -> PrefixCache:
    keys = torch.stack([layer.keys for layer in cache.layers], dim=1)
    values = torch.stack([layer.values for layer in cache.layers], dim=1)
    return PrefixCache(keys, values)
