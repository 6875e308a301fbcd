"""``tomas calibrate``: fits the numbers that turn a model's logits into decisions, on validation rows alone.

The network is asked once; then numbers are tried on what it said. No GPU is needed. ``python -m export.seal MODEL
--calibration FILE`` writes the result into a model's manifest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tomas_router.evaluation.calibration_questions import Means, Question, ask_questions, means, score_questions, worth
from tomas_router.evaluation.evaluate import installed_encoders, open_planner, say
from tomas_router.evaluation.fit_calibration import fit_calibration
from tomas_router.evaluation.sources import EvalSource, load_source
from tomas_router.evaluation.text_vectors import TextVectors
from tomas_router.evaluation.traces import TraceRecorder
from tomas_router.planner.engine import Calibration, RoutingEngine
from tomas_router.shipped import instructions_path

ROWS = 300
SPLIT = "val"


def calibrate(
    engine: RoutingEngine,
    sources: Iterable[EvalSource],
    encoders: Sequence[TextVectors] = (),
    cache_dir: Path | None = None,
) -> tuple[Calibration, list[Question]]:
    """Fits a calibration for an engine; also returns what it was asked."""
    recorder = TraceRecorder(engine, cache_dir)
    questions: list[Question] = []
    for source in sources:
        say(f"{source.name}: {len(source.rows)} rows")
        questions += ask_questions(source, recorder, encoders)
    return fit_calibration(questions, recorder), questions


def last_rows(path: Path, rows: int = ROWS) -> EvalSource:
    """The last validation rows of a file: reports score the first ones, which then had no say where there are more.

    Raises:
        DataValidationError: The file is malformed or has no validation rows.
    """
    source = load_source(path, SPLIT)
    return replace(source, rows=source.rows[-rows:])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns an exit code."""
    args = _parser().parse_args(argv)
    paths = args.data or [instructions_path(SPLIT), instructions_path("worlds_val")]
    engine = open_planner(args.model, args.engine, args.cache_dir).engine
    sources = [last_rows(path, args.rows) for path in paths]
    found, questions = calibrate(engine, sources, installed_encoders(args.cache_dir), args.cache_dir)
    before = _means(questions, engine.calibration)
    _show(before, _means(questions, found), Console())
    text = json.dumps(asdict(found), indent=1)
    if args.out is None:
        sys.stdout.write(text + "\n")
    else:
        args.out.write_text(text + "\n", encoding="utf-8")
        say(f"wrote {args.out}")
    return 0


def _means(questions: Sequence[Question], calibration: Calibration) -> Means:
    return means(score_questions(questions, calibration), calibration.match_margin, calibration.min_confidence)


def _show(before: Means, after: Means, console: Console) -> None:
    """Every measure that was fitted on, as the model's own calibration has it and as the new one does."""
    table = Table("validation rows", "measure", "before", "after")
    for source, measures in before.items():
        for name, value in measures.items():
            table.add_row(source, name, f"{100 * value:.1f}", f"{100 * after[source][name]:.1f}")
    table.add_row("all", "mean", f"{100 * worth(before):.2f}", f"{100 * worth(after):.2f}")
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tomas calibrate", description=__doc__)
    parser.add_argument("--model", type=Path, help="directory of an exported model; default: the packaged one")
    parser.add_argument(
        "--engine", choices=("onnx", "torch"), default="onnx", help="torch runs a training checkpoint (default: onnx)"
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", help="NAME.jsonl files with validation rows; default: the shipped ones"
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="of each file, the last ones (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to write; default: standard output")
    parser.add_argument("--cache-dir", type=Path, help="keeps encoded tools for the next run")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
