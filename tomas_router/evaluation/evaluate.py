"""``tomas eval``: measures a model on labelled files, beside trivial baselines, and writes a report."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tomas_router.evaluation.asking import Settings
from tomas_router.evaluation.compare import SavedReport, compare, comparison_grids, read_report, saved
from tomas_router.evaluation.grids import markdown, show
from tomas_router.evaluation.judge import judge
from tomas_router.evaluation.minilm import installed_minilm
from tomas_router.evaluation.page.comparison_page import comparison_page
from tomas_router.evaluation.page.report_page import report_page
from tomas_router.evaluation.pooling import pooled
from tomas_router.evaluation.remembered_vectors import RememberedVectors
from tomas_router.evaluation.report import OURS, Report
from tomas_router.evaluation.router import Router
from tomas_router.evaluation.sources import EvalSource, load_source
from tomas_router.evaluation.text_vectors import TextVectors
from tomas_router.extras import import_extra
from tomas_router.planner.planner import Planner
from tomas_router.shipped import instructions_path


def run(
    router: Router,
    sources: Sequence[EvalSource],
    *,
    model: str,
    split: str,
    settings: Settings,
    command: str = "",
    trained_on: tuple[str, ...] | None = None,
) -> Report:
    """Scores a planner on every source.

    Args:
        router: For example a ``Planner``.
        sources: What to score on.
        model: What the report calls the planner.
        split: Which split the sources were read at; written into the report.
        settings: Seed, baselines and progress.
        command: How to get this report again; written into it.
        trained_on: Names of the sources that the planner's model met in training; None = unknown.
    """
    report = Report(model, split, settings.seed, command, trained_on=trained_on)
    report.sources += [judge(source, router, settings) for source in sources]
    never_met = [s for s in report.sources if report.never_met(s) and "node_f1" in s.tallies[OURS]]
    report.unseen_registries = pooled(never_met, settings.seed)
    return report


def open_planner(directory: Path | None, engine: str, cache_dir: Path | None = None) -> Planner:
    """A planner with an exported model, by default the packaged one, or with a training checkpoint.

    Args:
        directory: The model or the checkpoint.
        engine: ``onnx`` or ``torch``.
        cache_dir: Keeps encoded tools for the next run.

    Raises:
        UntrainedModelError: There is no trained model in the directory.
        MissingExtraError: The engine's packages are not installed.
    """
    if engine == "onnx":
        return Planner.load(directory, cache_dir=cache_dir)
    # By name: only a checkpoint needs torch, and nothing else of the evaluation may.
    torch_engine = import_extra("tomas_router.engines.torch_engine", "train", "--engine torch needs torch")
    return Planner(torch_engine.TorchEngine.load(directory), cache_dir=cache_dir)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns an exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.engine == "torch" and args.model is None:
        parser.error("--engine torch needs --model CHECKPOINT")
    if args.report is not None and args.compare is None:
        parser.error("--report needs --compare OTHER/report.json")
    before = None if args.compare is None else read_report(args.compare)  # a wrong path shows before an hour of work
    if args.report is not None:
        now = read_report(args.report)
    else:
        report = _run(args, shlex.join(["tomas", "eval", *arguments]))
        show(report, Console())
        now = saved(report)
        if args.out is not None:
            save(report, args.out)
            say(f"wrote report.json, report.md and report.html in {args.out}")
    if before is not None:
        _compare(before, now, args)
    return 0


def _run(args: argparse.Namespace, command: str) -> Report:
    paths = args.data or [instructions_path(args.split)]
    held_out = () if args.held_out is None else args.held_out.read_text(encoding="utf-8").splitlines()
    sources = [load_source(path, args.split, args.registry, args.profiling, args.limit, held_out) for path in paths]
    planner = open_planner(args.model, args.engine, args.cache_dir)
    settings = Settings(
        seed=args.seed,
        baselines=not args.no_baselines,
        lists=not args.no_lists,
        encoders=() if args.no_minilm else installed_encoders(args.cache_dir),
        progress=_progress,
    )
    return run(
        planner,
        sources,
        model=f"{planner.engine.name}@{planner.engine.fingerprint}",
        split=args.split,
        settings=settings,
        command=command,
        trained_on=getattr(planner.engine, "trained_on", None),
    )


def installed_encoders(cache_dir: Path | None) -> tuple[TextVectors, ...]:
    """MiniLM where it is installed."""
    encoder = installed_minilm()
    if encoder is None:
        return ()
    return (encoder if cache_dir is None else RememberedVectors(encoder, cache_dir),)


def save(report: Report, folder: Path) -> None:
    """Writes ``report.json``, ``report.md`` and ``report.html``."""
    report.save(folder)
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.html").write_text(report_page(report), encoding="utf-8")


def _compare(before: SavedReport, now: SavedReport, args: argparse.Namespace) -> None:
    found = compare(before, now, args.seed)
    console = Console()
    for grid in comparison_grids(found):
        console.print(grid.table(console.width))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "comparison.html").write_text(comparison_page(found), encoding="utf-8")
        say(f"wrote comparison.html in {args.out}")


def say(text: str) -> None:
    """What goes on, to standard error, as it is."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


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
    parser.add_argument("--held-out", type=Path, help="text file, one tool a line, of tools kept out of training")
    parser.add_argument("--limit", type=int, help="score only the first N rows of each file")
    parser.add_argument("--out", type=Path, help="folder for report.json, report.md and report.html")
    parser.add_argument("--seed", type=int, default=0, help="of curves, candidate lists and intervals")
    parser.add_argument("--no-baselines", action="store_true", help="score the model alone")
    parser.add_argument("--no-minilm", action="store_true", help="leave out MiniLM where it is installed; it is slow")
    parser.add_argument(
        "--no-lists", action="store_true", help="do not ask again over lists of candidates; twice as fast or more"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="REPORT", help="report.json of another run; its differences to this one"
    )
    parser.add_argument(
        "--report", type=Path, metavar="REPORT", help="with --compare: a report.json in place of a new run"
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=os.environ.get("TOMAS_CACHE_DIR"),
        help="keeps encoded tools and MiniLM's vectors for the next run; default: $TOMAS_CACHE_DIR, else none",
    )
    return parser


def _progress(items: Iterable[object], text: str, total: int) -> Iterator[object]:
    """A bar on stderr that vanishes when it is done; in a log file a line that says what begins."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(f"{text}: {total}")
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text, total=total)
        for item in items:
            yield item
            progress.advance(task)
