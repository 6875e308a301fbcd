"""Where a step waits for its batch, and what preparing batches in other processes brings, in one run on one machine.

``python -m benchmarks.train_feed [--workers 0 1 2] [--steps N] [--out FILE] [--device cuda] [--tiny] [--profile]``

The model and the settings are those of ``benchmarks.train_scaling``, trained by one process. ``--profile`` prints where
the CPU time of a batch goes (cProfile) instead.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.train_7b import machine
from benchmarks.train_scaling import add_arguments, measure, run_config
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.shipped import model_dir
from tomas_router.training.loop import Trainer, fit_statistics
from tomas_router.training.processes import Processes

PROFILED_BATCHES = 20
SHOWN = 25


def profile(args: argparse.Namespace, folder: Path) -> None:
    """Prints the functions in which preparing batches spends most time."""
    config = run_config(args)
    model = TOMASLLMModel.from_config(config.model)
    trainer = Trainer(model, config, model_dir() / "tokenizer.json", fit_statistics(config), folder)
    trainer.feed[0]
    profiler = cProfile.Profile()
    profiler.enable()
    for number in range(1, PROFILED_BATCHES + 1):
        trainer.feed[number]
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(SHOWN)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_feed", description=__doc__)
    add_arguments(parser, "train_feed.json")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, help="requests a step; by default the preset's")
    parser.add_argument("--profile", action="store_true", help="print where the time of a batch goes, and no more")
    args = parser.parse_args(argv)
    console, counts, results = Console(), args.workers, []
    with tempfile.TemporaryDirectory() as folder:
        if args.profile:
            args.workers = None
            profile(args, Path(folder))
            return 0
        for count in counts:
            args.workers = count
            config = run_config(args)
            assert config.train is not None
            changes = {"workers": count, "batch_size": args.batch_size or config.train.batch_size}
            config = config.model_copy(update={"train": config.train.model_copy(update=changes)})
            found = measure(config, Processes(device=args.device), args.steps, args.warm_up, Path(folder))
            results.append({"workers": count} | found)
            console.print(results[-1])
    record = {"machine": machine(args.device) | {"cpu_cores": os.cpu_count()}, "results": results}
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
