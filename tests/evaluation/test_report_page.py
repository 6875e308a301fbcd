from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tests.evaluation.test_judge import SOURCE, OracleRouter
from tomas_router.evaluation.asking import Settings
from tomas_router.evaluation.intervals import Interval
from tomas_router.evaluation.judge import judge
from tomas_router.evaluation.page.report_page import report_page
from tomas_router.evaluation.page.svg import Svg, shortened
from tomas_router.evaluation.pooling import pooled
from tomas_router.evaluation.report import OURS, Report, SourceReport
from tomas_router.evaluation.row_records import RowRecord

pytest.importorskip("sklearn")
pytestmark = pytest.mark.m4

VOID = {"meta", "line", "rect", "circle", "path", "br"}


class Balance(HTMLParser):
    """Fails on a tag that is closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    wrong = judge(SOURCE, OracleRouter(wrong="stt_cpu"), Settings())
    wrong.lists = {OURS: {"similar_10": Interval(0.5, 0.4, 0.6, 9)}}  # three tools are too few for lists of ten
    sizes = {str(n): {"node_f1": Interval(1 / n, 0.0, 1.0, 9)} for n in (5, 10, 20)}
    wrong.by_candidates = {OURS: sizes, "retrieval (BM25)": sizes}
    never_met = pooled([wrong], 0)
    return report_page(Report("toy <1>", "val", 0, "x", [wrong], trained_on=(), unseen_registries=never_met))


def test_report_page_when_made_is_well_formed_and_loads_nothing(page: str) -> None:
    balance = Balance()
    balance.feed(page)
    assert not balance.open
    assert not re.search(r"https?://|<script|<link|@import|url\(|src=", page)
    assert "prefers-color-scheme: dark" in page


def test_report_page_when_made_holds_every_part(page: str) -> None:
    for part in (
        "Ours and every baseline",
        "Answers",
        "Confidence against accuracy",
        "Is a tool needed? Precision and recall",
        "Does it fit? By kind of machine",
        "Latency error by tool",
        "Which tool is taken for which",
        "Over lists of candidates",
        "ten similar tools: the right one named",
        "Node F1 by number of candidates",
        "The 12 worst errors",
        "Registries never met in training, pooled: own_test",
    ):
        assert part in page, part
    assert "toy &lt;1&gt;" in page
    assert "retrieval (BM25)" in page


def test_report_page_when_a_request_holds_markup_shows_it_as_text() -> None:
    record = RowRecord("r", "<script>alert(1)</script>", "a", "b", 0.9, {"node_f1": (0.0, 1.0)})
    page = report_page(Report("m", "val", 0, "x", [SourceReport("s", 1, 1, records=[record])]))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_report_page_when_nothing_was_measured_is_a_page_still() -> None:
    balance = Balance()
    balance.feed(report_page(Report("m", "val", 0, "x", [SourceReport("s", 0, 1)])))
    assert not balance.open


def test_svg_when_text_holds_markup_escapes_it() -> None:
    svg = Svg(10, 10)
    svg.text((0, 0), "a<b")
    svg.circle((1, 1), 1, "dot", tip='"x"&')
    assert "a&lt;b" in svg.render('say "hi"')
    assert "&amp;</title>" in svg.render("x")
    assert "say &quot;hi&quot;" in svg.render('say "hi"')
    assert shortened("abcdef", 4) == "abc…"
