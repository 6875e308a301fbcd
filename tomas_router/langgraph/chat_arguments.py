"""Arguments of planned steps, written by a chat model: one call a step, with that step's tool bound."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage

from tomas_router.langgraph.state import read_request
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.tool_objects import tool_name

INSTRUCTION = """Call the tool {tool} with its arguments, and nothing else. Take them from the request. Leave out what
the request does not say; never invent a value. Where an argument is what an earlier step returns, write
{{"$from": "STEP"}} or {{"$from": "STEP", "path": "$.field"}} as its value. Earlier steps: {earlier}."""


class ChatModelArguments:
    """``fill_args=ChatModelArguments(model, tools)``: the model writes, the router checks."""

    def __init__(self, model: Any, tools: Sequence[Any]) -> None:
        """Takes a chat model that can call tools, and the tools that plans may name."""
        self._model = model
        self._tools = {tool_name(tool): tool for tool in tools}

    def __call__(self, step: PlanStep, plan: ToolPlan, state: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of one step; none when the model calls nothing or the tool is not known here."""
        if step.tool_name not in self._tools:
            return {}
        earlier = [{"step": s.id, "tool": s.tool_name} for s in plan.steps if s.id in step.depends_on]
        instruction = INSTRUCTION.format(tool=step.tool_name, earlier=json.dumps(earlier) if earlier else "none")
        asked = read_request(state)
        request = asked if isinstance(asked, str) else (asked or {}).get("instruction", "")
        bound = self._model.bind_tools([self._tools[step.tool_name]], tool_choice=step.tool_name)
        answer = bound.invoke([SystemMessage(instruction), HumanMessage(str(request))])
        calls = [call for call in answer.tool_calls if call["name"] == step.tool_name]
        return dict(calls[0]["args"]) if calls else {}
