"""Optimum's causal language model over the router's backbone graph: virtual tokens in, hidden states out.

``ORTModelForCausalLM`` takes token ids and gives logits. Here the graph takes embeddings and gives hidden states; the
token table and the LM head are graphs of their own, used only for text. The cache is one tensor, so that a prefix is
gathered, a branch shared and a hole masked without a loop over layers.

On a GPU, lengths are rounded up to buckets and the kernels of each bucket are recorded once (a CUDA graph): a pass of a
7B model is a thousand launches, which cost more than the arithmetic of a short request.

B requests, T new tokens, P cached tokens, X = P + T, D width, Y layers, H key/value heads, C head width, W vocabulary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from optimum.onnxruntime import ORTModelForCausalLM
from torch import Tensor
from transformers import GenerationConfig, Qwen2Config
from transformers.modeling_outputs import CausalLMOutputWithPast

from tomas_router.engines.bound_session import BoundSession, Place

NEW_TOKEN_BUCKETS = (1, 4, 32, 64, 128, 256)
"""1: a token of text; 4: a plan step; the rest: requests."""
CACHE_BUCKET = 64
"""Cached tokens are rounded up to a multiple."""


@dataclass(frozen=True, eq=False)
class DeviceCache:
    """Keys and values of several requests so far; never mutated, so branches may share it."""

    kv_ZBHPC: Tensor  # Z = 2 Y: key and value of layer 0, of layer 1, ...
    mask_BP: Tensor  # int64, 1 = real
    next_position_B1: Tensor  # int64

    @property
    def length(self) -> int:
        """Cached tokens, holes included."""
        return int(self.mask_BP.shape[1])

    def rows(self, index: Sequence[int]) -> DeviceCache:
        """The caches of some of the requests."""
        chosen = torch.tensor(index, device=self.mask_BP.device)
        return DeviceCache(self.kv_ZBHPC[:, chosen], self.mask_BP[chosen], self.next_position_B1[chosen])


@dataclass(frozen=True, eq=False)
class _Bucket:
    """Buffers of one combination of lengths, and the recording made with them."""

    inputs: dict[str, Tensor]
    past_ZBHPC: Tensor
    hidden_BTD: Tensor
    present_ZBHXC: Tensor
    binding: Any
    graph_id: int


class OrtBackbone(ORTModelForCausalLM):  # type: ignore[misc]
    """The backbone with its token table and LM head."""

    def __init__(
        self,
        config: Qwen2Config,
        backbone: BoundSession,
        embedding: BoundSession,
        lm_head: Callable[[], BoundSession],
        *,
        buckets: bool = False,
    ) -> None:
        """Joins the three.

        Args:
            config: Sizes.
            backbone: The layers.
            embedding: The token table.
            lm_head: Gives the LM head, which is loaded for text only.
            buckets: Round lengths up; without it every pass has its own lengths and nothing is recorded.
        """
        generation = GenerationConfig.from_model_config(config)
        super().__init__(config=config, session=backbone.session, use_io_binding=True, generation_config=generation)
        self.backbone, self.embedding, self.lm_head = backbone, embedding, lm_head
        self.place: Place = backbone.place
        self.work: torch.dtype = backbone.dtype("inputs_embeds")
        self.head_width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.buckets = buckets
        self._buckets: dict[tuple[int, int, int], _Bucket] = {}

    # ---- hidden states ----------------------------------------------------------------------------------------

    def empty_cache(self, batch: int, position: int = 0) -> DeviceCache:
        """Nothing read yet."""
        layers, heads = self.config.num_hidden_layers, self.config.num_key_value_heads
        device = self.place.device
        return DeviceCache(
            torch.empty(2 * layers, batch, heads, 0, self.head_width, dtype=self.work, device=device),
            torch.ones(batch, 0, dtype=torch.int64, device=device),
            torch.full((batch, 1), position, dtype=torch.int64, device=device),
        )

    def cache_of(self, keys_BYHPC: Tensor, values_BYHPC: Tensor) -> DeviceCache:
        """Keys and values of earlier tokens, which took no position but 0 (the tools), as a cache."""
        batch, layers, heads, past, width = keys_BYHPC.shape
        kv = torch.stack([keys_BYHPC, values_BYHPC], dim=2).permute(1, 2, 0, 3, 4, 5)
        device = self.place.device
        return DeviceCache(
            kv.reshape(2 * layers, batch, heads, past, width).to(device, self.work),
            torch.ones(batch, past, dtype=torch.int64, device=device),
            torch.ones(batch, 1, dtype=torch.int64, device=device),
        )

    def hidden(
        self,
        embeds_BTD: Tensor,
        cache: DeviceCache,
        lengths_B: Sequence[int] | None = None,
        *,
        recorded: bool = True,
    ) -> tuple[Tensor, DeviceCache]:
        """Hidden states (B, T, D) in float32 of new tokens behind a cache, and the longer cache.

        Args:
            embeds_BTD: Padded on the right.
            cache: What was read before.
            lengths_B: Real new tokens a request; all by default.
            recorded: Whether lengths like these will come again, so that recording their kernels pays.
        """
        batch, new = embeds_BTD.shape[:2]
        device = self.place.device
        steps_T = torch.arange(new, device=device)
        real_BT = torch.ones(batch, new, dtype=torch.int64, device=device)
        count_B1 = torch.full((batch, 1), new, dtype=torch.int64, device=device)
        if lengths_B is not None:
            count_B1 = torch.tensor(lengths_B, device=device).unsqueeze(1)
            real_BT = (steps_T < count_B1).to(torch.int64)
        positions_BT = cache.next_position_B1 + steps_T
        embeds_BTD = embeds_BTD.to(self.work)
        run = self._run_bucket if recorded and self.buckets else self._run_exact
        hidden_BTD, fresh_ZBHTC = run(embeds_BTD, real_BT, positions_BT, cache)
        longer = DeviceCache(
            torch.cat([cache.kv_ZBHPC, fresh_ZBHTC], dim=3),
            torch.cat([cache.mask_BP, real_BT], dim=1),
            cache.next_position_B1 + count_B1,
        )
        return hidden_BTD, longer

    def _run_exact(
        self, embeds_BTD: Tensor, real_BT: Tensor, positions_BT: Tensor, cache: DeviceCache
    ) -> tuple[Tensor, Tensor]:
        bucket = self._buffers(embeds_BTD.shape[0], embeds_BTD.shape[1], cache.length, graph_id=-1)
        self._fill(bucket, embeds_BTD, real_BT, positions_BT, cache)
        self.backbone.run_bound(bucket.binding)
        return bucket.hidden_BTD, bucket.present_ZBHXC[:, :, :, cache.length :]

    def _run_bucket(
        self, embeds_BTD: Tensor, real_BT: Tensor, positions_BT: Tensor, cache: DeviceCache
    ) -> tuple[Tensor, Tensor]:
        batch, new = embeds_BTD.shape[:2]
        key = batch, new_token_bucket(new), -(-cache.length // CACHE_BUCKET) * CACHE_BUCKET
        if key not in self._buckets:
            self._buckets[key] = self._buffers(*key, graph_id=len(self._buckets) + 1)
        bucket = self._buckets[key]
        self._fill(bucket, embeds_BTD, real_BT, positions_BT, cache)
        self.backbone.run_bound(bucket.binding, bucket.graph_id if self.backbone.cuda_graph else -1)
        past = key[2]
        return bucket.hidden_BTD[:, :new].clone(), bucket.present_ZBHXC[:, :, :, past : past + new]

    def _fill(
        self, bucket: _Bucket, embeds_BTD: Tensor, real_BT: Tensor, positions_BT: Tensor, cache: DeviceCache
    ) -> None:
        """Real tokens first, then a hole: masked, and zero, because not even a masked NaN is harmless."""
        new, past = embeds_BTD.shape[1], bucket.past_ZBHPC.shape[3]
        mask, embeds = bucket.inputs["attention_mask"].zero_(), bucket.inputs["inputs_embeds"]
        mask[:, : cache.length] = cache.mask_BP
        mask[:, past : past + new] = real_BT
        embeds[:, :new] = embeds_BTD
        embeds[:, new:] = 0
        bucket.inputs["position_ids"][:, :new] = positions_BT
        bucket.past_ZBHPC[:, :, :, : cache.length] = cache.kv_ZBHPC
        bucket.past_ZBHPC[:, :, :, cache.length :] = 0

    def _buffers(self, batch: int, new: int, past: int, graph_id: int) -> _Bucket:
        config, device = self.config, self.place.device
        heads, layers = config.num_key_value_heads, config.num_hidden_layers
        inputs = {
            "inputs_embeds": torch.zeros(batch, new, config.hidden_size, dtype=self.work, device=device),
            "attention_mask": torch.zeros(batch, past + new, dtype=torch.int64, device=device),
            "position_ids": torch.zeros(batch, new, dtype=torch.int64, device=device),
        }
        past_ZBHPC = torch.zeros(2 * layers, batch, heads, past, self.head_width, dtype=self.work, device=device)
        present_ZBHXC = torch.empty(
            2 * layers, batch, heads, past + new, self.head_width, dtype=self.work, device=device
        )
        hidden = torch.empty(batch, new, config.hidden_size, dtype=torch.float32, device=device)
        names = [f"{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
        binding = self.backbone.bind(
            inputs | {f"past_key_values.{name}": past_ZBHPC[z] for z, name in enumerate(names)},
            {"last_hidden_state": hidden} | {f"present.{name}": present_ZBHXC[z] for z, name in enumerate(names)},
        )
        return _Bucket(inputs, past_ZBHPC, hidden, present_ZBHXC, binding, graph_id)

    # ---- text -------------------------------------------------------------------------------------------------

    def embed(self, token_ids_BS: Tensor) -> Tensor:
        """(B, S) to (B, S, D)."""
        out = torch.empty(
            *token_ids_BS.shape, self.config.hidden_size, dtype=self.embedding.dtype("embeds"), device=self.place.device
        )
        self.embedding.run({"token_ids": token_ids_BS.contiguous()}, {"embeds": out})
        return out

    def logits(self, hidden_BD: Tensor) -> Tensor:
        """Hidden states (B, D) to the next token's logits (B, W)."""
        out = torch.empty(hidden_BD.shape[0], self.config.vocab_size, dtype=torch.float32, device=self.place.device)
        self.lm_head().run({"hidden": hidden_BD.contiguous()}, {"logits": out})
        return out

    # ---- Optimum and transformers -----------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: DeviceCache | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Ids or embeddings of new tokens to the last position's logits (B, 1, W), all hidden states and the cache."""
        if input_ids is not None and inputs_embeds is None:
            embeds = self.embed(input_ids)
        elif inputs_embeds is not None and input_ids is None:
            embeds = inputs_embeds
        else:
            raise ValueError("exactly one of input_ids and inputs_embeds is needed")
        cache = past_key_values or self.empty_cache(embeds.shape[0])
        hidden, longer = self.hidden(embeds, cache)
        logits = self.logits(hidden[:, -1]).unsqueeze(1)
        return CausalLMOutputWithPast(logits=logits, past_key_values=longer, hidden_states=(hidden,))

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: DeviceCache | None = None,
        inputs_embeds: Tensor | None = None,
        cache_position: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """What ``generate`` feeds next: the whole prompt at first, then the newest token.

        A cache given to ``generate`` is a prefix (the tools) that stands before the prompt; a prompt of embeddings (the
        curve's virtual tokens and the task) comes with no ids yet.
        """
        if inputs_embeds is not None and input_ids.shape[1] == 0:
            return {"inputs_embeds": inputs_embeds, "past_key_values": past_key_values}
        fresh = 1 if inputs_embeds is not None or cache_position is None else len(cache_position)
        return {"input_ids": input_ids[:, -fresh:], "past_key_values": past_key_values}


def new_token_bucket(count: int) -> int:
    """The smallest bucket that holds ``count`` new tokens; above the largest, a multiple of it."""
    index = bisect_left(NEW_TOKEN_BUCKETS, count)
    largest = NEW_TOKEN_BUCKETS[-1]
    return NEW_TOKEN_BUCKETS[index] if index < len(NEW_TOKEN_BUCKETS) else -(-count // largest) * largest
