"""Puts requests and clauses of one language into one text, as ``telling.Teller`` does for English."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tomas_router.datasets.pick import pick
from tomas_router.datasets.telling import Asked
from tomas_router.datasets.tongues.words import TongueWords
from tomas_router.datasets.wording import typo

ENDS = (".", "?", "!", "。", "？", "！", "…")
CHINESE_GAP = re.compile(r"(?<=[。？！，；：、]) +")
LIST_SHARE = 0.14
INLINE_SHARE = 0.55
POLITE_SHARE = 0.35
OPEN_SHARE = 0.14
TYPO_SHARE = 0.03
SMALL_LETTERS_SHARE = 0.08


class TongueTeller:
    """Draws ways to say several things at once in one language."""

    def __init__(self, words: TongueWords, rng: np.random.Generator) -> None:
        self.words, self.rng = words, rng

    def sentence(self, text: str) -> str:
        """Begins with a capital and ends with punctuation, so that another sentence can follow."""
        text = text[:1].upper() + text[1:]
        return text if text.endswith(ENDS) else text + ("。" if self.words.language == "zh" else ".")

    def chain(self, asked: Asked, clauses: Sequence[str]) -> str:
        """A request and clauses that each work on what came before."""
        style = self.rng.random()
        if style < LIST_SHARE:
            return self._numbered("list", [asked.text, *map(self.sentence, clauses)])
        ends = [i == len(clauses) - 1 and (i > 0 or self.rng.random() < 0.3) for i in range(len(clauses))]
        if asked.order and style < INLINE_SHARE:
            parts = [self._draw("end" if end else "inline", b=c) for c, end in zip(clauses, ends, strict=True)]
            return self.polite(Asked(self.sentence(asked.order + "".join(parts)), asked.order + "".join(parts)))
        last = [end and len(clauses) > 1 for end in ends]
        return " ".join(
            [asked.text, *(self._say(c, "last" if end else "then") for c, end in zip(clauses, last, strict=True))]
        )

    def parallel(self, asked: Sequence[Asked]) -> str:
        """Two to four requests that have nothing to do with each other."""
        style = self.rng.random()
        if style < LIST_SHARE:
            return self._numbered("several", [one.text for one in asked])
        orders = [one.order for one in asked if one.order]
        if len(asked) == len(orders) and style < INLINE_SHARE:
            text = orders[0] + "".join(self._draw("beside", b=order) for order in orders[1:])
            return self.polite(Asked(self.sentence(text), text))
        return " ".join([self.polite(asked[0]), *(self.also(one) for one in asked[1:])])

    def branches(self, asked: str, _noun: str, clauses: Sequence[str]) -> str:
        """A request and two or three clauses about its result; a noun for it is English, and not used."""
        told = self._draw(f"fan{len(clauses)}", **dict(zip("bcd", clauses, strict=False)))
        return f"{asked} {self.sentence(told)}"

    def polite(self, asked: Asked) -> str:
        """The request, some of the time as a polite question or wish."""
        if asked.order and self.rng.random() < POLITE_SHARE:
            return self.sentence(self._draw("polite", a=asked.order))
        return asked.text

    def then(self, clause: str) -> str:
        """A sentence that goes on from what came before."""
        return self._say(clause, "then")

    def also(self, asked: Asked) -> str:
        """A sentence that asks for something unrelated."""
        return self._draw("also", b=asked.text)

    def chat(self, held_out: bool) -> str:
        """A request that needs no tool."""
        return self._draw("chat_new" if held_out else "chat")

    def dress(self, text: str) -> str:
        """Greetings, thanks, now and then a typo or all small letters; no gaps behind Chinese punctuation."""
        if self.rng.random() < OPEN_SHARE:
            text = f"{self._draw('open')} {text}"
        if self.rng.random() < OPEN_SHARE:
            text = f"{text} {self._draw('close')}"
        if self.words.language == "zh":
            return CHINESE_GAP.sub("", text)
        if self.rng.random() < TYPO_SHARE:
            text = typo(text, self.rng)
        return text.lower() if self.rng.random() < SMALL_LETTERS_SHARE else text

    def _say(self, clause: str, key: str) -> str:
        return self.sentence(self._draw(key, b=clause))

    def _numbered(self, intro: str, items: Sequence[str]) -> str:
        form = pick(self.rng, ("{i}. {t}", "{i}) {t}", "({i}) {t}"))
        listed = [form.format(i=i, t=text) for i, text in enumerate(items, start=1)]
        return " ".join([self._draw(intro), *listed])

    def _draw(self, key: str, **parts: str) -> str:
        text = pick(self.rng, self.words[key])
        return re.sub(r"\{([abcd])\}", lambda match: parts[match.group(1)], text)
