from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tomas_router.errors import DataValidationError
from tomas_router.evaluation.compare import (
    Interval,
    compare,
    comparison_grids,
    paired_change,
    read_report,
    unpaired_change,
)
from tomas_router.evaluation.page.comparison_page import comparison_page

pytestmark = pytest.mark.m4


def report(scores: dict[str, float], name: str = "s", measure: str = "node_f1") -> dict[str, Any]:
    value = sum(scores.values()) / len(scores)
    cell = {"value": value, "low": max(value - 0.2, 0.0), "high": min(value + 0.2, 1.0), "rows": len(scores)}
    records = [{"id": row, "scores": {measure: [score, 1.0]}} for row, score in scores.items()]
    methods = {"methods": {"ours": {measure: cell}}, "lists": {}, "resources": {}}
    return {
        "report_version": 2,
        "model": "m",
        "split": "val",
        "seed": 0,
        "sources": [{"name": name, "likeness": "TF-IDF", **methods, "records": records}],
    }


def written(folder: Path, name: str, data: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


ROWS = {f"r{i}": float(i % 2) for i in range(40)}


def test_compare_when_rows_are_the_same_pairs_them(tmp_path: Path) -> None:
    better = {row: max(score, float(i < 30)) for i, (row, score) in enumerate(ROWS.items())}
    before, now = written(tmp_path, "a.json", report(ROWS)), written(tmp_path, "b.json", report(better))
    (_, (difference,)) = compare(read_report(before), read_report(now)).sources[0]
    assert difference.paired
    assert difference.change.value == pytest.approx(15 / 40)
    assert difference.verdict == "better"
    assert compare(read_report(now), read_report(before)).sources[0][1][0].verdict == "worse"


def test_compare_when_a_report_meets_itself_finds_no_change(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", report(ROWS))
    (_, (difference,)) = compare(read_report(path), read_report(path)).sources[0]
    assert (difference.change.value, difference.change.low, difference.change.high) == (0.0, 0.0, 0.0)
    assert difference.verdict == "same"


def test_compare_when_less_is_better_turns_the_verdict(tmp_path: Path) -> None:
    none, all_ = dict.fromkeys(ROWS, 0.0), dict.fromkeys(ROWS, 1.0)
    before = written(tmp_path, "a.json", report(all_, measure="present_all"))
    now = written(tmp_path, "b.json", report(none, measure="present_all"))
    assert compare(read_report(before), read_report(now)).sources[0][1][0].verdict == "better"


def test_compare_when_rows_differ_says_so_and_is_wider(tmp_path: Path) -> None:
    other = {f"q{i}": score for i, score in enumerate(ROWS.values())}
    before, now = written(tmp_path, "a.json", report(ROWS)), written(tmp_path, "b.json", report(other))
    found = compare(read_report(before), read_report(now))
    difference = found.sources[0][1][0]
    assert not difference.paired
    assert difference.change.low == pytest.approx(-((0.2**2 + 0.2**2) ** 0.5))
    assert "other rows" in comparison_grids(found)[0].markdown()


def test_compare_when_lists_rest_on_another_likeness_leaves_them_out(tmp_path: Path) -> None:
    for measure, compared in (("similar_10", 0), ("absent_10", 0), ("absent_all", 1), ("node_f1", 1)):
        before, now = report(ROWS, measure=measure), report(ROWS, measure=measure)
        now["sources"][0]["likeness"] = "MiniLM"
        read = [read_report(written(tmp_path, f"{i}.json", data)) for i, data in enumerate((before, now))]
        assert len(compare(*read).sources[0][1]) == compared, measure


def test_compare_when_seeds_differ_pairs_nothing(tmp_path: Path) -> None:
    now = report(ROWS) | {"seed": 1}
    read = [read_report(written(tmp_path, f"{i}.json", data)) for i, data in enumerate((report(ROWS), now))]
    assert not compare(*read).sources[0][1][0].paired


def test_compare_when_sources_differ_names_them(tmp_path: Path) -> None:
    before, now = written(tmp_path, "a.json", report(ROWS)), written(tmp_path, "b.json", report(ROWS, "t"))
    found = compare(read_report(before), read_report(now))
    assert (found.only_before, found.only_now, found.sources) == (("s",), ("t",), ())
    assert "not compared" in comparison_page(found)


def test_paired_change_when_rows_move_together_is_narrower_than_unpaired() -> None:
    before = [(float(i % 2), 1.0) for i in range(50)]
    now = [(max(score, float(i < 10)), 1.0) for i, (score, _) in enumerate(before)]
    paired = paired_change(before, now)
    loose = unpaired_change(Interval(0.5, 0.36, 0.64, 50), Interval(0.6, 0.46, 0.74, 50))
    assert paired.value == pytest.approx(loose.value)
    assert paired.high - paired.low < (loose.high - loose.low) / 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"report_version": 1}, r"report_version must be 2; run `tomas eval` again"),
        ({}, r"report_version must be 2"),
        ([1], r"must be a report.json of `tomas eval`"),
        ({"report_version": 2, "model": "m"}, r"must be a report.json of `tomas eval`: KeyError: 'split'"),
    ],
)
def test_read_report_when_it_is_none_says_what_was_expected(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(DataValidationError, match=message):
        read_report(written(tmp_path, "a.json", data))


def test_comparison_page_when_drawn_shows_the_verdict(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", report(ROWS))
    now = written(tmp_path, "b.json", report(dict.fromkeys(ROWS, 1.0)))
    page = comparison_page(compare(read_report(path), read_report(now)))
    assert '<td class="better">better</td>' in page
    assert "<svg" in page
