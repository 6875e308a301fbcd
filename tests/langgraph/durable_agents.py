"""What the durability tests run in processes of their own: agents and graphs that are killed, and then resumed.

Every function here begins anew: nothing is shared with an earlier process but the checkpoints, the ledger's file and a
file in which tools note what they did.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph

from tests.langgraph.agents import machine
from tomas_router import SystemTimeline
from tomas_router.langgraph import (
    InjectedIdempotencyKey,
    RouterContext,
    StaticPlanner,
    ToolExecutorNode,
    ToolRouterMiddleware,
    ToolRouterNode,
    ToolRouterState,
    add_router_nodes,
    static_plan,
)
from tomas_router.runtime.booking import wall_clock_ms
from tomas_router.runtime.sqlite_ledger import SqliteLedger

LEASE_MS = 1_000


@dataclass(frozen=True)
class Case:
    """One combination; plain, because it goes to another process."""

    folder: str
    saver: str
    """``sqlite``, or the address of a PostgreSQL."""
    thread: str
    durability: str
    max_concurrency: int | None = None
    asynchronous: bool = False
    replay: bool = True
    request_id: str | None = None
    dies: str | None = None
    """``recorded``: after the first call was recorded, before LangGraph knows; ``acted``: after the second call's side
    effect, before it is recorded; None: it does not."""

    @property
    def config(self) -> dict[str, Any]:
        limit = {} if self.max_concurrency is None else {"max_concurrency": self.max_concurrency}
        return {"configurable": {"thread_id": self.thread}, **limit}

    @property
    def effects(self) -> Path:
        return Path(self.folder) / "effects"

    def but(self, **changes: Any) -> Case:
        return replace(self, **changes)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ledger_of(case: Case) -> SqliteLedger:
    return SqliteLedger(Path(case.folder) / "machine.ledger")


def act(case: Case, name: str, key: str) -> None:
    """The side effect: one line, written at once."""
    with case.effects.open("a") as file:
        file.write(f"{name} {key}\n")
        file.flush()
        os.fsync(file.fileno())


def tools_of(case: Case) -> list[Any]:
    @tool
    def first(key: Annotated[str, InjectedIdempotencyKey()]) -> str:
        """Acts first."""
        act(case, "first", key)
        return "first done"

    @tool
    def second(key: Annotated[str, InjectedIdempotencyKey()]) -> str:
        """Acts second."""
        if case.dies == "recorded":
            time.sleep(60)  # the process is killed meanwhile
        act(case, "second", key)
        if case.dies == "acted":
            die()
        return "second done"

    return [first, second]


class DiesBeforeLangGraphKnows(AgentMiddleware[Any, Any, Any]):
    """Outside of ours: when the first call's answer comes back, it is in the ledger and nowhere else."""

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        answer = handler(request)
        return self._or_die(request, answer)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return self._or_die(request, await handler(request))

    def _or_die(self, request: Any, answer: Any) -> Any:
        if request.tool_call["name"] == "first":
            die()
        return answer


class TwoCalls(BaseChatModel):
    """Asks for both tools in one message, always by the same ids, and ends when both have answered."""

    @property
    def _llm_type(self) -> str:
        return "two calls"

    def bind_tools(self, tools: Any, **kwargs: Any) -> TwoCalls:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        asked = [{"name": name, "args": {}, "id": f"call-{name}"} for name in ("first", "second")]
        answered = any(isinstance(message, ToolMessage) for message in messages)
        answer = AIMessage("all done") if answered else AIMessage("", tool_calls=asked)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def agent_of(case: Case, saver: Any) -> Any:
    router = ToolRouterMiddleware(
        StaticPlanner(static_plan("first", "second")),
        ledger=ledger_of(case),
        resources=machine(),
        lease_ms=LEASE_MS,
        replay=case.replay,
    )
    outside = [DiesBeforeLangGraphKnows()] if case.dies == "recorded" else []
    return create_agent(TwoCalls(), tools_of(case), middleware=[*outside, router], checkpointer=saver)


def graph_of(case: Case, saver: Any) -> Any:
    def now() -> SystemTimeline:
        return SystemTimeline.from_rows([(0, 3, 32, 0, 0)], tail="hold", epoch_ms=wall_clock_ms())

    executor = ToolExecutorNode(
        tools_of(case), ledger=ledger_of(case), timeline=now, lease_ms=LEASE_MS, replay=case.replay
    )
    graph = StateGraph(ToolRouterState, context_schema=RouterContext)
    router = ToolRouterNode(StaticPlanner(static_plan("first", "second", latency_ms=5)))
    return add_router_nodes(graph, router, executor).add_edge(START, "router").compile(checkpointer=saver)


def run_agent(case: Case) -> None:
    """Begins, or goes on where an earlier process was killed."""
    given = {"messages": [HumanMessage("act")]}
    write_outcome(case, asyncio.run(_arun(case, agent_of, given)) if case.asynchronous else _run(case, agent_of, given))


def run_graph(case: Case) -> None:
    """The same with nodes."""
    given = {"request": "act"}
    write_outcome(case, asyncio.run(_arun(case, graph_of, given)) if case.asynchronous else _run(case, graph_of, given))


def write_outcome(case: Case, state: dict[str, Any]) -> None:
    results = {step: result["output"] for step, result in (state.get("tool_results") or {}).items()}
    answers = {m.tool_call_id: m.text for m in state["messages"] if isinstance(m, ToolMessage)}
    outcome = {"results": results, "answers": answers, "last": state["messages"][-1].text}
    (Path(case.folder) / "outcome.json").write_text(json.dumps(outcome))


def _run(case: Case, make: Any, given: dict[str, Any]) -> dict[str, Any]:
    with _saver(case) as saver:
        made = make(case, saver)
        started = bool(made.get_state(case.config).next)
        return made.invoke(None if started else given, case.config, durability=case.durability, **_context(make, case))


async def _arun(case: Case, make: Any, given: dict[str, Any]) -> dict[str, Any]:
    async with _asaver(case) as saver:
        made = make(case, saver)
        started = bool((await made.aget_state(case.config)).next)
        options = {"durability": case.durability, **_context(make, case)}
        return await made.ainvoke(None if started else given, case.config, **options)


def _context(make: Any, case: Case) -> dict[str, Any]:
    named = make is graph_of and case.request_id is not None
    return {"context": RouterContext(request_id=case.request_id)} if named else {}


@contextmanager
def _saver(case: Case) -> Iterator[Any]:
    kind = SqliteSaver if case.saver == "sqlite" else PostgresSaver
    with kind.from_conn_string(_address(case)) as saver:
        saver.setup()
        yield saver


@asynccontextmanager
async def _asaver(case: Case) -> AsyncIterator[Any]:
    kind = AsyncSqliteSaver if case.saver == "sqlite" else AsyncPostgresSaver
    async with kind.from_conn_string(_address(case)) as saver:
        await saver.setup()
        yield saver


def _address(case: Case) -> str:
    return str(Path(case.folder) / "state.db") if case.saver == "sqlite" else case.saver
