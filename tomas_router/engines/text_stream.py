"""Token by token to readable pieces of text."""

from __future__ import annotations

from collections.abc import Iterator

from tomas_router.features.tokenizer import TextTokenizer

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that are no character yet."""


class TextStream:
    """Holds back what is not a whole character yet: one Chinese character can take three tokens."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self.text = ""
        """Everything given out so far."""
        self.ended = False
        """A token without text came: the model ends its turn."""

    def push(self, token: int) -> Iterator[str]:
        """The text that this token completes."""
        self.ended = not self._tokenizer.decode([token])
        self._ids.append(token)
        if not self._decoded().endswith(UNFINISHED):
            yield from self._give()

    def rest(self) -> Iterator[str]:
        """What was still held back."""
        yield from self._give()

    def _give(self) -> Iterator[str]:
        piece = self._decoded()[len(self.text) :]
        if piece:
            self.text += piece
            yield piece

    def _decoded(self) -> str:
        return self._tokenizer.decode(self._ids).lstrip()
