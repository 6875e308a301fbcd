"""The result of an evaluation, ready to be written as JSON, as Markdown and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tomas_router.evaluation.calibration import Calibration
from tomas_router.evaluation.confusions import Confusions
from tomas_router.evaluation.gate_curve import GateCurve
from tomas_router.evaluation.intervals import Interval, Tally
from tomas_router.evaluation.row_records import RowRecord
from tomas_router.evaluation.scores import Tallies

OURS = "ours"
REPORT_VERSION = 2
Cells = dict[str, Interval]
Methods = dict[str, Cells]


@dataclass
class SourceReport:
    """Everything measured on one source; ``Methods`` hold measures by method, or by what the comment says."""

    name: str
    rows: int
    tools: int
    notes: tuple[str, ...] = ()
    trained_as: str = ""
    methods: Methods = field(default_factory=dict)
    lists: Methods = field(default_factory=dict)  # over candidate lists
    likeness: str = ""  # what the lists of similar tools rest on
    by_candidates: dict[str, Methods] = field(default_factory=dict)  # method, number of candidates
    by_steps: dict[str, Methods] = field(default_factory=dict)  # method, number of steps
    resources: Methods = field(default_factory=dict)  # mae_<field>, mape_<field>, raw_feasible
    tool_errors: Methods = field(default_factory=dict)  # by tool: mae_<field>, mape_<field> of ours
    placements: Methods = field(default_factory=dict)  # ours, static, greedy
    conditions: Methods = field(default_factory=dict)  # true, shuffled and zeroed curve
    machines: Methods = field(default_factory=dict)  # by kind of timeline
    counts: dict[str, int] = field(default_factory=dict)
    calibration: Calibration | None = None
    gate: GateCurve | None = None
    confusions: Confusions | None = None
    records: list[RowRecord] = field(default_factory=list)
    tallies: dict[str, Tallies] = field(default_factory=dict, repr=False)
    """By method, for pooling over sources; not written."""
    seconds: float = 0.0


@dataclass
class Report:
    """One run over one or more sources."""

    model: str
    split: str
    seed: int
    command: str
    sources: list[SourceReport] = field(default_factory=list)
    trained_on: tuple[str, ...] | None = None
    """Sources whose tools the model met in training; None where the model does not say."""
    unseen_registries: Methods = field(default_factory=dict)
    """All rows of sources whose registry the model never met, pooled."""

    def never_met(self, source: SourceReport) -> bool | None:
        """Whether the model met none of the source's tools in training; None where it does not say."""
        return None if self.trained_on is None else source.trained_as not in self.trained_on

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; shares are 0 to 1."""
        data = asdict(self)
        for source in data["sources"]:
            del source["tallies"]
        return {"report_version": REPORT_VERSION, **data}

    def save(self, folder: Path) -> Path:
        """Writes ``report.json``, where every row is one line, and returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "report.json"
        path.write_text(_json_text(self.to_json()), encoding="utf-8")
        return path


def cells(tallies: Mapping[str, Tally], seed: int) -> Cells:
    """Tallies with their intervals; empty ones are left out."""
    found = ((name, tally.interval(seed)) for name, tally in tallies.items())
    return {name: interval for name, interval in found if interval is not None}


def grouped_cells(tallies: Mapping[str, Mapping[str, Tallies]], seed: int) -> dict[str, Methods]:
    """``cells`` for tallies by method and group."""
    return {name: {group: cells(found, seed) for group, found in groups.items()} for name, groups in tallies.items()}


def _json_text(data: dict[str, Any]) -> str:
    """Indented JSON in which each row's record takes one line, so that a report can be searched by line."""
    rows = [source.pop("records") for source in data["sources"]]
    for i, source in enumerate(data["sources"]):
        source["records"] = f"@records {i}@"
    text = json.dumps(data, indent=1, ensure_ascii=False)
    for i, records in enumerate(rows):
        lines = ",\n    ".join(json.dumps(record, ensure_ascii=False) for record in records)
        text = text.replace(json.dumps(f"@records {i}@"), f"[\n    {lines}\n   ]" if records else "[]", 1)
    return text + "\n"
