"""Small changes of wording: sentence ends, politeness, nouns for "it", greetings, typos."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np

from tomas_router.datasets import connectives as words

IT = re.compile(r"\bit\b")
TYPO_SHARE = 0.04
PURPOSE_SHARE = 0.16
"""Of training requests."""
CLAUSES = ("So ", "Because ", "In order ", "To ", "For ")
"""A purpose that begins so can go on a sentence."""


def sentence(text: str) -> str:
    """Begins with a capital and ends with punctuation, so that another sentence can follow."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."


def command(text: str) -> str | None:
    """The request as a clause without full stop, or None when it is no single command."""
    body = text.removesuffix(".")
    first = re.match(r"[\w-]+", body)
    if not first or first.group().lower() not in imperatives() or re.search(r"[.?!:;] |\?$|!$|[:;]", body):
        return None
    return body[0].lower() + body[1:] if not body.startswith("OCR") else body


@cache
def imperatives() -> frozenset[str]:
    """First words of requests that are commands, so that they can be joined and made polite."""
    return frozenset((Path(__file__).parent / "imperatives.txt").read_text(encoding="utf-8").split())


@cache
def result_nouns() -> dict[str, tuple[str, ...]]:
    """What the result of a unit is called."""
    lines = (Path(__file__).parent / "result_nouns.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {unit: tuple(n.strip() for n in nouns.split(";")) for unit, _, nouns in pairs}


def name_result(clause: str, noun: str) -> str:
    """Says what "it" is, where the clause speaks of it."""
    return IT.sub(noun, clause, count=1)


def dress(text: str, rng: np.random.Generator, held_out: bool, purpose_share: float = 0.0) -> str:
    """Greetings, context that does not matter, and now and then a typo or all small letters.

    ``purpose_share`` of the requests say what the result is for, which sounds like work and is none.
    """
    if purpose_share and rng.random() < purpose_share:
        text = with_purpose(text, words.PURPOSE.draw(rng, False), bool(rng.random() < 0.5))
    if rng.random() < 0.16:
        text = f"{words.CONTEXT.draw(rng, held_out)} {text}"
    if rng.random() < 0.12:
        opener = f"{words.OPENERS.draw(rng, held_out)} "
        text = opener + (text[0].lower() + text[1:] if opener.endswith(", ") and not text.startswith("I") else text)
    if rng.random() < 0.12:
        text += f" {words.CLOSERS.draw(rng, held_out)}"
    if rng.random() < TYPO_SHARE:
        text = typo(text, rng)
    return text[0].upper() + text[1:] if rng.random() < 0.93 else text.lower()


def with_purpose(text: str, purpose: str, joined: bool) -> str:
    """The request and what it is for, in one sentence where that is possible and ``joined`` asks for it."""
    if joined and text.endswith(".") and purpose.startswith(CLAUSES):
        return f"{text[:-1]} {purpose[0].lower()}{purpose[1:]}"
    return f"{text} {purpose}"


def typo(text: str, rng: np.random.Generator) -> str:
    """Swaps, drops or doubles one letter inside a word."""
    places = [
        i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i - 1].isalpha() and text[i + 1].isalpha()
    ]
    if not places:
        return text
    i = int(rng.choice(places))
    swapped = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    dropped, doubled = text[:i] + text[i + 1 :], text[: i + 1] + text[i:]
    return str(rng.choice([swapped, dropped, doubled]))
