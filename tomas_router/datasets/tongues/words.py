"""Connecting words of one language, read from ``LANGUAGE.txt``: a keyword and a wording a line.

============  =========================================================================
keyword       meaning; ``{a} {b} {c} {d}`` are commands or clauses without full stop
============  =========================================================================
``then``      a sentence that goes on from what came before: ``{b}``
``last``      a sentence that ends the request: ``{b}``
``inline``    goes on within the sentence: ``{b}``
``end``       goes on within the sentence for the last time: ``{b}``
``list``      announces numbered steps that follow each other
``several``   announces numbered jobs that have nothing to do with each other
``also``      asks for something unrelated; ``{b}`` is a whole sentence
``beside``    joins an unrelated command within the sentence: ``{b}``
``fan2``      two clauses about one result: ``{b} {c}``
``fan3``      three clauses about one result: ``{b} {c} {d}``
``polite``    makes a command polite: ``{a}``
``open``      stands before a request
``close``     stands behind a request
``chat``      a request that needs no tool; training
``chat_new``  a request that needs no tool; held out
``#``         a comment
============  =========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tomas_router.schema.findings import FindingLog
from tomas_router.schema.text_file import read_lines

LANGUAGES = ("de", "es", "zh", "fr")
SLOTS = {
    "then": "b", "last": "b", "inline": "b", "end": "b", "list": "", "several": "", "also": "b", "beside": "b",
    "fan2": "bc", "fan3": "bcd", "polite": "a", "open": "", "close": "", "chat": "", "chat_new": "",
}  # fmt: skip


@dataclass(frozen=True)
class TongueWords:
    """Wordings of one language by keyword."""

    language: str
    wordings: dict[str, tuple[str, ...]]

    def __getitem__(self, key: str) -> tuple[str, ...]:
        return self.wordings[key]


@cache
def load_words(language: str, folder: Path = Path(__file__).parent) -> TongueWords:
    """The words of a language.

    Raises:
        DataValidationError: Lists every line that is wrong and every keyword without a line.
        ValueError: There is no such language.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    log = FindingLog.of(folder / f"{language}.txt")
    found: dict[str, list[str]] = {key: [] for key in SLOTS}
    for number, line in read_lines(folder / f"{language}.txt", log):
        key, _, text = line.strip().partition(" ")
        if key.startswith("#"):
            continue
        if key not in SLOTS:
            log.error(f"must be one of {', '.join(SLOTS)}", line=number, value=key)
        elif any(text.count(f"{{{slot}}}") != (slot in SLOTS[key]) for slot in "abcd"):
            wanted = " ".join(f"{{{slot}}}" for slot in SLOTS[key]) or "no slot"
            log.error(f"must hold {wanted} once and no other", line=number, field=key, value=text)
        else:
            found[key].append(text)
    for key, texts in found.items():
        if not texts:
            log.error("must have at least one line", field=key)
    log.finish()
    return TongueWords(language, {key: tuple(texts) for key, texts in found.items()})
