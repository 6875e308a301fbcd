"""Hand-written phrasings of every tool; ``bank`` describes the format."""

from __future__ import annotations

from tomas_router.datasets.phrasings.bank import ToolPhrases, load_bank

__all__ = ["ToolPhrases", "load_bank"]
