"""How much faster several processes train than one, one GPU each, in one run on one machine.

``python -m benchmarks.train_scaling [--processes 2] [--steps N] [--out FILE] [--device cuda] [--tiny]``

The packaged model's shape with random weights, trained as ``configs/embedded.yaml`` says on what the project wrote. The
processes start once: first number 0 trains alone while the others wait, then all train together. Every process draws
``train.batch_size`` requests a step, so samples a second are what to compare. ``--tiny`` shrinks everything for a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.train_7b import machine
from tomas_router.config import BackboneConfig, RunConfig, load_config
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.shipped import model_dir
from tomas_router.training.loop import Trainer, fit_statistics
from tomas_router.training.processes import Processes

CONFIG = Path(__file__).parents[1] / "configs" / "embedded.yaml"
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "tie_word_embeddings": True,
}
TINY = SMOLLM2 | {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
WARM_UP_STEPS = 10


def run_config(args: argparse.Namespace) -> RunConfig:
    """The embedded preset on our own data."""
    preset = load_config(CONFIG)
    assert preset.train is not None
    layers, text_layers = (3, 1) if args.tiny else (preset.model.backbone.num_layers, preset.model.backbone.text_layers)
    assert layers is not None
    sizes = (TINY if args.tiny else SMOLLM2) | {"num_hidden_layers": layers}
    backbone = BackboneConfig(source="random", sizes=sizes, text_layers=text_layers)
    smaller = {"batch_size": 4, "pool_size": 12, "workers": 0, "mixture": {"own": 1.0}} if args.tiny else {}
    tool = preset.model.tool.model_copy(update={"d_resource": 8}) if args.tiny else preset.model.tool
    changes = {
        "mixture": {"own": 0.55, "worlds": 0.45},
        "generated_rows": 0,
        "generated_world_rows": 4000,
        "precision": args.precision or preset.train.precision,
        "workers": preset.train.workers if args.workers is None else args.workers,
    } | smaller
    return RunConfig(
        model=preset.model.model_copy(update={"backbone": backbone, "tool": tool}),
        train=preset.train.model_copy(update=changes),
    )


def measure(config: RunConfig, processes: Processes, steps: int, warm_up: int, folder: Path) -> dict[str, Any]:
    """Steps and samples a second of all these processes together, after steps that are not counted."""
    assert config.train is not None
    torch.manual_seed(0)
    model = TOMASLLMModel.from_config(config.model).to(processes.device)
    tokenizer = model_dir() / "tokenizer.json"
    trainer = Trainer(model, config, tokenizer, fit_statistics(config), folder, processes.device, processes)
    samples, started, waited = 0, 0.0, 0.0
    numbers = trainer.batch_numbers(0, warm_up + steps)
    fed = trainer.feed.batches(numbers, config.train.workers)
    for trainer.step in range(warm_up + steps):
        if trainer.step == warm_up:
            _synchronise(processes)
            started, samples, waited = time.monotonic(), 0, 0.0
        asked = time.monotonic()
        prepared = next(fed)
        waited += time.monotonic() - asked
        samples += len(prepared.batch.examples)
        trainer.train_step([prepared])
    _synchronise(processes)
    seconds = time.monotonic() - started
    total, waiting = processes.sums(torch.tensor([float(samples), waited])).tolist()
    return {
        "processes": processes.count,
        "steps": steps,
        "seconds": round(seconds, 3),
        "steps_per_s": round(steps / seconds, 3),
        "samples_per_s": round(total / seconds, 1),
        "share_of_time_waiting_for_batches": round(waiting / processes.count / seconds, 3),
    }


def work(args: argparse.Namespace) -> None:
    """What each of the launched processes does; the first one writes."""
    processes = Processes.join(args.device)
    torch.set_float32_matmul_precision("high")
    config, console = run_config(args), Console()
    assert config.train is not None
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for among in (Processes(device=processes.device), processes):
            if processes.is_first:
                console.print(f"{among.count} process(es): {args.warm_up} steps unmeasured, then {args.steps} ...")
            if processes.is_first or among.count > 1:
                results.append(measure(config, among, args.steps, args.warm_up, Path(folder)))
                gc.collect()
                if processes.is_first:
                    console.print(f"  {results[-1]}")
            processes.wait()
    if processes.is_first:
        alone, together = results
        record = {
            "machine": machine(args.device) | {"cpu_cores": os.cpu_count()},
            "precision": config.train.precision,
            "workers_a_process": config.train.workers,
            "results": results,
            "speed_up": round(together["samples_per_s"] / alone["samples_per_s"], 3),
        }
        args.out.write_text(json.dumps(record, indent=1) + "\n")
        console.print(f"{together['processes']} processes train {record['speed_up']} times as fast as one")
        console.print(f"wrote {args.out}")
    processes.leave()


def _synchronise(processes: Processes) -> None:
    if processes.device.startswith("cuda"):
        torch.cuda.synchronize()
    processes.wait()


def add_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """What every benchmark of training takes; ``out`` is where its record goes by default."""
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm-up", type=int, default=WARM_UP_STEPS)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], help="by default the preset's")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="a shape that a CPU can train, to see that it runs")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_scaling", description=__doc__)
    add_arguments(parser, "train_scaling.json")
    parser.add_argument("--processes", type=int, default=2, help="how many to compare with one")
    parser.add_argument("--workers", type=int, help="processes that prepare batches, for each that trains")
    args = parser.parse_args(argv)
    if "LOCAL_RANK" in os.environ:
        work(args)
        return 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.processes)]
    command = [*launcher, "-m", "benchmarks.train_scaling", *(sys.argv[1:] if argv is None else argv)]
    return subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
