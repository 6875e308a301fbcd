"""Words of a text for lexical baselines."""

from __future__ import annotations

import re

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")


def words(text: str) -> list[str]:
    """Lower-case words; ``camelCase`` and ``snake_case`` come apart, each Chinese or Japanese sign is a word."""
    return _WORD.findall(_CAMEL.sub(" ", text).lower())
