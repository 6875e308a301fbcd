"""Two agents under one supervisor; both run heavy tools, and one ledger keeps them off each other's memory.

``python -m graphs.supervisor "Transcribe the interview" "Extract the tables of the annual report"`` plans one request
for each agent at the same time. Tools are simulated; what the second agent is given depends on what the first one
holds.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send

from tomas_router import Planner, SystemTimeline
from tomas_router.runtime.ledger import BookingTerms, InMemoryLedger, Ledger


def both(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Plans by agent."""
    return {**(old or {}), **new}


class SupervisorState(TypedDict, total=False):
    """What is asked of each agent, and what each will do."""

    requests: dict[str, str]
    plans: Annotated[dict[str, Any], both]


def make_graph(
    planner: Planner | None = None, *, timeline: SystemTimeline | None = None, ledger: Ledger | None = None
) -> CompiledStateGraph:
    """The supervisor sends each request to an agent of its own; all of them book in one ledger.

    Args:
        planner: shared; by default the packaged model.
        timeline: what the machine offers; by default eight cores, 32 GiB and one GPU of 16 GiB.
        ledger: shared with other processes when it is a ``SqliteLedger``.
    """
    router = planner or Planner.load()
    machine = timeline or SystemTimeline.from_rows([(0, 8, 32, 100, 16)], tail="hold", epoch_ms=int(time.time() * 1000))
    books = ledger or InMemoryLedger(epoch_times=True)

    def agent(state: dict[str, str]) -> SupervisorState:
        terms = BookingTerms(tenant=state["agent"], lease_ms=60_000)
        now_ms = int(time.time() * 1000) - (machine.epoch_ms or 0)
        plan = router.plan(state["request"], timeline=machine, ledger=books, terms=terms, release_ms=now_ms)
        return {"plans": {state["agent"]: plan.model_dump(mode="json")}}

    def send(state: SupervisorState) -> list[Send]:
        return [Send("agent", {"agent": name, "request": text}) for name, text in state["requests"].items()]

    graph = StateGraph(SupervisorState)
    graph.add_node("agent", agent)
    graph.add_conditional_edges(START, send, ["agent"])
    graph.add_edge("agent", END)
    return graph.compile(name="supervisor")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit('usage: python -m graphs.supervisor "REQUEST" ["REQUEST" ...]')
    asked = {f"agent {number}": text for number, text in enumerate(sys.argv[1:], start=1)}
    for name, plan in make_graph().invoke({"requests": asked})["plans"].items():
        for step in plan["steps"]:
            print(name, step["tool_name"], step["resource_config"], "from", step["start_ms"], "ms")
