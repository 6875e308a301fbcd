"""Adapts a trained model to a user's own tools: ``tomas train --my-tools tools.json --requests requests.jsonl``.

Starts from the packaged model, trains what lies above the text layers for a few minutes on a CPU, mixes our own data in
so that the rest is not forgotten, and reports the held-out fifth of the requests before and after. With ``--from-runs``
it learns from recorded executions and corrections too, and brings the tools' profile up to date.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tomas_router.config import RunConfig, TrainConfig
from tomas_router.datasets.recorded_runs import observed_profile, rows_of_runs
from tomas_router.datasets.rows import Row, load_rows, to_json
from tomas_router.features.known_tools import KnownTools
from tomas_router.schema.findings import FindingLog
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.recorded_run import RecordedRun, read_runs
from tomas_router.schema.registry import ToolRegistry, load_tool_registry
from tomas_router.shipped import model_dir
from tomas_router.training.artifacts import load_start
from tomas_router.training.checkpoint import Checkpoint, save_checkpoint, write_known_tools, write_trained_on
from tomas_router.training.loop import Trainer
from tomas_router.training.request_words import fit_request_words

MINE = "mine"
HELD_OUT = 0.2
LEAST_ROWS = 10
MIXTURE = {MINE: 0.6, "own": 0.25, "worlds": 0.15}
Measure = Callable[[Checkpoint, Path], dict[str, float]]
"""(checkpoint, rows) to shares by the name of the measure, on the rows of split ``val``."""


@dataclass(frozen=True)
class Adapted:
    """Where the model is and what it scores on requests that it did not learn from; shares from 0 to 1.

    ``profile`` is the profile with what recorded runs measured, None where there are no rows at all.
    """

    checkpoint: Path
    held_out: int
    before: dict[str, float]
    after: dict[str, float]
    profile: Path | None = None


def adapt(
    tools: Path,
    requests: Path | None,
    out: Path,
    measure: Measure,
    *,
    runs: Path | None = None,
    profiling: Path | None = None,
    start: Path | None = None,
    steps: int = 120,
    batch_size: int = 24,
    seed: int = 7,
    device: str = "cpu",
) -> Adapted:
    """Trains on the user's requests and writes the checkpoint ``out/final``.

    Args:
        tools: A registry.
        requests: Rows ``{"instruction", "steps": [{"tool", "depends_on"}]}``; those with ``"split": "val"`` are held
            out, or a random fifth where no row has a split.
        out: Run directory, written anew.
        measure: Scores a checkpoint on the held-out requests.
        runs: Recorded runs (``schema.recorded_run``), mixed with the requests; either may be left out.
        profiling: The tools' profile; written to ``out/profiling.csv`` with what the runs measured.
        start: A checkpoint or exported model; by default the packaged one.
        steps: Updates; 120 take about five minutes on two cores.
        batch_size: Requests an update.
        seed: Of the split and of training.
        device: ``cpu`` or ``cuda``.

    Raises:
        DataValidationError: A row or run is malformed, names an unknown tool, or there are fewer than ten rows.
        UntrainedModelError: ``start`` holds no trained model.
    """
    registry = load_tool_registry(tools)
    recorded = checked_runs(runs, registry)
    rows = with_splits(enough([*checked_rows(requests, registry), *rows_of_runs(recorded)], requests or runs), seed)
    known = None if profiling is None else ProfilingTable.from_csv(profiling, registry)
    profile = observed_profile(recorded, known)
    shutil.rmtree(out, ignore_errors=True)
    data = _write_source(rows, tools, out / "data")
    checkpoint = load_start(start or model_dir(), device)
    before = measure(checkpoint, data)
    config = RunConfig(model=checkpoint.config, train=_settings(steps, batch_size, seed, out / "data"))
    trainer = Trainer(checkpoint.model, config, checkpoint.tokenizer_path, checkpoint.statistics, out, device)
    if len(profile):
        profile.to_csv(out / "profiling.csv")
        sources = trainer.sampler.sources
        sources[MINE] = replace(sources[MINE], profiling=profile)
    trainer.run()
    # The start's thresholds stay: a few dozen requests are too few to fit new ones.
    save_checkpoint(out / "final", trainer.model, trainer.statistics, trainer.tokenizer_path, [])
    write_trained_on(out / "final", trainer.sampler.names, checkpoint.trained_on)
    older = checkpoint.known_tools
    words = fit_request_words([trainer.sampler.sources[MINE]], None if older is None else older.words, seed=seed)
    write_known_tools(out / "final", trainer.sampler.familiar_tools(), words, older)
    shown = KnownTools.read(out / "final")
    after = measure(replace(checkpoint, model=trainer.model.eval(), known_tools=shown), data)
    held_out = sum(row.split == "val" for row in rows)
    return Adapted(out / "final", held_out, before, after, out / "profiling.csv" if len(profile) else None)


def checked_rows(path: Path | None, registry: ToolRegistry) -> list[Row]:
    """Rows whose tools are all registered; none without a file.

    Raises:
        DataValidationError: Lists every row that is malformed or names a tool the registry lacks.
    """
    if path is None:
        return []
    rows, log = load_rows(path), FindingLog.of(path)
    for number, row in enumerate(rows, start=1):
        for step in row.steps:
            if step.tool not in registry:
                log.error("must be a tool of the registry", line=number, field="steps.tool", value=step.tool)
    log.finish()
    return rows


def checked_runs(path: Path | None, registry: ToolRegistry) -> list[RecordedRun]:
    """Recorded runs whose tools are all registered; none without a file.

    Raises:
        DataValidationError: Lists every line that is malformed or names a tool the registry lacks.
    """
    if path is None:
        return []
    runs, log = read_runs(path, registry)
    log.finish()
    return runs


def enough(rows: Sequence[Row], path: Path | None) -> Sequence[Row]:
    """The rows, if they are enough to learn from and to hold some out.

    Raises:
        DataValidationError: There are too few; names ``path``, the file to add to.
    """
    if len(rows) < LEAST_ROWS:
        log = FindingLog.of(path or "requests")
        log.error(f"must hold at least {LEAST_ROWS} requests, got {len(rows)}")
        log.finish()
    return rows


def with_splits(rows: Sequence[Row], seed: int) -> list[Row]:
    """Rows as the user split them, or with a random fifth held out."""
    if any(row.split for row in rows):
        return [replace(row, split="val" if row.split in ("val", "test") else "train") for row in rows]
    held_out = set(np.random.default_rng(seed).permutation(len(rows))[: max(2, round(HELD_OUT * len(rows)))].tolist())
    return [replace(row, split="val" if i in held_out else "train") for i, row in enumerate(rows)]


def _write_source(rows: Sequence[Row], tools: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / f"{MINE}.jsonl"
    path.write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")
    shutil.copyfile(tools, folder / f"{MINE}.tools.json")
    return path


def _settings(steps: int, batch_size: int, seed: int, data: Path) -> TrainConfig:
    return TrainConfig(
        mode="upper",
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        pool_size=64,
        token_budget=3000,
        learning_rate=5e-5,
        head_learning_rate=1e-4,
        warmup_steps=10,
        average_decay=0.95,
        dropout=0.05,
        max_train_tool_tokens=64,
        explanation_every=50,
        validate_every=steps + 1,
        checkpoint_every=steps,
        loss_weights={"explanation": 0.03, "retrieval": 0.4, "size": 0.5},
        mixture=MIXTURE,
        data_dirs=(str(data),),
    )


def show(adapted: Adapted, console: Console) -> None:
    """A table of before and after, and what to do next."""
    table = Table("requests held out", "before", "after", title=f"{adapted.held_out} requests not trained on")
    for name, before in adapted.before.items():
        table.add_row(name, f"{100 * before:.1f} %", f"{100 * adapted.after[name]:.1f} %")
    console.print(table)
    out = adapted.checkpoint.parent / "model"
    if adapted.profile is not None:
        console.print("Profile with what the runs measured:", str(adapted.profile), highlight=False)
    console.print("Export it with:", f"python -m export.onnx --checkpoint {adapted.checkpoint} --out {out}")
    console.print("and use it:", f'tomas plan "..." --model {out}', highlight=False)
