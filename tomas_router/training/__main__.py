"""Trains a router: ``tomas train`` and ``python -m tomas_router.training`` are the same command.

On several GPUs: ``accelerate launch -m tomas_router.training ...``, or ``torchrun --nproc-per-node N -m
tomas_router.cli train ...``; every process then draws ``train.batch_size`` requests a step.
"""

from __future__ import annotations

import argparse
import math
import os
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console

from tomas_router.config import RunConfig, TrainConfig, load_config
from tomas_router.features.known_tools import KnownTools
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.planner.engine import Calibration
from tomas_router.training.adapt import adapt, show
from tomas_router.training.artifacts import load_start, trained_on_of
from tomas_router.training.checkpoint import (
    load_checkpoint,
    save_checkpoint,
    save_statistics,
    write_ending,
    write_known_tools,
    write_trained_on,
)
from tomas_router.training.loop import Trainer, fit_statistics, with_calibration
from tomas_router.training.processes import Processes
from tomas_router.training.request_words import fit_request_words
from tomas_router.training.sources import validation_paths
from tomas_router.training.time_budget import TimeBudget
from tomas_router.training.tokenizer_source import tokenizer_for

CALIBRATION_ROWS = 64
"""Of each source's validation rows; ``tomas calibrate`` takes more, and the exported model, which is rounded."""


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(prog="tomas train", description=__doc__)
    p.add_argument("--config", type=Path, help="a YAML file of configs/")
    p.add_argument("--my-tools", type=Path, help="adapt the packaged model, or that of --init, to this registry")
    p.add_argument("--requests", type=Path, help="with --my-tools: rows to learn from, one JSON object a line")
    p.add_argument("--from-runs", type=Path, help="with --my-tools: recorded executions and corrections to learn from")
    p.add_argument(
        "--profiling", type=Path, help="with --my-tools: profiling.csv of the tools, brought up to date by --from-runs"
    )
    p.add_argument("--out", type=Path, default=Path("runs/latest"), help="run directory; an existing run resumes")
    p.add_argument("--init", type=Path, help="start from this checkpoint or exported model, not from the bare backbone")
    p.add_argument("--data-dir", action="append", default=[], help="folder with NAME.jsonl and NAME.tools.json")
    p.add_argument("--steps", type=int, help="overrides train.steps")
    p.add_argument(
        "--max-minutes",
        type=_minutes,
        metavar="M",
        help="be done, with the model written, after so many minutes: the schedule follows the clock where it is ahead "
        "of the steps",
    )
    p.add_argument(
        "--no-calibration",
        action="store_true",
        help="keep the start's numbers: on a rented machine, where `tomas calibrate` comes after the export",
    )
    p.add_argument("--prepared", type=Path, metavar="FILE", help="rows that `tomas prepare` wrote, instead of new ones")
    p.add_argument("--batch-size", type=int, help="overrides train.batch_size")
    p.add_argument("--seed", type=int, help="overrides train.seed")
    p.add_argument("--workers", type=int, help="overrides train.workers: processes that prepare batches")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"must be minutes, over 0, got {text!r}")
    return minutes


def configure(args: argparse.Namespace) -> RunConfig:
    """The file's configuration with the command line's changes.

    Raises:
        ValueError: The file has no ``train`` section.
    """
    config = load_config(args.config)
    if config.train is None:
        raise ValueError(f"{args.config}: a 'train' section is needed to train; see configs/embedded.yaml")
    changes = {
        "steps": args.steps,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "workers": args.workers,
        "data_dirs": tuple(args.data_dir) or None,
        "prepared": str(args.prepared) if args.prepared else None,
    }
    train = config.train.model_dump() | {k: v for k, v in changes.items() if v is not None}
    return config.model_copy(update={"train": TrainConfig.model_validate(train)})


def build_trainer(
    config: RunConfig, args: argparse.Namespace, processes: Processes, budget: TimeBudget | None = None
) -> Trainer:
    """A trainer at the start of the run, from a backbone or from ``--init``."""
    device = processes.device
    if args.init:
        start = load_start(args.init, device)
        return Trainer(start.model, config, start.tokenizer_path, start.statistics, args.out, device, processes, budget)
    model = TOMASLLMModel.from_config(config.model).to(device)
    if processes.is_first:
        tokenizer_for(config.model.backbone, args.out)  # writes a hub's tokenizer, which the others then read
    processes.wait()
    tokenizer = tokenizer_for(config.model.backbone, args.out)
    trainer = Trainer(model, config, tokenizer, fit_statistics(config), args.out, device, processes, budget)
    if not (args.out / "checkpoint").exists():
        trainer.warm_up_retrieval()
        trainer.initialise_heads()
    return trainer


