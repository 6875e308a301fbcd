"""The one way a tool's text is written for the network."""

from __future__ import annotations


def tool_text(name: str, desc: str) -> str:
    """Returns the text that both training and inference encode for a tool.

    Either part may be empty (training drops one at random, so that a tool is recognised by the other).
    """
    return f"Tool: {name}\nDescription: {desc}"
