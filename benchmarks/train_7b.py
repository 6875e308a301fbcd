"""What it costs to train beside Qwen2.5-7B: tokens a second, peak GPU memory, minutes for 20,000 requests.

``python -m benchmarks.train_7b [--out FILE] [--batch-size N] [--steps N] [--parts NAME ...] [--device cuda] [--tiny]``

The backbone has the exact shape of Qwen2.5-7B and random weights in bfloat16: speed and memory do not depend on what
the weights say. Requests and tools are the shipped ones, tokenised by the packaged tokenizer. Each part trains twice on
the same batches: the first pass meets every text for the first time, the second finds in memory what frozen layers say
of them. A batch size that does not fit is halved. ``--tiny`` shrinks the shape until a CPU can train it, to see that it
runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from transformers import Qwen2Config, Qwen2ForCausalLM

from tomas_router.config import BackboneConfig, ModelConfig, RunConfig, load_config
from tomas_router.model.backbone import QwenBackbone
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.shipped import model_dir
from tomas_router.training.loop import Trainer, fit_statistics
from tomas_router.training.tensors import Prepared

CONFIG = Path(__file__).parents[1] / "configs" / "default.yaml"
QWEN_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
TINY = QWEN_7B | {
    "vocab_size": 49152,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
EPOCH = 20_000
SMALLEST_BATCH = 4


@dataclass(frozen=True)
class Part:
    """One way to train."""

    mode: str
    text_layers: int
    checkpointing: bool


PARTS = {
    "heads": Part("heads", 0, False),
    "heads, 20 text layers": Part("heads", 20, False),
    "lora": Part("lora", 0, True),
}


@dataclass(frozen=True)
class Pass:
    """A number of steps, timed together; tokens are those of texts and plans, padding not counted."""

    tokens_per_s: float
    requests_per_s: float
    seconds_per_step: float
    minutes_for_20000_requests: float


def run_config(part: Part, batch_size: int, device: str, tiny: bool) -> RunConfig:
    """The production preset in a part's way."""
    preset = load_config(CONFIG)
    assert preset.train is not None
    sizes = TINY if tiny else QWEN_7B
    backbone = BackboneConfig(
        source="random",
        sizes={name: int(value) for name, value in sizes.items()},
        text_layers=min(part.text_layers, sizes["num_hidden_layers"] - 1),
        dtype="bfloat16",
        device_map=device,
    )
    tool = preset.model.tool.model_copy(update={"d_resource": 8}) if tiny else preset.model.tool
    train = preset.train.model_copy(
        update={
            "mode": part.mode,
            "precision": "bf16",
            "gradient_checkpointing": part.checkpointing,
            "batch_size": batch_size,
            "pool_size": 12 if tiny else 64,
            "learning_rate": 1e-4,
            "steps": 1000,
        }
    )
    return RunConfig(model=preset.model.model_copy(update={"backbone": backbone, "tool": tool}), train=train)


def build(config: ModelConfig, device: str) -> TOMASLLMModel:
    """The network, its backbone made on the device at once: on a CPU alone that takes minutes."""
    assert config.backbone.sizes is not None
    sizes = Qwen2Config(**config.backbone.sizes)
    sizes._attn_implementation = "sdpa"
    with torch.device(device), _default_type(torch.bfloat16):
        language_model = Qwen2ForCausalLM(sizes)
    return TOMASLLMModel(config, QwenBackbone(language_model, config.backbone.text_layers)).to(device)


@contextmanager
def _default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def tokens_of(prepared: Prepared) -> int:
    """Real tokens that a step reads: tool texts, each tool as one token, curves, requests and plans."""
    tools, forcing = prepared.tools, prepared.forcing
    return int(tools.mask_NL.sum()) + tools.mask_NL.shape[0] + int(forcing.layout_mask_BT.sum())


