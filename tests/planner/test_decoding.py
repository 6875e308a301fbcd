"""The decision grammar: every branch of the state machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.planner.scripted_engine import END, Script, ScriptedEngine, Slot
from tomas_router.planner.decoding import DecodingOptions, RawPlan, decode, tool_probabilities
from tomas_router.planner.engine import Calibration, CurveWindow
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m3

NAMES = ("ocr", "translate", "summarise", "search")
WINDOW = CurveWindow(np.ones((1, 96, 4), dtype=np.float32), 3.0)


def run(script: Script, options: DecodingOptions | None = None, calibration: Calibration | None = None) -> RawPlan:
    engine = ScriptedEngine(script, calibration)
    registry = ToolRegistry.from_tools({"name": name, "desc": name} for name in NAMES)
    tools = engine.encode_tools(engine.prepare_tools(registry.tools, None))
    return decode(engine, "do it", tools, np.arange(4), WINDOW, options or DecodingOptions())


def tools_of(plan: RawPlan) -> list[str]:
    return [NAMES[step.tool] for step in plan.steps]


def say(**logits: float) -> Mapping[str, float]:
    return logits


def mask(*names: str) -> np.ndarray:
    return np.array([name in names for name in NAMES])


TWO = Script((Slot(say(ocr=9)), Slot(say(translate=9), depends=(3.0,))))


def test_tools_are_chosen_until_end() -> None:
    plan = run(TWO)
    assert tools_of(plan) == ["ocr", "translate"]
    assert plan.no_tool is None


def test_gate_below_threshold_means_no_tool_is_needed() -> None:
    plan = run(Script(TWO.slots, gate_logit=-1.0))
    assert (plan.steps, plan.no_tool) == ((), "not_needed")
    assert plan.gate_confidence < 0.5


def test_gate_threshold_of_the_calibration_moves_the_decision() -> None:
    script = Script(TWO.slots, gate_logit=1.0)
    assert run(script).no_tool is None
    assert run(script, calibration=Calibration(gate_threshold=1.5)).no_tool == "not_needed"


def test_end_at_the_first_slot_means_no_match() -> None:
    assert run(Script((Slot({END: 5.0, "ocr": 4.0}),))).no_tool == "no_match"


def test_confidence_below_the_threshold_means_no_match() -> None:
    unsure = Script((Slot(say(ocr=1.0, translate=0.9, search=0.9)),))
    assert run(unsure).no_tool is None
    assert run(unsure, calibration=Calibration(min_confidence=0.5)).no_tool == "no_match"


def test_temperature_changes_confidence_but_not_the_choice() -> None:
    script = Script((Slot(say(ocr=2.0, translate=0.0)),))
    sharp, soft = run(script), run(script, calibration=Calibration(temperature=4.0))
    assert tools_of(sharp) == tools_of(soft) == ["ocr"]
    assert sharp.steps[0].choices[0].confidence > soft.steps[0].choices[0].confidence


def test_num_steps_ends_a_plan_that_would_go_on() -> None:
    assert tools_of(run(TWO, DecodingOptions(num_steps=1))) == ["ocr"]


def test_num_steps_goes_on_where_the_network_would_end() -> None:
    script = Script((Slot(say(ocr=9)), Slot({END: 9.0, "search": 1.0}), Slot({END: 9.0, "search": 1.0})))
    assert tools_of(run(script, DecodingOptions(num_steps=3))) == ["ocr", "search", "search"]


def test_num_steps_of_named_candidates_names_each_once() -> None:
    script = Script((Slot(say(ocr=9)), Slot(say(ocr=9, search=5, translate=3)), Slot(say(ocr=9))))
    assert tools_of(run(script, DecodingOptions(num_steps=2, candidates_N=mask("ocr", "search")))) == ["ocr", "search"]
    assert tools_of(run(script, DecodingOptions(num_steps=3, candidates_N=mask("ocr", "search")))) == ["ocr"] * 3


def test_num_steps_of_named_candidates_hears_the_first_slot_in_later_ones() -> None:
    script = Script((Slot(say(ocr=9, search=6, translate=1)), Slot(say(ocr=9, search=3, translate=4))))
    named = mask("ocr", "search", "translate")
    assert tools_of(run(script, DecodingOptions(num_steps=2, candidates_N=named))) == ["ocr", "search"]
    assert tools_of(run(script, DecodingOptions(num_steps=2))) == ["ocr", "ocr"]  # nobody named candidates


def test_end_margin_keeps_a_plan_going_where_end_hardly_wins() -> None:
    script = Script((Slot(say(ocr=9)), Slot({END: 5.0, "search": 4.5}), Slot({END: 9.0})))
    assert tools_of(run(script)) == ["ocr"]
    assert tools_of(run(script, calibration=Calibration(end_margin=1.0))) == ["ocr", "search"]
    nothing = Script((Slot({END: 5.0, "ocr": 4.5}),))
    assert run(nothing, calibration=Calibration(end_margin=1.0)).no_tool == "no_match"


def test_match_margin_refuses_a_first_tool_that_hardly_leads_end() -> None:
    script = Script((Slot({END: 5.0, "ocr": 6.0}),))
    assert run(script, calibration=Calibration(match_margin=0.9)).no_tool is None
    assert run(script, calibration=Calibration(match_margin=1.1)).no_tool == "no_match"
    lower = Script((Slot({END: 5.0, "ocr": 4.5}),))
    assert run(lower, calibration=Calibration(match_margin=-1.0)).no_tool is None


def test_match_margin_looks_at_candidates_alone() -> None:
    script = Script((Slot({END: 900.0, "ocr": 905.0, "search": 0.0}),))
    assert run(script, DecodingOptions(candidates_N=mask("search"))).no_tool == "no_match"
    assert run(script, DecodingOptions(candidates_N=mask("ocr"))).no_tool is None


def test_num_steps_overrules_gate_and_confidence() -> None:
    script = Script((Slot({END: 9.0, "ocr": 1.0}),), gate_logit=-5.0)
    plan = run(script, DecodingOptions(num_steps=1), Calibration(min_confidence=0.9, match_margin=2.0))
    assert (tools_of(plan), plan.no_tool) == (["ocr"], None)


@pytest.mark.parametrize("num_steps", [0, -1, 13])
def test_num_steps_out_of_range_is_named(num_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"num_steps must lie in 1\.\.12, got {num_steps}"):
        run(TWO, DecodingOptions(num_steps=num_steps))


def test_plan_that_never_ends_stops_at_the_step_limit() -> None:
    endless = Script(tuple(Slot(say(search=9)) for _ in range(40)))
    assert len(run(endless).steps) == 12
    assert len(run(endless, DecodingOptions(max_steps=5)).steps) == 5


def test_candidates_hide_all_other_tools_at_every_slot() -> None:
    script = Script((Slot(say(ocr=9, search=2)), Slot(say(translate=9, summarise=1))))
    plan = run(script, DecodingOptions(candidates_N=mask("search", "summarise")))
    assert tools_of(plan) == ["search", "summarise"]
    shown = {NAMES[choice.tool] for step in plan.steps for choice in step.choices}
    assert shown <= {"search", "summarise"}


def test_candidates_without_any_tool_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one tool"):
        run(TWO, DecodingOptions(candidates_N=mask()))


def test_no_match_is_judged_among_candidates_only() -> None:
    script = Script((Slot({"ocr": 9.0, "search": 1.0, END: 3.0}),))
    assert run(script, DecodingOptions(candidates_N=mask("search"))).no_tool == "no_match"


def test_a_tool_may_be_used_twice() -> None:
    assert tools_of(run(Script((Slot(say(ocr=9)), Slot(say(ocr=9)))))) == ["ocr", "ocr"]


def test_alternatives_come_by_logit_with_their_margins() -> None:
    step = run(Script((Slot(say(ocr=5.0, translate=4.0, search=4.5)),)), DecodingOptions(alternatives=3)).steps[0]
    assert [NAMES[c.tool] for c in step.choices] == ["ocr", "search", "translate"]
    assert [c.margin for c in step.choices] == pytest.approx([0.0, 0.5, 1.0])
    assert sum(c.confidence for c in step.choices) <= 1.0 + 1e-9


def test_dataflow_links_follow_the_dependency_scores() -> None:
    script = Script(
        (Slot(say(ocr=9)), Slot(say(search=9), depends=(-2.0,)), Slot(say(summarise=9), depends=(0.4, 2.0)))
    )
    assert [s.depends_on for s in run(script).steps] == [(), (), (0, 1)]
    strict = run(script, calibration=Calibration(depends_threshold=1.0))
    assert [s.depends_on for s in strict.steps] == [(), (), (1,)]


def test_order_links_chain_the_calls_whatever_the_scores() -> None:
    plan = run(TWO, DecodingOptions(links="order"))
    assert [s.depends_on for s in plan.steps] == [(), (0,)]
    script = Script((Slot(say(ocr=9)), Slot(say(search=9), depends=(-9.0,))))
    assert run(script, DecodingOptions(links="order")).steps[1].depends_on == (0,)


def test_size_and_resources_of_each_step_are_read_after_its_tool() -> None:
    script = Script((Slot(say(ocr=9), size="large", resources=(4, 8, 50, 10, 700)),))
    step = run(script).steps[0]
    assert int(np.argmax(step.size_logits)) == 2
    assert step.resources == (4.0, 8.0, 50.0, 10.0, 700.0)


def test_wider_beam_finds_the_likelier_plan_behind_a_less_likely_first_tool() -> None:
    script = Script(
        (Slot(say(ocr=1.0, search=0.9)),),
        after={
            ("ocr",): say(translate=1.0, summarise=1.0, search=1.0),  # certain to go on, unsure how
            ("search",): say(summarise=9.0),
            ("ocr", "translate"): {END: 9.0},
            ("search", "summarise"): {END: 9.0},
        },
    )
    assert tools_of(run(script))[0] == "ocr"
    assert tools_of(run(script, DecodingOptions(beam_width=3))) == ["search", "summarise"]


def test_beam_of_one_equals_greedy_and_never_mixes_branches() -> None:
    narrow, wide = run(TWO, DecodingOptions(beam_width=1)), run(TWO, DecodingOptions(beam_width=4))
    assert tools_of(narrow) == tools_of(wide)
    assert narrow.log_probability == pytest.approx(wide.log_probability, abs=1e-6)


def test_probabilities_sum_to_one_over_candidates_and_end() -> None:
    logits = np.array([3.0, 2.0, 1.0, 0.0, -1.0])
    probabilities = tool_probabilities(logits, Calibration(temperature=2.0), mask("translate", "search"))
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[0] == probabilities[2] == 0.0


def test_decoding_the_same_request_twice_gives_the_same_plan() -> None:
    assert run(TWO) == run(TWO)
