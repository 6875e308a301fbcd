"""Hand-written phrasings of every tool; ``bank`` describes the format."""

from __future__ import annotations

from tomas_router.datasets.phrasings.bank import Phrases, ToolPhrases, load_bank, load_phrases

__all__ = ["Phrases", "ToolPhrases", "load_bank", "load_phrases"]
