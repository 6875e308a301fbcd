from __future__ import annotations

import pytest

pytest.importorskip("langchain_core")

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from tomas_router.langgraph import ChatModelArguments, static_plan


@tool
def load(path: str) -> str:
    """Reads a file."""
    return path


class Model(GenericFakeChatModel):
    bound: list

    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        self.bound.append((tools[0].name, tool_choice))
        return self


def answer(**args):
    return AIMessage("", tool_calls=[{"name": "load", "args": args, "id": "1"}])


def test_arguments_when_the_model_calls_the_tool_are_its_arguments():
    model = Model(messages=iter([answer(path="a.txt")]), bound=[])
    plan = static_plan("load")
    assert ChatModelArguments(model, [load])(plan.steps[0], plan, {"request": "read a.txt"}) == {"path": "a.txt"}
    assert model.bound == [("load", "load")]


def test_arguments_when_the_model_says_something_else_are_none():
    model = Model(messages=iter([AIMessage("I would rather not")]), bound=[])
    plan = static_plan("load")
    assert ChatModelArguments(model, [load])(plan.steps[0], plan, {"request": "x"}) == {}


def test_arguments_when_the_tool_is_unknown_are_none_and_nobody_is_asked():
    plan = static_plan("other")
    model = Model(messages=iter([]), bound=[])
    assert ChatModelArguments(model, [load])(plan.steps[0], plan, {"request": "x"}) == {}
    assert model.bound == []
