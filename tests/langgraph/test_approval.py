from __future__ import annotations

from types import SimpleNamespace

import pytest

from tomas_router import ProfilingTable
from tomas_router.langgraph.approval import footprint, footprint_over, smaller_profiles
from tomas_router.planner.static import static_plan
from tomas_router.schema.profiling import ResourceConfig

BIG = ResourceConfig(cpu_core=4, cpu_mem_gb=2, gpu_sm=50, gpu_mem_gb=8)


def test_footprint_when_steps_overlap_adds_them_up():
    assert footprint(static_plan("a", "b", links="parallel", config=BIG)).cpu_core == 8
    chain = footprint(static_plan("a", "b", config=BIG, latency_ms=500))
    assert (chain.cpu_core, chain.seconds) == (4, 1.0)


def test_footprint_when_nothing_is_planned_is_zero():
    assert footprint(static_plan()).cpu_core == 0


@pytest.mark.parametrize(("limits", "asks"), [({"gpu_mem_gb": 4}, True), ({"gpu_mem_gb": 8}, False)])
def test_footprint_over_when_given_a_plan_compares_it(limits, asks):
    plan = static_plan("a", config=BIG)
    assert footprint_over(**limits)(plan) is asks
    assert footprint_over(**limits)(plan.model_dump(mode="json")) is asks


def call(name, state):
    return SimpleNamespace(tool_call={"name": name, "args": {}, "id": "1"}, state=state)


def test_footprint_over_when_given_a_tool_call_reads_the_stored_plan():
    state = {"tool_plan": static_plan("heavy", config=BIG).model_dump(mode="json")}
    assert footprint_over(cpu_core=2)(call("heavy", state))
    assert not footprint_over(cpu_core=4)(call("heavy", state))


@pytest.mark.parametrize("state", [{}, {"tool_plan": static_plan("other").model_dump(mode="json")}])
def test_footprint_over_when_the_call_is_not_planned_asks(state):
    assert footprint_over(cpu_core=100)(call("heavy", state))


def test_footprint_over_when_given_no_limit_refuses():
    with pytest.raises(ValueError, match="at least one limit"):
        footprint_over()


def test_smaller_profiles_when_asked_keep_only_what_takes_less():
    def row(tool, cores):
        return {"tool": tool, "input_size": "small", "cpu_core": cores, "cpu_mem_gb": 2} | {
            "gpu_sm": 0, "gpu_mem_gb": 0, "latency_ms": 100,
        }  # fmt: skip

    table = ProfilingTable.from_rows([row("a", 1), row("a", 4), row("a", 8), row("b", 8)])
    plan = static_plan("a", config=ResourceConfig(cpu_core=4, cpu_mem_gb=2, gpu_sm=0, gpu_mem_gb=0))
    kept = smaller_profiles(table, plan)
    assert [(r.tool, r.cpu_core) for r in kept.all_rows] == [("a", 1), ("b", 8)]