def timed(trainer: Trainer, steps: int, device: str, console: Console, label: str) -> tuple[Pass, list[float]]:
    """Trains on batches 0 to ``steps`` - 1; the losses of the tool choice beside the times."""
    drawn = [trainer.feed[number] for number in range(steps)]  # a run prepares them in other processes
    losses = []
    _synchronise(device)
    started = time.monotonic()
    for trainer.step in range(steps):
        losses.append(float(trainer.train_step([drawn[trainer.step]]).get("tool", torch.tensor(float("nan")))))
        if (trainer.step + 1) % 4 == 0 or trainer.step + 1 == steps:
            console.print(f"  {label}: step {trainer.step + 1}/{steps}, {time.monotonic() - started:.1f} s")
    _synchronise(device)
    seconds = time.monotonic() - started
    tokens, requests = sum(map(tokens_of, drawn)), sum(len(p.batch.examples) for p in drawn)
    minutes = EPOCH / (requests / seconds) / 60
    return Pass(
        round(tokens / seconds), round(requests / seconds, 2), round(seconds / steps, 3), round(minutes, 2)
    ), losses


def measure(part: Part, batch_size: int, steps: int, device: str, tiny: bool, console: Console) -> dict[str, Any]:
    """Both passes of a part, after one step that warms the device up, and what memory they took."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    config = run_config(part, batch_size, device, tiny)
    torch.manual_seed(0)
    started = time.monotonic()
    model = build(config.model, device)
    _synchronise(device)
    count = sum(p.numel() for p in model.parameters())
    console.print(f"  {count / 1e9:.2f} billion parameters ready after {time.monotonic() - started:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = model_dir() / "tokenizer.json"
        trainer = Trainer(model, config, tokenizer, fit_statistics(config), Path(folder), device)
        trainer.initialise_heads(1)
        trainer.step = steps  # a batch that neither pass uses
        trainer.train_step()
        first, losses = timed(trainer, steps, device, console, "first pass")
        second, later = timed(trainer, steps, device, console, "second pass")
    return {
        "batch_size": batch_size,
        "steps": steps,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": count,
        "first_pass": asdict(first),
        "second_pass": asdict(second),
        "tool_loss_first_pass": [round(loss, 4) for loss in losses],
        "tool_loss_second_pass": [round(loss, 4) for loss in later],
        "peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device.startswith("cuda") else None,
    }


def measure_what_fits(
    part: Part, batch_size: int, steps: int, device: str, tiny: bool, console: Console
) -> dict[str, Any]:
    """As ``measure``, with the largest half, quarter, ... of the batch size that the memory holds."""
    while True:
        try:
            return measure(part, batch_size, steps, device, tiny, console)
        except torch.OutOfMemoryError:
            if batch_size // 2 < SMALLEST_BATCH:
                raise
            batch_size //= 2
            console.print(f"  out of memory; again with {batch_size} requests a step")
        finally:
            gc.collect()
            if device.startswith("cuda"):
                torch.cuda.empty_cache()


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def machine(device: str) -> dict[str, str]:
    """What the numbers belong to."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "transformers": transformers.__version__}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_7b", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("train_7b.json"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12, help="in each pass")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="a shape that a CPU can train, to see that it runs")
    args = parser.parse_args(argv)
    if args.device == "cpu" and not args.tiny:
        parser.error("a backbone of this shape needs a GPU; --tiny shows that the script runs")
    torch.set_float32_matmul_precision("high")
    console = Console()
    record: dict[str, Any] = {"machine": machine(args.device), "shape": TINY if args.tiny else QWEN_7B, "parts": {}}
    for name in args.parts:
        console.print(f"{name} ({record['machine']['device']})")
        found = measure_what_fits(PARTS[name], args.batch_size, args.steps, args.device, args.tiny, console)
        record["parts"][name] = asdict(PARTS[name]) | found
        args.out.write_text(json.dumps(record, indent=1) + "\n")  # a part that fails loses none before it
        for which in ("first_pass", "second_pass"):
            numbers = found[which]
            console.print(
                f"  {which.replace('_', ' ')}: {numbers['tokens_per_s']:,} tokens/s, "
                f"{numbers['requests_per_s']} requests/s, "
                f"{numbers['minutes_for_20000_requests']} minutes for 20,000 requests"
            )
        console.print(f"  peak GPU memory: {found['peak_gpu_gib']} GiB; batches of {found['batch_size']}")
    console.print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
