"""Calls one tool with finished arguments, whatever kind it is: function, LangChain tool, or an MCP server's."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from langchain_core.tools import BaseTool, ToolException

STRUCTURED = "structured_content"


def call_tool(tool: Any, args: dict[str, Any]) -> Any:
    """What the tool returns. Must not be called on an event loop.

    A tool that exists only as a coroutine runs on a loop of its own. Of a tool that returns content for a model and
    an artifact beside it, the answer is the artifact's structured content where there is one (MCP servers send it),
    because later steps refer to its fields.

    Raises:
        ToolException: the tool reports an error as its content, as MCP servers do.
    """
    if not isinstance(tool, BaseTool):
        return tool(**args)
    if getattr(tool, "response_format", "content") != "content_and_artifact":
        return _invoked(tool, args)
    call = {"name": tool.name, "args": args, "id": f"call_{uuid.uuid4().hex}", "type": "tool_call"}
    message = _invoked(tool, call)
    if message.status == "error":
        raise ToolException(message.text)
    artifact = message.artifact
    structured = artifact.get(STRUCTURED) if isinstance(artifact, dict) else None
    return message.content if structured is None else structured


def _invoked(tool: BaseTool, given: Any) -> Any:
    only_a_coroutine = getattr(tool, "coroutine", None) is not None and getattr(tool, "func", None) is None
    return asyncio.run(tool.ainvoke(given)) if only_a_coroutine else tool.invoke(given)
