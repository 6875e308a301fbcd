"""An agent that existed before, and the one line that gives it Tomas Router.

``python -m graphs.existing_agent "Count the words of the report"`` runs without a key: the chat model is a fake that
calls the one tool it is shown first. Put a model of yours in its place.
"""

from __future__ import annotations

import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from tomas_router import Planner
from tomas_router.langgraph import ToolRouterMiddleware, profiled
from tomas_router.planner.static import AnyPlanner

ROW = {"input_size": "medium", "cpu_core": 1, "cpu_mem_gb": 0.2, "gpu_sm": 0, "gpu_mem_gb": 0, "latency_ms": 40}


@tool
def send_email(text: str) -> str:
    """Sends an e-mail to a colleague."""
    return f"sent: {text}"


@profiled([ROW])
@tool
def count_words(text: str) -> str:
    """Counts the words of a text or report."""
    return f"{len(text.split())} words"


@tool
def book_meeting_room(text: str) -> str:
    """Reserves a room for a meeting."""
    return f"booked: {text}"


TOOLS = [send_email, count_words, book_meeting_room]


class FirstToolModel(BaseChatModel):
    """Calls the first tool that it is shown with what was asked, then reads out the answer."""

    shown: tuple[str, ...] = ()

    @property
    def _llm_type(self) -> str:
        return "first-tool"

    def bind_tools(self, tools: Any, **kwargs: Any) -> FirstToolModel:  # noqa: ARG002 - LangChain's signature
        return self.model_copy(update={"shown": tuple(tool.name for tool in tools)})

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:  # noqa: ARG002
        last = messages[-1]
        if last.type == "tool" or not self.shown:
            message = AIMessage(f"I was shown {', '.join(self.shown) or 'no tools'}. {last.text}")
        else:
            call = {"name": self.shown[0], "args": {"text": last.text}, "id": f"call_{len(messages)}"}
            message = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


def make_agent(model: BaseChatModel | None = None, planner: AnyPlanner | None = None) -> Any:
    """The agent; by default with the fake model and the packaged planner."""
    router = ToolRouterMiddleware(planner or Planner.load(), narrow="per_turn", max_tools=1)  # the one line
    return create_agent(model or FirstToolModel(), TOOLS, middleware=[router])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python -m graphs.existing_agent "REQUEST"')
    final = make_agent().invoke({"messages": [("user", sys.argv[1])]})
    print(final["messages"][-1].text)
