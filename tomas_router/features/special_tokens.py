"""Special tokens of the decision grammar.

Their ids lie behind the tokenizer's vocabulary and their embeddings are parameters of the router, so no text a user
types can produce them: the tokenizer has no entry for these strings and splits them into ordinary pieces.
"""

from __future__ import annotations

TOOL_PLAN = "<TOOL_PLAN>"
TOOL_ID = "<TOOL_ID>"
RESOURCE_CFG = "<RESOURCE_CFG>"
END_PLAN = "</TOOL_PLAN>"

EXPLANATION_CUE = "\nExplanation:"
"""Ordinary text put behind the task when an explanation is wanted."""

SPECIAL_TOKENS = (TOOL_PLAN, TOOL_ID, RESOURCE_CFG, END_PLAN)


def first_tool_id(vocab_size: int) -> int:
    """Tools take a contiguous id range that begins here."""
    return vocab_size + len(SPECIAL_TOKENS)
