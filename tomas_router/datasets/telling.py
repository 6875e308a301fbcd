"""Puts requests and clauses into one text: as a chain, side by side, or from one result in several directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tomas_router.datasets import connectives as words
from tomas_router.datasets.connectives import Wordings
from tomas_router.datasets.pick import pick
from tomas_router.datasets.wording import sentence

BARE_LIST_SHARE = 0.45
POLITE_SHARE = 0.3
COUNTS = {2: "Two", 3: "Three", 4: "Four"}


@dataclass(frozen=True)
class Asked:
    """A stand-alone request; ``order`` is the same as a clause without full stop where it is a plain command."""

    text: str
    order: str | None = None


class Teller:
    """Draws ways to say several things at once, in training wording or in held-out wording."""

    def __init__(self, rng: np.random.Generator, held: Callable[[], bool]) -> None:
        self.rng, self._held = rng, held

    def sentence(self, text: str) -> str:
        """Begins with a capital and ends with punctuation."""
        return sentence(text)

    def chain(self, asked: Asked, clauses: Sequence[str]) -> str:
        """A request and clauses that each work on what came before."""
        style = self.rng.random()
        if len(clauses) == 1 and style < 0.16:
            return self._draw(words.GOAL_FIRST).format(a=asked.text, b=clauses[0])
        if len(clauses) == 2 and style < 0.1:
            return f"{asked.text} {self._draw(words.BEFORE_LAST).format(b=clauses[0], c=clauses[1])}"
        if len(clauses) >= 2 and style < 0.22:
            items = [asked.text, *(sentence(c) for c in clauses)]
            return f"{self._draw(words.LIST_INTRO)} {self._numbered(items)}"
        if asked.order and style < 0.6:
            return self._inline(asked.order, list(clauses))
        told = [asked.text]
        for index, clause in enumerate(clauses):
            last = index == len(clauses) - 1 and index > 0 and self.rng.random() < 0.5
            told.append(self.last(clause) if last else self.then(clause))
        return " ".join(told)

    def parallel(self, asked: Sequence[Asked]) -> str:
        """Two to four requests that have nothing to do with each other."""
        style = self.rng.random()
        if style < 0.15:
            intro = self._draw(words.PARALLEL_INTRO).format(count=COUNTS[len(asked)])
            return f"{intro[0].upper()}{intro[1:]} {self._numbered([one.text for one in asked])}"
        orders = [one.order for one in asked if one.order]
        if len(asked) == len(orders) == 2 and style < 0.4:
            return sentence(f"{orders[0]}, and independently of that {orders[1]}")
        if len(asked) == len(orders) and style < 0.55:
            return sentence(self._bare_list(orders))
        return " ".join([self.polite(asked[0]), *(self.also(one) for one in asked[1:])])

    def branches(self, asked: str, noun: str, clauses: Sequence[str]) -> str:
        """A request and two or three clauses that all work on its result, which is called ``noun``."""
        names = dict(zip("bcd", (clause.replace("the result", "it") for clause in clauses), strict=False))
        told = self._draw(words.FAN_OUT if len(clauses) == 2 else words.FAN_OUT_3)
        return f"{asked} {told.format(n=noun, n_cap=noun[0].upper() + noun[1:], **names)}"

    def polite(self, asked: Asked) -> str:
        """The request, some of the time as a polite question or wish."""
        if asked.order and self.rng.random() < POLITE_SHARE:
            return self._draw(words.POLITE).format(a=asked.order)
        return asked.text

    def then(self, clause: str) -> str:
        """A sentence that goes on from what came before."""
        return self._draw(words.THEN).format(b=clause)

    def last(self, clause: str) -> str:
        """A sentence that ends the request."""
        return self._draw(words.LAST).format(b=clause)

    def also(self, asked: Asked) -> str:
        """A sentence that asks for something unrelated."""
        wording = self._draw(words.ALSO)
        if ": {b}" in wording and asked.order and self.rng.random() < 0.5:
            text = sentence(asked.order)
            return wording.format(b=text[0].lower() + text[1:])
        return wording.format(b=asked.text)

    def again(self, other: str) -> str:
        """A sentence that asks for the same on another input."""
        return self._draw(words.AGAIN).format(x=other, x_cap=other[0].upper() + other[1:])

    def _inline(self, order: str, clauses: list[str]) -> str:
        text = order
        if self.rng.random() < BARE_LIST_SHARE:
            text, clauses = self._bare_list([order, *clauses]), []
        for index, clause in enumerate(clauses):
            last = index == len(clauses) - 1 and index > 0 and self.rng.random() < 0.6
            text += self._draw(words.INLINE_LAST if last else words.INLINE_THEN).format(b=clause)
        return self._draw(words.POLITE).format(a=text) if self.rng.random() < 0.45 else sentence(text)

    def _bare_list(self, items: Sequence[str]) -> str:
        """Orders with nothing between them but commas and an "and"."""
        comma = "," if self.rng.random() < (0.2 if len(items) == 2 else 0.5) else ""
        return f"{', '.join(items[:-1])}{comma} and {items[-1]}"

    def _numbered(self, items: Sequence[str]) -> str:
        form = pick(self.rng, ("{i}. {t}", "{i}) {t}", "({i}) {t}"))
        return " ".join(form.format(i=i, t=text) for i, text in enumerate(items, start=1))

    def _draw(self, wordings: Wordings) -> str:
        return wordings.draw(self.rng, self._held())
