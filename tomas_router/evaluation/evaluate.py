"""``tomas eval``: measures a model on labelled files, beside trivial baselines, and writes a report."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tomas_router.errors import MissingExtraError
from tomas_router.evaluation.asking import Settings
from tomas_router.evaluation.judge import judge
from tomas_router.evaluation.minilm import installed_minilm
from tomas_router.evaluation.report import Report
from tomas_router.evaluation.router import Router
from tomas_router.evaluation.sources import EvalSource, load_source
from tomas_router.planner.planner import Planner
from tomas_router.shipped import instructions_path


def run(
    router: Router, sources: Sequence[EvalSource], *, model: str, split: str, settings: Settings, command: str = ""
) -> Report:
    """Scores a planner on every source.

    Args:
        router: For example a ``Planner``.
        sources: What to score on.
        model: What the report calls the planner.
        split: Which split the sources were read at; written into the report.
        settings: Seed, baselines and progress.
        command: How to get this report again; written into it.
    """
    report = Report(model, split, settings.seed, command)
    report.sources += [judge(source, router, settings) for source in sources]
    return report


def open_planner(directory: Path | None, engine: str) -> Planner:
    """A planner with an exported model, by default the packaged one, or with a training checkpoint.

    Raises:
        UntrainedModelError: There is no trained model in the directory.
        MissingExtraError: The engine's packages are not installed.
    """
    if engine == "onnx":
        return Planner.load(directory)
    try:  # by name: only a checkpoint needs torch, and nothing else of the evaluation may
        torch_engine = import_module("tomas_router.engines.torch_engine")
    except ImportError as error:
        raise MissingExtraError('--engine torch needs torch: pip install "tomas-router[train]"') from error
    return Planner(torch_engine.TorchEngine.load(directory))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns an exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.engine == "torch" and args.model is None:
        parser.error("--engine torch needs --model CHECKPOINT")
    paths = args.data or [instructions_path(args.split)]
    sources = [load_source(path, args.split, args.registry, args.profiling, args.limit) for path in paths]
    encoder = None if args.no_baselines or args.no_minilm else installed_minilm()
    planner = open_planner(args.model, args.engine)
    settings = Settings(
        seed=args.seed,
        baselines=not args.no_baselines,
        encoders=() if encoder is None else (encoder,),
        progress=_progress,
    )
    model = f"{planner.engine.name}@{planner.engine.fingerprint}"
    report = run(planner, sources, model=model, split=args.split, settings=settings, command=_command(arguments))
    report.show(Console())
    if args.out is not None:
        report.save(args.out)
        Console(stderr=True).print(f"wrote {args.out / 'report.json'} and {args.out / 'report.md'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tomas eval", description=__doc__)
    parser.add_argument("--model", type=Path, help="directory of an exported model; default: the packaged one")
    parser.add_argument(
        "--engine", choices=("onnx", "torch"), default="onnx", help="torch runs a training checkpoint (default: onnx)"
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", help="NAME.jsonl files; default: the shipped instructions of the split"
    )
    parser.add_argument("--split", default="val", help="only rows of this split are scored (default: val)")
    parser.add_argument("--registry", type=Path, help="tools.json for all files; default: found beside each")
    parser.add_argument("--profiling", type=Path, help="profiling.csv for all files; default: shipped, for our own")
    parser.add_argument("--limit", type=int, help="score only the first N rows of each file")
    parser.add_argument("--out", type=Path, help="folder for report.json and report.md")
    parser.add_argument("--seed", type=int, default=0, help="of curves and intervals")
    parser.add_argument("--no-baselines", action="store_true", help="score the model alone")
    parser.add_argument("--no-minilm", action="store_true", help="leave out MiniLM where it is installed; it is slow")
    return parser


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["tomas", "eval", *arguments])


def _progress(items: Iterable[object], text: str, total: int) -> Iterator[object]:
    """A bar on stderr that vanishes when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=total)
        for item in items:
            yield item
            progress.advance(task)
