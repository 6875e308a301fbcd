"""Agents for tests: a chat model that says what it is told and notes what it was shown, and heavy tools."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage

from tomas_router import SystemTimeline
from tomas_router.langgraph import ToolRouterMiddleware

NUMBERS = itertools.count()


class Model(GenericFakeChatModel):
    shown: list

    def bind_tools(self, tools: Any, **kwargs: Any) -> Model:
        self.shown.append([t["name"] if isinstance(t, dict) else t.name for t in tools])
        return self


def calls(*wanted: tuple[str, dict[str, Any]]) -> AIMessage:
    made = [{"name": name, "args": args, "id": f"call{next(NUMBERS)}"} for name, args in wanted]
    return AIMessage("", tool_calls=made)


def agent(
    says: Iterable[AIMessage], tools: list[Any], *middleware: ToolRouterMiddleware, **options: Any
) -> tuple[Any, Model]:
    model = Model(messages=iter([*says, *(AIMessage("done") for _ in range(20))]), shown=[])
    return create_agent(model, tools, middleware=list(middleware), **options), model


def ask(text: str = "go") -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def machine(cores: float = 3.0) -> SystemTimeline:
    return SystemTimeline.from_rows([(0, cores, 32, 0, 0)], tail="hold")


def tool_answers(state: dict[str, Any]) -> list[Any]:
    return [m for m in state["messages"] if m.type == "tool"]
