"""Words of a text, as lexical methods count them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_STOP_WORDS = """
a all also an and any are as at be but by can could did do does for from get give has have he her his how i if in into
is it its just let make me my need not of on or our out please she so that the their them then there these they this
to up us use want was we what when where which who will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing about what a tool does."""
_SUFFIXES = ("ings", "ing", "ers", "er", "ies", "es", "ed", "s", "e")
_SHORTEST_STEM = 3


def stem(word: str) -> str:
    """The word without a common English ending: ``printing``, ``printed`` and ``prints`` become ``print``."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word[: -len(suffix)]
    return word


def content_stems(text: str) -> list[str]:
    """Stems of the words that are no stop words, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def words(text: str) -> list[str]:
    """Lower-case words; ``camelCase`` and ``snake_case`` come apart, each Chinese or Japanese sign is a word."""
    return _WORD.findall(_CAMEL.sub(" ", text).lower())


def unit_length(weights: Mapping[str, float]) -> dict[str, float]:
    """Word weights as a vector of length 1, so that products of two are cosines; all zero stays so."""
    length = float(np.sqrt(sum(weight * weight for weight in weights.values()))) or 1.0
    return {word: weight / length for word, weight in weights.items()}
