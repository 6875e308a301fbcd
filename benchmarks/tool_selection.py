"""Which tools is a chat model shown? Tomas Router beside retrieval, a selecting model, and all tools, in real agents.

    python -m benchmarks.tool_selection
    python -m benchmarks.tool_selection --rows 100

``langgraph-bigtool`` searches its store with its own retrieval tool and MiniLM, for the request as it is; the model
that would write the search query is left out, and so are its time and tokens.

Every strategy is middleware of LangChain's ``create_agent``; the chat model is a fake that notes the tools it is shown.
Requests are test rows: over the shipped registry, whose tools training knows, and over two worlds that it never saw.
Right means that every tool of the row's plan is shown, or another one that does the same job. Tokens are those of the
shown tools' schemas, counted with the packaged tokenizer. ``LLMToolSelectorMiddleware`` runs with a fake that selects
without a mistake, so its row is what a perfect selecting model would cost in tokens; its time is that of a chat model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from langchain.agents import create_agent
from langchain.agents.middleware import LLMToolSelectorMiddleware, wrap_model_call
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.store.memory import InMemoryStore
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer

from tomas_router import Planner, shipped
from tomas_router.evaluation.minilm import installed_minilm
from tomas_router.evaluation.sources import EvalSource, load_source
from tomas_router.features.tool_text import tool_text
from tomas_router.langgraph import ToolRouterMiddleware

FOLDER = Path("data/instructions")
TOP, MANY = 5, 15
Encode = Callable[[Sequence[str]], list[list[float]]]


@dataclass
class Watched:
    """What one strategy did."""

    shown: list[list[str]] = field(default_factory=list)
    selecting_tokens: list[int] = field(default_factory=list)
    decision_ms: list[float] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    """For the selector that makes no mistakes."""


class Model(GenericFakeChatModel):
    """Notes what it is shown and answers without a call."""

    watched: Any

    def bind_tools(self, tools: Any, **kwargs: Any) -> Model:  # noqa: ARG002
        self.watched.shown.append([tool.name for tool in tools])
        return self


class Selector(GenericFakeChatModel):
    """Selects what it is told, and counts what it would have had to read."""

    watched: Any
    count: Callable[[Any], int]

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        read = schema if isinstance(schema, dict) else schema.model_json_schema()

        def select(messages: Any) -> dict[str, Any]:
            text = " ".join(str(getattr(m, "content", m)) for m in messages)
            self.watched.selecting_tokens.append(self.count(read) + self.count(text))
            return {"tools": self.watched.right}

        return RunnableLambda(select)


class Timed:
    """A planner whose decisions are timed."""

    def __init__(self, planner: Planner, watched: Watched) -> None:
        self._planner, self._watched = planner, watched

    def plan(self, *args: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        plan = self._planner.plan(*args, **options)
        self._watched.decision_ms.append((time.perf_counter() - begun) * 1000)
        return plan


class Setting:
    """One source with its tools as LangChain has them."""

    def __init__(self, source: EvalSource) -> None:
        self.source = source
        self.tools = [
            StructuredTool(
                name=tool.name,
                description=tool.desc,
                args_schema=tool.parameters or {"type": "object", "properties": {}},
                func=lambda **_: "",
            )
            for tool in source.registry
        ]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(shipped.model_dir() / "tokenizer.json"))

    def count(self, text: Any) -> int:
        return len(self.tokenizer.encode(text if isinstance(text, str) else json.dumps(text)).ids)

    @cached_property
    def tokens(self) -> dict[str, int]:
        return {tool.name: self.count(convert_to_openai_tool(tool)) for tool in self.tools}

    def is_right(self, shown: Sequence[str], row: Any) -> bool:
        registry = self.source.registry
        jobs = {registry[name].group or name for name in shown}
        return all((registry[step.tool].group or step.tool) in jobs for step in row.steps)


def retrieval(name: str, setting: Setting, watched: Watched, top: int = TOP) -> Any:
    """The nearest tools of a request by BM25 or by MiniLM."""
    texts = [tool_text(tool.name, tool.desc) for tool in setting.source.registry]
    scores = _minilm_scores(texts) if name == "MiniLM" else _bm25_scores(texts)

    @wrap_model_call
    def narrow(request: Any, handler: Callable[[Any], Any]) -> Any:
        begun = time.perf_counter()
        best = np.argsort(-scores(request.messages[-1].text))[:top]
        watched.decision_ms.append((time.perf_counter() - begun) * 1000)
        return handler(request.override(tools=[request.tools[i] for i in sorted(best)]))

    return narrow


def bigtool(setting: Setting, watched: Watched, encode: Encode, top: int) -> Any:
    """The tools that langgraph-bigtool's own retrieval finds in a store of LangGraph's."""
    from langgraph_bigtool.tools import get_default_retrieval_tool

    dims = len(encode(["dimensions"])[0])
    store = InMemoryStore(index={"embed": encode, "dims": dims, "fields": ["description"]})
    for tool in setting.source.registry:
        store.put(("tools",), tool.name, {"description": f"{tool.name}: {tool.desc}"})
    retrieve, _ = get_default_retrieval_tool(("tools",), limit=top)

    @wrap_model_call
    def narrow(request: Any, handler: Callable[[Any], Any]) -> Any:
        begun = time.perf_counter()
        found = set(retrieve(request.messages[-1].text, store=store))
        watched.decision_ms.append((time.perf_counter() - begun) * 1000)
        return handler(request.override(tools=[tool for tool in request.tools if tool.name in found]))

    return narrow


def _bigtool_encoder() -> Encode:
    model = installed_minilm()
    assert model is not None, "asked for only where it is installed"
    return lambda texts: [row.tolist() for row in model.rows(list(texts))]


def _minilm_scores(texts: list[str]) -> Callable[[str], Any]:
    model = installed_minilm()
    assert model is not None, "asked for only where it is installed"
    tools_ND = model.rows(texts)
    return lambda text: tools_ND @ model.rows([text])[0]


def _bm25_scores(texts: list[str]) -> Callable[[str], Any]:
    from tomas_router.evaluation.bm25 import Bm25

    ranking = Bm25(texts)
    return lambda text: ranking.scores([text])[0]


def selecting(setting: Setting, watched: Watched) -> Any:
    """LangChain's own, with a selector that makes no mistakes."""
    return LLMToolSelectorMiddleware(model=Selector(messages=iter(()), watched=watched, count=setting.count))


