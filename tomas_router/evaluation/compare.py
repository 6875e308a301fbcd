"""The difference of two reports, measure by measure; paired over the rows that both scored.

A paired bootstrap draws rows, and takes both runs' scores of the rows drawn, so what a row has of its own cancels out.
Where the rows differ, the interval of the difference is made of both intervals (Newcombe 1998, method 10) and is wider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomas_router.errors import DataValidationError
from tomas_router.evaluation.candidate_lists import ABSENT_10, PRESENT_10, SIMILAR
from tomas_router.evaluation.grids import ALL_TITLES, HIDDEN, Cell, Grid, number, percent
from tomas_router.evaluation.intervals import Interval, central, resampled_rows
from tomas_router.evaluation.list_scores import PRESENT_ALL
from tomas_router.evaluation.report import OURS, REPORT_VERSION, Report
from tomas_router.schema.findings import FindingLog
from tomas_router.schema.profiling import NUMBERS

LESS_IS_BETTER = frozenset({PRESENT_10, PRESENT_ALL, *(f"{e}_{f}" for e in ("mae", "mape") for f in NUMBERS)})
ERROR_TITLES = {f"mape_{name}": f"resources: error of {name}" for name in NUMBERS}
COMPARED = {name: title for name, title in (ALL_TITLES | ERROR_TITLES).items() if name not in HIDDEN}

VERDICTS = {"same": "no clear change"}

BY_LIKENESS = frozenset({SIMILAR, ABSENT_10, PRESENT_10})

Scores = Mapping[str, tuple[float, float]]
"""Total and weight of one measure by row id."""


@dataclass(frozen=True)
class SavedSource:
    """What a comparison needs of a source."""

    name: str
    likeness: str  # what the lists of similar and of unlike tools rest on
    cells: Mapping[str, Interval]  # of ours
    scores: Mapping[str, Scores]  # of ours, by measure


@dataclass(frozen=True)
class SavedReport:
    """What a comparison needs of a report."""

    model: str
    split: str
    seed: int  # of curves and candidate lists
    sources: tuple[SavedSource, ...]


@dataclass(frozen=True)
class Difference:
    """One measure in both reports."""

    measure: str
    before: float
    now: float
    change: Interval
    paired: bool

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the interval leaves out 0, else ``same``."""
        if self.change.low <= 0 <= self.change.high:
            return "same"
        return "better" if (self.change.value > 0) != (self.measure in LESS_IS_BETTER) else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two reports, source by source."""

    before: str
    now: str
    sources: tuple[tuple[str, tuple[Difference, ...]], ...]
    only_before: tuple[str, ...]
    only_now: tuple[str, ...]


def read_report(path: str | Path) -> SavedReport:
    """Reads a ``report.json``.

    Raises:
        DataValidationError: The file is no report of this version; says what was expected.
        OSError: It cannot be read.
    """
    log = FindingLog.of(path)
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data.get("report_version") != REPORT_VERSION:
            found = data.get("report_version")
            log.error(f"must be {REPORT_VERSION}; run `tomas eval` again", field="report_version", value=found)
            raise DataValidationError(log.errors)
        return _parse(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if not log.errors:
            log.error(f"must be a report.json of `tomas eval`: {type(error).__name__}: {error}")
        raise DataValidationError(log.errors) from error


def saved(report: Report) -> SavedReport:
    """A report as it would be read back."""
    return _parse(report.to_json())


def _parse(data: Mapping[str, Any]) -> SavedReport:
    return SavedReport(
        data["model"], data["split"], int(data["seed"]), tuple(_source(source) for source in data["sources"])
    )


def _source(data: Mapping[str, Any]) -> SavedSource:
    ours: dict[str, Any] = {}
    for part in ("resources", "lists", "methods"):
        ours |= data[part].get(OURS, {})
    scores: dict[str, dict[str, tuple[float, float]]] = {}
    for record in data["records"]:
        for measure, (total, weight) in record["scores"].items():
            scores.setdefault(measure, {})[record["id"]] = (float(total), float(weight))
    cells = {name: Interval(**cell) for name, cell in ours.items()}
    return SavedSource(data["name"], data["likeness"], cells, scores)


def compare(before: SavedReport, now: SavedReport, seed: int = 0) -> Comparison:
    """Every measure that both reports have on a source of the same name.

    Rows are paired only where both runs asked the same: with the same seed, which draws curves and lists. Lists that
    rest on different likenesses ask for different things and are not compared at all.
    """
    earlier = {source.name: source for source in before.sources}
    later = {source.name: source for source in now.sources}
    same_draws = before.seed == now.seed
    shared = tuple(
        (name, _differences(earlier[name], later[name], seed, same_draws=same_draws))
        for name in later
        if name in earlier
    )
    return Comparison(
        before.model,
        now.model,
        shared,
        tuple(name for name in earlier if name not in later),
        tuple(name for name in later if name not in earlier),
    )


def _differences(before: SavedSource, now: SavedSource, seed: int, *, same_draws: bool) -> tuple[Difference, ...]:
    found = []
    other_lists = BY_LIKENESS if before.likeness != now.likeness else frozenset()
    for measure in COMPARED:
        if measure not in before.cells or measure not in now.cells or measure in other_lists:
            continue
        a, b = before.scores.get(measure, {}), now.scores.get(measure, {})
        paired = same_draws and bool(a) and a.keys() == b.keys()
        if paired:
            change = paired_change([a[row] for row in a], [b[row] for row in a], seed)
        else:
            change = unpaired_change(before.cells[measure], now.cells[measure])
        found.append(Difference(measure, before.cells[measure].value, now.cells[measure].value, change, paired))
    return tuple(found)


def paired_change(before: Sequence[tuple[float, float]], now: Sequence[tuple[float, float]], seed: int = 0) -> Interval:
    """``now - before`` with the central 95 % over draws of rows; each row brings (total, weight) of both runs."""
    a_N2, b_N2 = np.array(before, dtype=np.float64), np.array(now, dtype=np.float64)
    drawn = resampled_rows(len(a_N2), seed)
    a, b = drawn @ a_N2, drawn @ b_N2
    value = float(b_N2[:, 0].sum() / b_N2[:, 1].sum() - a_N2[:, 0].sum() / a_N2[:, 1].sum())
    return central(value, b[:, 0] / b[:, 1] - a[:, 0] / a[:, 1], len(a_N2))


def unpaired_change(before: Interval, now: Interval) -> Interval:
    """``now - before`` of two samples that share no rows."""
    change = now.value - before.value
    down = float(np.hypot(now.value - now.low, before.high - before.value))
    up = float(np.hypot(now.high - now.value, before.value - before.low))
    return Interval(change, change - down, change + up, min(before.rows, now.rows))


def comparison_grids(found: Comparison) -> list[Grid]:
    """One table a source."""
    grids = [
        Grid(
            f"{name}: {found.now} against {found.before}",
            ("measure", "before", "now", "change", "verdict", "rows"),
            tuple(_line(d) for d in differences),
        )
        for name, differences in found.sources
    ]
    missing = [(name, "only in the other report") for name in found.only_before]
    missing += [(name, "only in this report") for name in found.only_now]
    rows = tuple((Cell(name, name), Cell(where, where)) for name, where in missing)
    return [grid for grid in [*grids, Grid("not compared", ("source", "why"), rows)] if grid.rows]


def _line(d: Difference) -> tuple[Cell, ...]:
    draw = number if d.measure.startswith("mae_") else percent
    title = COMPARED[d.measure]
    before, now = (draw(Interval(v, v, v, d.change.rows)).short for v in (d.before, d.now))
    rows = f"{d.change.rows} paired" if d.paired else "other rows"
    change = draw(d.change)
    signed = f"+{change.full}" if d.change.value > 0 else change.full
    texts = (title, before, now, signed, VERDICTS.get(d.verdict, d.verdict), rows)
    return tuple(Cell(text, text) for text in texts)
