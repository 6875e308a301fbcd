from __future__ import annotations

import pytest

from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.pooling import pooled
from tomas_router.evaluation.report import Report, SourceReport

pytestmark = pytest.mark.m4


def source(name: str, methods: dict[str, list[float]]) -> SourceReport:
    tallies = {}
    for method, scores in methods.items():
        tally = Tally.empty()
        for i, score in enumerate(scores):
            tally.add(f"r{i}", score)
        tallies[method] = {"node_f1": tally}
    return SourceReport(name, 1, 1, tallies=tallies)


def test_pooled_when_sources_differ_in_size_weighs_rows_not_sources() -> None:
    found = pooled([source("a", {"ours": [1.0] * 3}), source("b", {"ours": [0.0]})], 0)
    assert (found["ours"]["node_f1"].value, found["ours"]["node_f1"].rows) == (0.75, 4)


def test_pooled_when_a_method_answered_one_source_only_leaves_it_out() -> None:
    found = pooled([source("a", {"ours": [1.0], "nearest": [1.0]}), source("b", {"ours": [1.0]})], 0)
    assert set(found) == {"ours"}
    assert pooled([], 0) == {}


def test_never_met_when_the_model_does_not_say_is_unknown() -> None:
    one = SourceReport("taskbench_hf", 1, 1, trained_as="taskbench_hf")
    assert Report("m", "val", 0, "x").never_met(one) is None
    assert Report("m", "val", 0, "x", trained_on=("own",)).never_met(one) is True
    assert Report("m", "val", 0, "x", trained_on=("own", "taskbench_hf")).never_met(one) is False
