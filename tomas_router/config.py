"""Configuration of the network and of training, read once from YAML and frozen.

Sizes that follow from the backbone (its width, layers, vocabulary) are read from it, never repeated here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneConfig(_Frozen):
    """A causal language model in the Qwen2 layout."""

    source: str
    """Hub id, local directory, or ``random`` with ``sizes``."""
    num_layers: int | None = None
    """Keep only the first layers of the source; None keeps all."""
    text_layers: int = 0
    """The first so many layers read text alone; tools, curve and plan enter above them.

    A text's states at that depth depend on nothing else: a frozen lower part is computed once per text in training,
    plan steps run only the upper layers, and the tool prefix is cached for those alone.
    """
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device_map: str | None = None
    """``None`` = CPU, otherwise as transformers takes it (``cuda``, ``auto``)."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    sizes: dict[str, bool | int] | None = None
    """Qwen2Config fields for ``source: random`` (tests, benchmarks)."""

    @model_validator(mode="after")
    def _sizes_belong_to_random(self) -> BackboneConfig:
        if (self.source == "random") != (self.sizes is not None):
            raise ValueError("backbone.sizes is required with source 'random' and forbidden otherwise")
        return self


class ToolConfig(_Frozen):
    """Left panel: what a tool is and what it costs."""

    encoder: Literal["text", "name"] = "text"
    text_depth: Literal["backbone", "embeddings"] = "backbone"
    """Whether tool text passes the backbone's layers or only its token embeddings."""
    d_resource: int
    """Width of v_resource; v_tool takes the rest of the model width."""
    max_tokens: int = 64
    max_rows: int = 24
    row_scaling: Literal["zscore", "minmax"] = "zscore"
    set_heads: int = 4


class TemporalConfig(_Frozen):
    """Centre panel: the curve."""

    points: int = 96
    kernels: tuple[int, ...] = (3, 5, 7)
    channels: int = 64
    """Per kernel size."""
    d_temporal: int = 256
    normalisation: Literal["minmax", "standard", "none"] = "standard"
    virtual_tokens: int = 4


class HeadsConfig(_Frozen):
    """Right panel."""

    d_key: int = 384
    d_hidden: int = 256
    d_retrieval: int = 256
    task_pooling: Literal["mean", "max", "cls", "last"] = "mean"


class LatencyConfig(_Frozen):
    """How T_inf, the time the decision itself takes, is estimated."""

    mode: Literal["fixed", "rule", "learned"] = "fixed"
    fixed_ms: float = 500.0


class ModelConfig(_Frozen):
    """Everything that shapes the network."""

    name: str
    backbone: BackboneConfig
    tool: ToolConfig
    temporal: TemporalConfig = TemporalConfig()
    heads: HeadsConfig = HeadsConfig()
    latency: LatencyConfig = LatencyConfig()
    max_task_tokens: int = 192
    max_prefix_tools: int = 64
    max_steps: int = 12


class TrainConfig(_Frozen):
    """One training run."""

    mode: Literal["heads", "upper", "lora", "full"] = "full"
    """What of the backbone trains: nothing, the layers above ``text_layers``, low-rank matrices beside all layers, or
    all layers."""
    lora_rank: int = Field(default=16, ge=1)
    lora_alpha: float = Field(default=32.0, gt=0)
    """The low-rank product counts ``lora_alpha / lora_rank`` times."""
    seed: int = 7
    steps: int = 600
    batch_size: int = 64
    token_budget: int = 1_000_000
    """Padded request tokens a batch; sources with long requests get smaller batches."""
    pool_size: int = 96
    """Candidate tools that share a batch."""
    workers: int = 0
    """Processes that prepare batches; 0 prepares them between steps."""
    precision: Literal["fp32", "tf32", "bf16"] = "tf32"
    """What the backbone's layers compute in. Trained weights, their optimizer, heads, losses and similarities are kept
    in float32 in any case; ``tf32`` rounds the factors of products on GPUs that can."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches a step, one after the other; the step takes the mean of their gradients."""
    gradient_checkpointing: bool = False
    """The backbone's layers forget their activations and compute them again: less memory, a third more time."""
    learning_rate: float = 3e-4
    text_learning_rate: float | None = None
    """Of the layers that read text alone; where left out, that of the others. A gentle one keeps more of what they
    know about words that training never shows."""
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 40
    max_grad_norm: float = 1.0
    dropout: float = 0.0
    """Share of what attention and feed-forward blocks of training layers add that is dropped; in mode ``lora`` of what
    the low-rank matrices read."""
    average_decay: float = 0.98
    """Of the weights' running average, which is what is kept."""
    round_from: int | None = None
    """Step from which layers compute as ``export --quantize packed`` rounds them; where left out, never."""
    max_train_tool_tokens: int = 40
    max_train_task_tokens: int = 96
    mixture: dict[str, float]
    """Data source name to sampling weight; ``own`` is the shipped data, others are looked up in ``data_dirs``."""
    augmentation: dict[str, float] = {}
    """Shares that differ from those of ``training.batches.Augmentation``, by name: ``{drop_name: 0.3}``."""
    data_dirs: tuple[str, ...] = ()
    prepared: str | None = None
    """A file of rows that ``tomas prepare`` wrote with the same settings, read instead of composing them."""
    generated_rows: int = 0
    """Requests composed for this run from the training phrasings, beside the shipped rows of ``own``."""
    generated_world_rows: int = 36_000
    """English requests composed for this run over the worlds; those in other languages follow in proportion."""
    explanation_every: int = 8
    """Every n-th batch also trains the language-model head."""
    checkpoint_every: int = 100
    validate_every: int = 200
    retrieval_steps: int = 0
    """Steps that train the retrieval vectors alone before the run."""
    loss_weights: dict[str, float] = {}

    @model_validator(mode="after")
    def _rounded_layers_all_train(self) -> TrainConfig:
        # States of frozen layers are remembered unrounded, and LoRA's own matrices are not what an export rounds.
        if self.round_from is not None and self.mode != "full":
            raise ValueError(f"train.round_from needs train.mode 'full', got {self.mode!r}")
        return self


class RunConfig(_Frozen):
    """A YAML file of ``configs/``."""

    model: ModelConfig
    train: TrainConfig | None = None

    @model_validator(mode="after")
    def _trained_weights_have_a_type_to_compute_in(self) -> RunConfig:
        if self.train is None or self.train.precision == "bf16" or self.train.mode not in ("upper", "full"):
            return self
        if self.model.backbone.dtype != "float32":
            raise ValueError(
                f"train.precision must be 'bf16' where train.mode {self.train.mode!r} trains layers of backbone.dtype "
                f"{self.model.backbone.dtype!r} (they are kept in float32), got {self.train.precision!r}"
            )
        return self


def load_config(path: str | Path) -> RunConfig:
    """Reads and validates a YAML file.

    Raises:
        ValueError: The file is no mapping, or a field is unknown, missing or out of range; names file and field.
    """
    text = Path(path).read_text(encoding="utf-8")
    data: Any = yaml.safe_load(text)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a mapping with the key 'model' is expected, got {type(data).__name__}")
    try:
        return RunConfig.model_validate(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