def strategies(setting: Setting, planner: Planner) -> dict[str, Callable[[Watched], list[Any]]]:
    def ours(watched: Watched, max_tools: int | None) -> list[Any]:
        timed, source = Timed(planner, watched), setting.source
        options = {"profiling": source.profiling, "narrow": "per_turn", "max_tools": max_tools}
        return [ToolRouterMiddleware(timed, source.registry, **options)]  # type: ignore[arg-type]

    found: dict[str, Callable[[Watched], list[Any]]] = {
        "all tools": lambda _: [],
        f"BM25, {TOP} nearest": lambda watched: [retrieval("BM25", setting, watched)],
    }
    if installed_minilm() is not None:
        found[f"MiniLM, {TOP} nearest"] = lambda watched: [retrieval("MiniLM", setting, watched)]
        if find_spec("langgraph_bigtool") is not None:
            encode = _bigtool_encoder()
            found[f"langgraph-bigtool (MiniLM), {TOP} nearest"] = lambda watched: [
                bigtool(setting, watched, encode, TOP)
            ]
        found[f"MiniLM, {MANY} nearest"] = lambda watched: [retrieval("MiniLM", setting, watched, MANY)]
    found["LLMToolSelectorMiddleware, perfect"] = lambda watched: [selecting(setting, watched)]
    found["Tomas Router, the plan"] = lambda watched: ours(watched, 1)
    found["Tomas Router, plan and alternatives"] = lambda watched: ours(watched, None)
    return found


def measure(setting: Setting, make: Callable[[Watched], list[Any]], rows: Sequence[Any], name: str) -> Watched:
    watched = Watched()
    model = Model(messages=(AIMessage("done") for _ in rows), watched=watched)
    agent = create_agent(model, setting.tools, middleware=make(watched))
    for row in track(rows, description=name, transient=True):
        watched.right = list(dict.fromkeys(step.tool for step in row.steps))
        before = len(watched.shown)
        agent.invoke({"messages": [HumanMessage(row.instruction)]})
        if len(watched.shown) == before:  # no tool was left to show
            watched.shown.append([])
    return watched


def table(setting: Setting, rows: Sequence[Any], planner: Planner) -> Table:
    made = Table(title=f"{setting.source.name}: {len(rows)} requests, {len(setting.tools)} tools")
    for column in (
        "strategy",
        "right tools shown, %",
        "tools shown",
        "tokens of tools",
        "tokens to select",
        "decision, ms",
    ):
        made.add_column(column, justify="left" if column == "strategy" else "right")
    for name, make in strategies(setting, planner).items():
        watched = measure(setting, make, rows, name)
        right = statistics.mean(setting.is_right(shown, row) for shown, row in zip(watched.shown, rows, strict=True))
        tokens = statistics.mean(sum(setting.tokens[n] for n in shown) for shown in watched.shown)
        made.add_row(
            name,
            f"{100 * right:.1f}",
            f"{statistics.mean(map(len, watched.shown)):.1f}",
            f"{tokens:.0f}",
            f"{statistics.mean(watched.selecting_tokens):.0f}" if watched.selecting_tokens else "0",
            f"{statistics.median(watched.decision_ms):.1f}" if watched.decision_ms else "-",
        )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300, help="requests of each source")
    args = parser.parse_args(argv)
    console, planner = Console(width=max(110, Console().width)), Planner.load()
    for file in ("test", "worlds_test"):
        source = load_source(FOLDER / f"{file}.jsonl", "test")
        rows = [row for row in source.rows if row.steps][: args.rows]
        setting = Setting(source)
        console.print(table(setting, rows, planner))
    return 0


if __name__ == "__main__":
    sys.exit(main())
