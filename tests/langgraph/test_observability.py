"""What agents and graphs say of their calls: reports, observed profiles, spans, LangSmith metadata."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

pytest.importorskip("langchain")
pytest.importorskip("opentelemetry.sdk")

from langchain_core.tools import tool
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.graph import START, StateGraph
from langsmith import Client

from graphs.router_agent import make_graph
from tests.langgraph.agents import agent, ask, calls, machine, tool_answers
from tests.spans import recorded_spans
from tomas_router import ProfilingTable
from tomas_router.langgraph import (
    LiveTools,
    RouterContext,
    StaticPlanner,
    ToolExecutorNode,
    ToolRouterMiddleware,
    ToolRouterNode,
    ToolRouterState,
    add_router_nodes,
    static_plan,
)
from tomas_router.langgraph.call_log import CallRecord
from tomas_router.langgraph.observed_profile import observed_profile
from tomas_router.langgraph.trace_metadata import call_metadata, kind_of, redacted
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.schema.profiling import ResourceConfig

MIB = 2**20
ONE = ResourceConfig(cpu_core=1, cpu_mem_gb=0.25, gpu_sm=0, gpu_mem_gb=0)
SECRET = "my grandmother's recipe"


@tool
def heavy(text: str) -> str:
    """Takes 64 MiB for a moment."""
    held = bytearray(b"x") * (64 * MIB)
    time.sleep(0.12)
    return f"{len(held) // MIB} MiB"


def memory():
    return InMemoryLedger(epoch_times=True)


def run(made, asynchronous=False, config=None):
    return asyncio.run(made.ainvoke(ask(), config)) if asynchronous else made.invoke(ask(), config)


def router(**options):
    return ToolRouterMiddleware(StaticPlanner(static_plan("heavy")), ledger=memory(), resources=machine(), **options)


# --- reports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_report_when_a_call_has_run_says_what_it_took_beside_what_was_expected(asynchronous):
    middleware = router()
    made, _ = agent([calls(("heavy", {"text": SECRET}))], [heavy], middleware)
    run(made, asynchronous)
    (record,) = middleware.report()
    assert (record["expected_ms"], record["config"], record["input_size"]) == (100, ONE.model_dump(), "small")
    assert record["took_ms"] >= 120
    assert 0.055 <= record["peak_mem_gb"] <= 0.2
    assert record["alone"] is True
    assert json.loads(json.dumps(record)) == record


def test_report_when_a_graph_has_run_its_steps_says_what_they_took():
    plan = static_plan("heavy", args={"s1": {"text": SECRET}})
    node = ToolExecutorNode([heavy])
    own = StateGraph(ToolRouterState, context_schema=RouterContext)
    add_router_nodes(own, ToolRouterNode(StaticPlanner(plan)), node).add_edge(START, "router")
    own.compile().invoke({"request": "go"}, context=RouterContext(thread_id="t7"))
    (record,) = node.report()
    assert (record["tool"], record["status"], record["thread_id"]) == ("heavy", "done", "t7")
    assert record["took_ms"] >= 120
    assert record["peak_mem_gb"] >= 0.055
    assert len(node.observed_profile(min_calls=1)) == 1


def test_report_when_calls_overlap_says_that_their_memory_is_shared():
    met = threading.Barrier(2, timeout=20)

    @tool
    def meet(n: int) -> str:
        """Waits for the other."""
        met.wait()
        return str(n)

    middleware = ToolRouterMiddleware(None)
    made, _ = agent([calls(("meet", {"n": 1}), ("meet", {"n": 2}))], [meet], middleware)
    run(made)
    assert [record["alone"] for record in middleware.report()] == [False, False]


# --- observed profiles ---------------------------------------------------------------------------------------


def record(took_ms, **changes):
    said = {"tool": "ocr", "status": "done", "planned": True, "config": ONE, "degraded": False, "waited_ms": 0}
    return CallRecord(**{**said, "expected_ms": 100.0, "took_ms": took_ms, "input_size": "small", **changes})


def row(tool, latency_ms, **changes):
    return {"tool": tool, "input_size": "small", **ONE.model_dump(), "latency_ms": latency_ms, **changes}


def test_observed_profile_when_calls_took_longer_takes_a_high_quantile_and_keeps_the_rest():
    before = ProfilingTable.from_rows([row("ocr", 100), row("ocr", 60, cpu_core=2), row("other", 5)])
    seen = observed_profile([record(ms) for ms in range(101, 121)], before)
    assert [(r.tool, r.cpu_core, r.latency_ms) for r in seen.all_rows] == [
        ("ocr", 1, 119), ("ocr", 2, 60), ("other", 1, 5),
    ]  # fmt: skip


def test_observed_profile_when_memory_was_higher_is_raised_and_never_lowered():
    lower = observed_profile([record(100, peak_mem_gb=0.1)] * 5)
    higher = observed_profile([record(100, peak_mem_gb=0.5)] * 5)
    shared = observed_profile([record(100, peak_mem_gb=0.5, alone=False)] * 5)
    assert [t.all_rows[0].cpu_mem_gb for t in (lower, higher, shared)] == [0.25, 0.5, 0.25]


@pytest.mark.parametrize(
    "calls", [[record(900)] * 4, [record(900, status="failed")] * 9, [record(900, config=None)] * 9]
)
def test_observed_profile_when_there_is_not_enough_to_go_by_stays_as_it_was(calls):
    before = ProfilingTable.from_rows([row("ocr", 100)])
    assert observed_profile(calls, before).all_rows == before.all_rows


@pytest.mark.parametrize("options", [{"quantile": 0}, {"quantile": 1.1}, {"min_calls": 0}])
def test_observed_profile_when_an_option_is_out_of_range_says_so(options):
    with pytest.raises(ValueError, match="quantile must be in"):
        observed_profile([], **options)


def test_observed_profile_when_asked_of_an_agent_plans_and_is_written(tmp_path):
    middleware = router(profiling=ProfilingTable.from_rows([row("heavy", 100)]))
    made, _ = agent([calls(("heavy", {"text": "a"}))], [heavy], middleware)
    run(made)
    seen = middleware.observed_profile(min_calls=1)
    seen.to_csv(tmp_path / "profiling.csv")
    assert ProfilingTable.from_csv(tmp_path / "profiling.csv").rows("heavy")[0].latency_ms >= 120


# --- spans ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_spans_when_a_call_waits_are_plan_admit_queue_and_run_without_arguments(asynchronous):
    two = calls(("heavy", {"text": SECRET}), ("heavy", {"text": SECRET}))
    middleware = ToolRouterMiddleware(StaticPlanner(static_plan("heavy")), ledger=memory(), resources=machine(cores=1))
    made, _ = agent([two], [heavy], middleware)
    with recorded_spans() as spans:
        run(made, asynchronous)
    named = {}
    for done in spans():
        named.setdefault(done.name, []).append(done)
    assert {name: len(found) for name, found in named.items()} == {
        "tomas.plan": 1, "tomas.admit": 2, "tomas.queue": 1, "tomas.run": 2,
    }  # fmt: skip
    (queue,) = named["tomas.queue"]
    parent = next(a for a in named["tomas.admit"] if a.context.span_id == queue.parent.span_id)
    assert parent.attributes["tomas.waited_ms"] >= 100
    (plan,) = named["tomas.plan"]
    assert (plan.attributes["tomas.status"], plan.attributes["tomas.tools"]) == ("planned", "heavy")
    ran = named["tomas.run"][0].attributes
    assert ran["tomas.args.text"] == f"str, {len(SECRET)} characters"
    assert (ran["tomas.resources.cpu_core"], ran["tomas.expected_ms"]) == (1, 100)
    assert ran["tomas.peak_mem_gb"] > 0
    assert SECRET not in " ".join(done.to_json() for done in spans())


def test_spans_when_a_graph_runs_are_plan_admit_and_run():
    plan = static_plan("heavy", args={"s1": {"text": SECRET}})
    with recorded_spans() as spans:
        make_graph(StaticPlanner(plan), tools=[heavy]).invoke({"request": "go"})
    assert [done.name for done in spans()] == ["tomas.plan", "tomas.run"]
    assert SECRET not in " ".join(done.to_json() for done in spans())


def test_spans_when_arguments_are_wanted_hold_them():
    middleware = router(trace_arguments=True)
    made, _ = agent([calls(("heavy", {"text": SECRET}))], [heavy], middleware)
    with recorded_spans() as spans:
        run(made)
    ran = next(done for done in spans() if done.name == "tomas.run")
    assert ran.attributes["tomas.args.text"] == SECRET


# --- LangSmith -----------------------------------------------------------------------------------------------


class Recorder(Client):
    """LangSmith's client, but it keeps what it would send."""

    def __init__(self):
        super().__init__(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
        self.sent = {}

    def create_run(self, *args, **run):
        self.sent[str(run["id"])] = run

    def update_run(self, run_id, **run):
        self.sent.setdefault(str(run_id), {}).update({k: v for k, v in run.items() if v is not None})

    def metadata(self):
        found = [((run.get("extra") or {}).get("metadata") or {}) for run in self.sent.values()]
        return [m for m in found if any(key.startswith("tomas.") for key in m)]


@pytest.fixture
def langsmith():
    recorder = Recorder()
    tracer = LangChainTracer(client=recorder, project_name="test")
    return recorder, {"callbacks": [tracer]}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_langsmith_when_an_agent_is_traced_gets_metadata_without_arguments(langsmith, asynchronous):
    recorder, config = langsmith
    made, _ = agent([calls(("heavy", {"text": SECRET}))], [], LiveTools(lambda: [heavy]), router())
    assert tool_answers(run(made, asynchronous, config))[0].content == "64 MiB"
    said = {key: value for metadata in recorder.metadata() for key, value in metadata.items()}
    assert (said["tomas.status"], said["tomas.tools"], said["tomas.tool"]) == ("planned", "heavy", "heavy")
    assert said["tomas.args.text"] == f"str, {len(SECRET)} characters"
    assert said["tomas.peak_mem_gb"] > 0
    assert SECRET not in recorded(recorder, "ToolRouterMiddleware")
    assert SECRET not in recorded(recorder, "LiveTools")


def recorded(recorder, name):
    """Inputs and outputs of runs of that name, or of hooks of the middleware of that name."""
    ours = [run for run in recorder.sent.values() if str(run.get("name")).partition(".")[0] == name]
    assert ours
    return json.dumps([(run.get("inputs"), run.get("outputs")) for run in ours], default=str)


def test_langsmith_when_arguments_are_wanted_gets_them(langsmith):
    recorder, config = langsmith
    made, _ = agent([calls(("heavy", {"text": SECRET}))], [heavy], router(trace_arguments=True))
    run(made, False, config)
    assert SECRET in recorded(recorder, "ToolRouterMiddleware")
    assert any(metadata.get("tomas.args.text") == SECRET for metadata in recorder.metadata())


def test_langsmith_when_a_graph_is_traced_gets_nodes_without_arguments_of_steps(langsmith):
    recorder, config = langsmith
    plan = static_plan("heavy", args={"s1": {"text": SECRET}})
    make_graph(StaticPlanner(plan), tools=[heavy]).invoke({"request": "go"}, config)
    for node in ("router", "tools", "respond"):
        assert SECRET not in recorded(recorder, node)
    assert recorder.metadata()[0]["tomas.tools"] == "heavy"


def test_redacted_when_a_state_holds_arguments_says_their_kinds_only():
    state = {
        "messages": ["a", "b"],
        "tool_plan": {"steps": [{"id": "s1", "args": {"a": "secret", "b": {"$from": "s1"}, "c": [1, 2], "d": 5}}]},
        "tool_results": {"s1": {"status": "done", "output": "secret"}},
    }
    shown = redacted(state)
    assert shown["tool_plan"]["steps"][0] == {
        "id": "s1",
        "args": {"a": "str, 6 characters", "b": "from s1", "c": "list, 2 entries", "d": "int"},
    }
    assert "secret" not in json.dumps(shown)
    assert kind_of({"a": 1}) == "dict, 1 entries"


def test_metadata_when_made_is_flat_and_plain():
    said = call_metadata("ocr", static_plan("ocr").steps[0], ONE, {"a": object()})
    assert all(isinstance(value, str | int | float | bool) for value in said.values())
    assert said["tomas.args.a"] == "object"