def adapt_to(args: argparse.Namespace) -> int:
    """Adapts a model to the user's tools and shows what that changed."""
    # By name, because the evaluation is a layer above.
    measure = import_module("tomas_router.evaluation.held_out").measure
    chosen = {"steps": args.steps, "batch_size": args.batch_size, "seed": args.seed}
    options = {name: value for name, value in chosen.items() if value is not None}
    options |= {"runs": args.from_runs, "profiling": args.profiling}
    adapted = adapt(args.my_tools, args.requests, args.out, measure, start=args.init, device=args.device, **options)
    show(adapted, Console())
    return 0


def main(argv: list[str] | None = None) -> int:
    """Trains, calibrates on validation rows and writes ``OUT/final``."""
    parsed = parser()
    args = parsed.parse_args(argv)
    budget = TimeBudget(args.max_minutes, calibrates=not args.no_calibration) if args.max_minutes else None
    if args.my_tools or args.requests or args.from_runs:
        if not (args.my_tools and (args.requests or args.from_runs)):
            parsed.error("--my-tools belongs together with --requests, --from-runs, or both")
        if args.max_minutes or args.prepared or args.no_calibration:
            parsed.error("--max-minutes, --prepared and --no-calibration belong to --config; --my-tools takes --steps")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            parsed.error("--my-tools trains for minutes, in one process: start it without a launcher")
        return adapt_to(args)
    if not args.config:
        parsed.error("--config is needed, or --my-tools with --requests or --from-runs")
    config = configure(args)
    assert config.train is not None
    processes = Processes.join(args.device)
    torch.manual_seed(config.train.seed)
    # TF32 where there is a GPU; nothing changes on a CPU
    torch.set_float32_matmul_precision("highest" if config.train.precision == "fp32" else "high")
    trainer = build_trainer(config, args, processes, budget)
    if trainer.resume() and processes.is_first:
        print(f"resumed {args.out} at step {trainer.step}")
    trainer.run()
    if processes.is_first:
        write_final(trainer, args)
    processes.wait()
    processes.leave()
    return 0


def write_final(trainer: Trainer, args: argparse.Namespace) -> None:
    """Writes the trained model to ``OUT/final`` and calibrates it there, unless told not to."""
    final = args.out / "final"
    save_checkpoint(final, trainer.model, trainer.statistics, trainer.tokenizer_path, [])
    write_trained_on(final, trainer.sampler.names, trained_on_of(args.init) if args.init else ())
    before = KnownTools.read(args.init) if args.init else KnownTools()
    words = fit_request_words(
        trainer.sampler.sources.values(),
        None if before is None else before.words,
        seed=trainer.train_config.seed,
        device=trainer.device,
    )
    write_known_tools(final, trainer.sampler.familiar_tools(), words, before)
    calibration = trainer.statistics.calibration if args.no_calibration else calibrate_final(trainer, final)
    ending = trainer.ending()
    write_ending(final, ending)
    print(f"wrote {final}; calibration {calibration}; {ending}")


def calibrate_final(trainer: Trainer, final: Path) -> Calibration:
    """Fits the numbers of the model that was just written, on validation rows, and writes them beside it."""
    budget = trainer.budget
    # By name, because engines and the evaluation are layers above.
    evaluation = import_module("tomas_router.evaluation.calibrate")
    engine = import_module("tomas_router.engines.torch_engine").TorchEngine(load_checkpoint(final, trainer.device))
    paths = validation_paths(list(trainer.train_config.mixture), trainer.train_config.data_dirs)
    asked = paths if budget is None else budget.while_time_is_left(paths)
    found = evaluation.calibrate(engine, (evaluation.last_rows(path, CALIBRATION_ROWS) for path in asked))
    calibration: Calibration = found[0]
    save_statistics(final, with_calibration(trainer.statistics, calibration))
    return calibration


if __name__ == "__main__":
    raise SystemExit(main())
