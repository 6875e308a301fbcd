"""How much host memory an export of layout ``optimum`` takes, said before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import Qwen2Config

from export.fused_qwen2 import DTYPES, Precision, head_dim
from tomas_router.config import ModelConfig
from tomas_router.errors import TomasRouterError
from tomas_router.runtime.cgroup import memory_levels

GIB = 2**30
BASE_BYTES = int(1.2 * GIB)
"""Python, torch, transformers, Optimum and ONNX Runtime with nothing to do; 0.7 GiB were measured."""
TRACED_COPIES = 4
"""Of the two layers that are traced: the module's, the exporter's, the serialised graph and its parsed form."""
LARGEST_TENSOR_BYTES = 4 + 4 + 4
"""A number of the largest tensor, while its stored form, its float32 form with LoRA and its bytes lie side by side."""
ROUNDING_BYTES = 40
"""A number of a matrix that is rounded to blocks: float32 copies that numpy makes, tried scales, and the result."""
PARITY_BYTES = 16
"""A backbone number while the checkpoint is read into torch (twice in float32), and then ONNX Runtime's beside it."""
PANEL_BYTES = 16
"""A number of the panels: module, traced graph and its bytes."""
MEMINFO = Path("/proc/meminfo")


class HostMemoryError(TomasRouterError):
    """The machine has less free memory than an export needs."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of host memory at the worst moment."""

    export: int
    parity: int
    """While parity is checked; 0 where it is not."""

    @property
    def total(self) -> int:
        """The larger of the two: they come one after the other."""
        return max(self.export, self.parity)


def memory_need(
    config: ModelConfig, backbone: Qwen2Config, precision: Precision, *, parity: bool, rounds: bool = False
) -> MemoryNeed:
    """What exporting a checkpoint of these sizes takes; ``rounds`` where weights are stored in blocks."""
    table = backbone.vocab_size * backbone.hidden_size
    layer = layer_numbers(backbone)
    panels = PANEL_BYTES * panel_numbers(config, backbone)
    traced = 2 * layer * DTYPES[precision].itemsize * TRACED_COPIES
    largest = LARGEST_TENSOR_BYTES * max(table, backbone.hidden_size * backbone.intermediate_size)
    if rounds:
        matrix = backbone.hidden_size * max(backbone.intermediate_size, 3 * backbone.hidden_size)
        largest = max(largest, (LARGEST_TENSOR_BYTES + ROUNDING_BYTES) * matrix)
    whole = backbone.num_hidden_layers * layer + table * (1 if backbone.tie_word_embeddings else 2)
    return MemoryNeed(
        BASE_BYTES + panels + max(traced, largest),
        BASE_BYTES + panels + PARITY_BYTES * whole if parity else 0,
    )


def layer_numbers(backbone: Qwen2Config) -> int:
    """Of one layer of the backbone."""
    d_model, width = backbone.hidden_size, head_dim(backbone)
    query, kv = backbone.num_attention_heads * width, backbone.num_key_value_heads * width
    attention = 2 * d_model * query + 2 * d_model * kv + query + 2 * kv
    return attention + 3 * d_model * backbone.intermediate_size + 2 * d_model


def panel_numbers(config: ModelConfig, backbone: Qwen2Config) -> int:
    """Of encoders and heads, rounded up: matrices of the model's width by the widths of the configuration."""
    d_model, heads = backbone.hidden_size, config.heads
    widths = 6 * heads.d_key + 8 * heads.d_hidden + 2 * heads.d_retrieval + 2 * config.tool.d_resource
    curve = (config.temporal.virtual_tokens + 8) * config.temporal.d_temporal
    set_attention = 14 * d_model * d_model
    return d_model * (widths + curve) + set_attention + backbone.vocab_size


def check_memory(need: MemoryNeed, free: int) -> None:
    """Refuses to begin what could not end.

    Raises:
        HostMemoryError: Less is free than is needed; says both and what would help.
    """
    if free >= need.total:
        return
    advice = "free memory, or export on a larger machine"
    if need.parity > need.export and free >= need.export:
        advice = f"free memory, or leave the comparison out (--no-parity needs {gib(need.export)})"
    raise HostMemoryError(f"the export needs up to {gib(need.total)} of host memory, {gib(free)} are free: {advice}")


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, and of every control group above it."""
    levels = [level.limit_bytes - level.used_bytes for level in memory_levels()]
    return min([_available(), *levels])


def _available() -> int:
    for line in MEMINFO.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{MEMINFO} has no MemAvailable")


def gib(size: int) -> str:
    """For people."""
    return f"{size / GIB:.1f} GiB"
